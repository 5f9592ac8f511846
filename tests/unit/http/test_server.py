"""The listening socket."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from anyform.assembly import start
from anyform.http.app import Ports
from anyform.http.config import HttpConfig, Listener
from anyform.http.server import CannotListen, _meet, check, listen
from anyform.testing.echo import write_echo


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


def test_looking_whether_a_server_could_begin_leaves_nothing_behind(tmp_path: Path) -> None:
    write_echo(tmp_path / "parrot.echo.json")
    runtime = start(folders=[tmp_path], where="here")
    before = list(runtime.news._listeners)
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=f"port {port}"):
            check(runtime, HttpConfig(port=port))
    check(runtime, HttpConfig(port=port, listeners=(Listener(port=0, dialects=("openai",)),)))
    assert runtime.news._listeners == before
    listen("127.0.0.1", port).close()
    runtime.close()


def test_an_address_of_another_machine_is_no_matter_of_the_port() -> None:
    with pytest.raises(CannotListen) as raised:
        listen("192.0.2.1", 0)
    assert "This machine has no such address" in raised.value.hint


def test_a_listener_that_this_server_keeps_from_its_port_is_told_so() -> None:
    with listen("127.0.0.1", 0) as main:
        port = main.getsockname()[1]
        with pytest.raises(CannotListen) as raised:  # as for localhost, which is no other place
            listen("127.0.0.1", port, ", the listener for toy", [main])
        assert raised.value.hint.startswith("This server itself listens there, at 127.0.0.1: choose another port with")
        with pytest.raises(CannotListen, match="Stop what listens there") as raised:
            listen("127.0.0.1", port)


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        (("127.0.0.1", 80), ("127.0.0.1", 80), True),
        (("0.0.0.0", 80), ("127.0.0.1", 80), True),
        (("127.0.0.1", 80), ("::", 80, 0, 0), True),
        (("127.0.0.1", 80), ("192.0.2.1", 80), False),
        (("0.0.0.0", 80), ("127.0.0.1", 81), False),
    ],
)
def test_which_addresses_are_kept_from_each_other(one: tuple[Any, ...], other: tuple[Any, ...], meet: bool) -> None:
    assert _meet(one, other) == _meet(other, one) == meet
