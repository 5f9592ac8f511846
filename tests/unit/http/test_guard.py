"""Which Host and Origin headers are answered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from anyform.http.config import HttpConfig
from anyform.http.guard import Guard, host_of, is_loopback


def status(config: HttpConfig, kind: str = "http", **headers: str) -> int:
    sent: list[dict[str, Any]] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    asyncio.run(Guard(inner, config)({"type": kind, "headers": raw}, receive, send))
    assert sent[0]["type"] in ("http.response.start", "websocket.http.response.start")
    return int(sent[0]["status"])


LOCAL = HttpConfig()
NAMED = HttpConfig(allowed_hosts=("gpu.lan",))
PUBLIC = HttpConfig(host="0.0.0.0")
STRICT = HttpConfig(host="0.0.0.0", allowed_hosts=("gpu.lan",))
CORS = HttpConfig(cors_origins=("https://chat.example",))
ANY = HttpConfig(allowed_hosts=("*",))


@pytest.mark.parametrize(
    ("config", "host", "expected"),
    [
        (LOCAL, "127.0.0.1:11540", 200),
        (LOCAL, "localhost:11540", 200),
        (LOCAL, "LOCALHOST", 200),
        (LOCAL, "[::1]:11540", 200),
        (LOCAL, "127.8.9.1", 200),
        (LOCAL, "evil.example:11540", 403),
        (LOCAL, "127.0.0.1.evil.example", 403),
        (LOCAL, "localhost.evil.example", 403),
        (LOCAL, "192.168.0.7:11540", 403),
        (NAMED, "gpu.lan:11540", 200),
        (NAMED, "GPU.LAN", 200),
        (NAMED, "evil.example", 403),
        (PUBLIC, "anything.example", 200),
        (STRICT, "gpu.lan", 200),
        (STRICT, "127.0.0.1", 200),
        (STRICT, "evil.example", 403),
        (ANY, "evil.example", 200),
    ],
)
def test_hosts(config: HttpConfig, host: str, expected: int) -> None:
    assert status(config, host=host) == expected


@pytest.mark.parametrize(
    ("config", "origin", "expected"),
    [
        (LOCAL, "http://127.0.0.1:11540", 200),
        (LOCAL, "http://localhost:3000", 200),
        (LOCAL, "https://evil.example", 403),
        (LOCAL, "null", 403),
        (LOCAL, "http://[", 403),
        (LOCAL, "vscode-webview://abc", 200),
        (LOCAL, "tauri://localhost", 200),
        (NAMED, "https://gpu.lan", 200),
        (PUBLIC, "https://evil.example", 403),
        (CORS, "https://chat.example", 200),
        (CORS, "http://chat.example", 403),
        (CORS, "https://evil.example", 403),
        (ANY, "https://evil.example", 200),
    ],
)
def test_origins(config: HttpConfig, origin: str, expected: int) -> None:
    assert status(config, host="127.0.0.1:11540", origin=origin) == expected


def test_a_page_of_a_public_server_is_its_own_origin() -> None:
    assert status(PUBLIC, host="gpu.lan:11540", origin="http://gpu.lan:11540") == 200
    assert status(PUBLIC, host="gpu.lan:11540", origin="http://other.lan") == 403


def test_a_program_without_host_header_is_no_browser() -> None:
    assert status(LOCAL) == 200


@pytest.mark.parametrize(
    ("header", "name"), [("A:1", "a"), ("a", "a"), ("[::1]:80", "::1"), ("[::1]", "::1"), ("::1", "::1"), ("", "")]
)
def test_host_names(header: str, name: str) -> None:
    assert host_of(header) == name


@pytest.mark.parametrize(
    ("host", "expected"),
    [("::1", True), ("0.0.0.0", False), ("", False), ("x.localhost", True), ("10.0.0.1", False)],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("config", "origin", "expected"),
    [
        (LOCAL, "", 200),
        (LOCAL, "http://localhost:3000", 200),
        (LOCAL, "https://evil.example", 403),
        (LOCAL, "null", 403),
        (ANY, "", 200),
        (ANY, "http://gpu.lan", 200),
        (ANY, "https://evil.example", 403),
        (ANY, "null", 403),
        (CORS, "https://chat.example", 200),
        (CORS, "https://evil.example", 403),
        (HttpConfig(allowed_hosts=("*",), cors_origins=("https://chat.example",)), "https://chat.example", 200),
        (HttpConfig(allowed_hosts=("*",), cors_origins=("https://chat.example",)), "https://evil.example", 403),
        (HttpConfig(allowed_hosts=("*",), cors_origins=("*",)), "https://evil.example", 200),
    ],
)
def test_pages_that_open_a_socket(config: HttpConfig, origin: str, expected: int) -> None:
    """Browsers open one for any page, whatever CORS says."""
    host = "gpu.lan" if config.allowed_hosts else "127.0.0.1"
    headers = {"host": host, "origin": origin} if origin else {"host": host}
    assert status(config, "websocket", **headers) == expected
