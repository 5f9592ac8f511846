"""The listening socket."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest

from anyform.http.app import Ports
from anyform.http.server import listen


def test_an_accepted_connection_sends_at_once() -> None:
    """Asyncio sets TCP_NODELAY only on sockets that name TCP; without it each answer waits 40 ms for an ACK."""
    with listen("127.0.0.1", 0) as sock:
        assert sock.proto == socket.IPPROTO_TCP


def test_a_port_that_was_just_left_can_be_listened_on_again() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            server, _ = first.accept()
            server.close()
            client.recv(1)
    with listen("127.0.0.1", port) as second:
        assert second.getsockname()[1] == port


def face(name: str) -> Any:
    async def served(scope: Any, receive: Any, send: Any) -> None:
        send(name)

    return served


@pytest.mark.parametrize(
    ("at", "name"),
    [
        (("127.0.0.1", 80), "main"),
        (("127.0.0.1", 81), "everywhere"),
        (("192.168.0.2", 81), "everywhere"),
        (("::1", 81), "six"),
        (("::ffff:127.0.0.1", 82), "both"),
        (("2001:db8::1", 82), "both"),
        (("127.0.0.1", 83), "main"),
        (None, "main"),
    ],
)
def test_a_request_goes_to_whoever_listens_where_it_came(at: tuple[str, int] | None, name: str) -> None:
    places = {
        "main": ("127.0.0.1", 80),
        "everywhere": ("0.0.0.0", 81),
        "six": ("::1", 81, 0, 0),
        "both": ("::", 82, 0, 0),
    }
    faces = [face(one) for one in places]
    first: Any = faces[0]
    first.state = SimpleNamespace(faces=faces)
    ports = Ports(first)
    ports.bind([cast(Any, SimpleNamespace(getsockname=lambda place=place: place)) for place in places.values()])
    reached: list[str] = []
    asyncio.run(ports({"type": "http", "server": at}, cast(Any, None), cast(Any, reached.append)))
    assert reached == [name]
