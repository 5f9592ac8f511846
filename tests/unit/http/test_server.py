"""The listening socket."""

from __future__ import annotations

import socket

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
