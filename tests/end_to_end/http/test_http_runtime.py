"""The runtime's own resources, plugins' routes, and the server as a process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from pydantic import BaseModel

from anyform.contract.errors import Fault
from anyform.contract.hooks import hookimpl
from anyform.http.server import CannotListen, listen, serve
from anyform.kernel.news import News
from anyform.kernel.plugins import Plugins
from anyform.kernel.rule import Rule


def until(true: Callable[[], bool], seconds: float = 10) -> None:
    """Poll until *true*, or fail."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)


HELLO = [{"role": "user", "content": "one two three four"}]


def test_health_keeps_its_shape(http: httpx.Client) -> None:
    http.post("/runtime/load/parrot")
    health = http.get("/health").json()
    assert set(health) == {"status", "device", "device_info", "loaded_models"}
    assert health["status"] == "healthy"
    assert set(health["device_info"]) == {"type", "name", "memory_allocated", "memory_reserved"}
    assert health["device"] == health["device_info"]["type"]
    assert "parrot" in health["loaded_models"]


@pytest.mark.parametrize("path", ["/health", "/ready", "/v1/models", "/v1/models/parrot"])
def test_head(http: httpx.Client, path: str) -> None:
    answer = http.head(path)
    assert (answer.status_code, answer.content) == (200, b"")


def test_the_description_of_all_routes(http: httpx.Client) -> None:
    assert "/v1/chat/completions" in http.get("/openapi.json").json()["paths"]


def test_ready(http: httpx.Client) -> None:
    assert http.get("/ready").json()["status"] == "ready"


def test_load_status_unload(http: httpx.Client) -> None:
    loaded = http.post("/runtime/load/owner/bird:Q4?context=512").json()
    assert {"status": "ready", "model": "owner/bird:Q4", "format": "echo", "gpu_layers": 0}.items() <= loaded.items()
    assert {"port", "runtime", "pid", "context", "memory_bytes"} <= set(loaded)
    listed = {model["model"]: model for model in http.get("/runtime/status").json()["models"]}
    assert listed["owner/bird:Q4"]["status"] == "ready"
    assert listed["owner/bird:Q4"]["context"] >= 512
    assert http.post("/runtime/unload/owner/bird:Q4").json() == {"status": "unloaded", "model": "owner/bird:Q4"}
    assert http.post("/runtime/unload/owner/bird:Q4").json() == {"status": "not-loaded", "model": "owner/bird:Q4"}
    assert "owner/bird:Q4" not in {model["model"] for model in http.get("/runtime/status").json()["models"]}


def test_load_options_come_by_query_or_body(http: httpx.Client) -> None:
    assert http.post("/runtime/load/small", json={"options": {"delay_s": 0.0}}).json()["status"] == "ready"
    assert http.post("/runtime/load/small?delay_s=0.0").json()["status"] == "ready"
    refused = http.post("/runtime/load/chatter?nonsense=4")
    assert refused.status_code == 400
    assert "nonsense" in refused.json()["error"]["message"]
    assert http.post("/runtime/load/small?context=x").json()["error"]["param"] == "context"


@pytest.mark.parametrize(
    "body", [{"command": "touch /tmp/x"}, {"options": {"command": ["touch", "x"]}}, {"lora": "/etc/passwd"}]
)
def test_paths_and_commands_are_not_set_over_http(http: httpx.Client, body: dict[str, Any]) -> None:
    for answer in (
        http.post("/runtime/load/chatter", json=body),
        http.request("GET", "/runtime/explain/chatter", json=body),
    ):
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "refused"
    assert http.post("/runtime/load/chatter?lora=/etc/passwd").status_code == 403


def test_a_page_of_an_allowed_origin_may_call(serve: Callable[..., Any]) -> None:
    http = serve(Slow(), cors_origins=("https://chat.example",)).http
    asked = {"origin": "https://chat.example", "access-control-request-method": "POST"}
    assert http.options("/v1/chat/completions", headers=asked).headers["access-control-allow-origin"] == asked["origin"]
    assert http.get("/health", headers={"origin": asked["origin"]}).headers["access-control-allow-origin"]
    assert http.options("/v1/models", headers={**asked, "origin": "https://evil.example"}).status_code == 403


def test_no_page_may_call_by_default(http: httpx.Client) -> None:
    assert "access-control-allow-origin" not in http.get("/health", headers={"origin": "http://localhost:3000"}).headers


def test_explain(http: httpx.Client) -> None:
    made = http.get("/runtime/explain/owner/bird:Q8").json()
    assert (made["model"], made["plugin"], made["backend"]) == ("owner/bird:Q8", "echo", "echo")
    assert made["verdicts"][0]["points"] > 0
    assert made["verdicts"][0]["reasons"][0]["text"]
    assert made["lines"][0].startswith("1 echo")


def test_there_are_few_tasks(http: httpx.Client) -> None:
    for path in ("/registry/suggestions", "/runtime/explain/owner/bird:Q8"):
        assert http.get(path, params={"task": "chat"}).status_code == 200
        refused = http.get(path, params={"task": "paint"})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "task")
        assert "'chat', 'complete'" in refused.json()["error"]["message"]


def test_validate(http: httpx.Client, folder: Path) -> None:
    valid = http.get("/registry/validate/owner/bird:Q8").json()
    assert valid["format"] == "echo"
    assert valid["valid"] is True
    assert valid["files"] == ["b.echo.json"]
    assert valid["message"] == "ECHO format detected - compatible with echo"


def test_validate_tells_what_is_broken(http: httpx.Client, folder: Path) -> None:
    (folder / "broken.echo.json").write_text('{"format": "echo", "context": "many"}')
    found = http.get("/registry/validate/broken").json()
    assert found["valid"] is False
    assert found["findings"][0]["severity"] == "critical"
    assert found["message"] == found["findings"][0]["text"]
    refused = http.post("/v1/chat/completions", json={"model": "broken", "messages": HELLO})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "invalid_model"


def test_a_request_may_name_its_context(http: httpx.Client) -> None:
    assert http.post("/runtime/load/owner/bird:Q4?context=8").status_code == 200
    body = {"model": "owner/bird:Q4", "messages": [{"role": "user", "content": "word " * 20}]}
    assert http.post("/v1/chat/completions", json=body).json()["error"]["code"] == "context_length_exceeded"
    answer = http.post("/v1/chat/completions", json={**body, "num_ctx": 64})
    assert answer.status_code == 200, answer.text
    refused = http.post("/v1/chat/completions", json={**body, "model": "small", "num_ctx": 64})
    assert (refused.status_code, "trained for 8" in refused.text) == (400, True)


class Slow:
    """A runtime whose loads take until they are released."""

    library = None

    def __init__(self) -> None:
        self.plugins, self.news = Plugins.of({}), News()
        self.opening = threading.Event()
        self.release = threading.Event()

    def names(self) -> list[str]:
        return ["m"]

    def find(self, model: str) -> Any:
        return SimpleNamespace(name=model)

    def rule(self, entry: Any) -> Rule:
        return Rule()

    def open(self, model: str, *how: Any) -> Any:
        self.opening.set()
        self.release.wait(20)
        raise Fault("released.")

    def loaded(self) -> list[Any]:
        return []

    @property
    def pool(self) -> Any:
        return SimpleNamespace(residents=list, failed=dict)

    def hardware(self) -> Any:
        return SimpleNamespace(devices=())


def test_health_answers_while_models_load(serve: Callable[..., Any]) -> None:
    runtime = Slow()
    running = serve(runtime)
    clients = [httpx.Client(base_url=running.url, timeout=20) for _ in range(40)]
    body = {"model": "m", "messages": HELLO}
    threads = [
        threading.Thread(
            target=client.post, args=("/v1/chat/completions",), kwargs={"json": {**body, "model": f"m{at}"}}
        )
        for at, client in enumerate(clients)
    ]
    for thread in threads:
        thread.start()
    try:
        assert runtime.opening.wait(10)
        with httpx.Client(base_url=running.url, timeout=3) as other:
            assert other.get("/health").status_code == 200
            assert other.get("/runtime/status").status_code == 200
    finally:
        runtime.release.set()
        for thread in threads:
            thread.join(20)
        for client in clients:
            client.close()


class Ask(BaseModel):
    """What the plugin below wants."""

    size: int


class Pages:
    """A plugin with routes of its own."""

    ANYFORM_CONTRACT = 1

    @hookimpl
    def add_routes(self, routes: Any, runtime: Any) -> None:
        router = APIRouter()

        @router.get("/plugin/names")
        def names() -> list[str]:
            return list(runtime.names())

        @router.post("/plugin/size")
        def size(ask: Ask) -> int:
            return ask.size

        @router.get("/plugin/broken")
        def broken() -> None:
            raise ZeroDivisionError("oh")

        @router.get("/health")
        def health() -> str:
            return "mine"

        routes.include_router(router)


class Broken:
    """A plugin that fails."""

    ANYFORM_CONTRACT = 1

    @hookimpl
    def add_routes(self, routes: Any, runtime: Any) -> None:
        raise ZeroDivisionError("oh")


@pytest.fixture
def extended(serve: Callable[..., Any]) -> Iterator[httpx.Client]:
    runtime = Slow()
    runtime.plugins = Plugins.of({"broken": Broken(), "pages": Pages()})
    return serve(runtime).http  # type: ignore[no-any-return]


def test_plugins_add_routes_and_a_failing_one_costs_only_itself(extended: httpx.Client) -> None:
    assert extended.get("/plugin/names").json() == ["m"]
    assert extended.get("/health").json()["status"] == "healthy"


def test_the_frameworks_own_refusals_have_openais_form(extended: httpx.Client) -> None:
    refused = extended.post("/plugin/size", json={"size": "large"})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "size"
    failed = extended.get("/plugin/broken")
    assert failed.status_code == 500
    assert failed.json()["error"]["type"] == "server_error"
    assert "ZeroDivisionError" in failed.json()["error"]["message"]


def test_a_port_in_use_is_one_clear_sentence() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen) as caught:
            serve(Slow(), port=port)  # type: ignore[arg-type]
    assert re.fullmatch(
        rf"cannot listen on 127\.0\.0\.1 port {port}: .+\. Stop what listens there, .*", str(caught.value)
    )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "port"), [("no.such.host.invalid", 0), ("203.0.113.1", 0), ("127.0.0.1", 70000), ("x" * 300, 0)]
)
def test_an_address_that_is_not_ours(host: str, port: int) -> None:
    with pytest.raises(CannotListen):
        listen(host, port)


PROGRAM = """
import sys
from anyform.assembly import start
from anyform.http.server import serve
runtime = start(folders=[sys.argv[1]])
serve(runtime, port=0, ready=lambda url: print(url, flush=True), log=lambda line: print("log", line, flush=True))
runtime.close()
print("closed", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="console signals need a console of their own")
def test_a_signal_amid_a_load_is_not_held_up_by_it(folder: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert child.stdout is not None
    url = child.stdout.readline().strip()
    answers = []
    body = {"model": "snail", "prompt": "x"}
    asking = threading.Thread(target=lambda: answers.append(httpx.post(f"{url}/v1/completions", json=body, timeout=40)))
    asking.start()
    with httpx.Client(base_url=url) as client:
        until(lambda: bool(answers) or client.get("/runtime/status").json()["requests"] == {"snail": 1})
    assert not answers, answers[0].text
    os.kill(child.pid, signal.SIGINT)
    output, _ = child.communicate(timeout=20)
    asking.join(20)
    assert (child.returncode, output) == (0, "closed\n")
    assert (answers[0].status_code, answers[0].json()["error"]["code"]) == (503, "closed")


@pytest.mark.skipif(sys.platform == "win32", reason="console signals need a console of their own")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("busy", [False, True])
def test_a_signal_ends_the_server_in_good_order(folder: Path, number: signal.Signals, busy: bool) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert child.stdout is not None
    url = child.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:")
    body = {"model": "slow", "stream": True, "ignore_eos": True, "messages": HELLO}
    with httpx.Client(base_url=url, timeout=20) as client:
        if busy:
            with client.stream("POST", "/v1/chat/completions", json=body) as response:
                lines = response.iter_lines()
                assert next(lines).startswith("data: {")
                os.kill(child.pid, number)
                last = [line for line in lines if line][-1]
            assert json.loads(last.removeprefix("data: "))["error"]["code"] == "closed"
        else:
            os.kill(child.pid, number)
    output, _ = child.communicate(timeout=20)
    assert child.returncode == 0
    assert output.splitlines() == ["closed"]
