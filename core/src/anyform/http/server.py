"""Listens: uvicorn over httptools, on a socket for each listener, ended cleanly by Ctrl-C."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI

from anyform.contract.errors import Area, Category, Fault
from anyform.contract.facts import Severity
from anyform.http import app, listener
from anyform.http.config import PORT, HttpConfig, Listener
from anyform.http.events import Events
from anyform.http.handshake import PROTOCOL
from anyform.http.listener import Place
from anyform.http.service import Service
from anyform.http.speechsocket import FRAME_BYTES, Sockets

if TYPE_CHECKING:
    from anyform.kernel.runtime import Runtime
    from anyform.sources.hubpulls import Pulls

Say = Callable[[str], None]
KEEP_ALIVE_S = 75
BACKLOG = 1024
PING_S = 20
"""How often an open socket is asked whether it lives, and how long it may take to say so."""


class CannotListen(Fault):
    """The address is taken, not this machine's, or not allowed."""

    code = "cannot_listen"
    category, area, severity = Category.UNAVAILABLE, Area.NETWORK, Severity.CRITICAL


def serve(
    runtime: Runtime,
    host: str = "127.0.0.1",
    port: int = PORT,
    config: HttpConfig | None = None,
    *,
    ready: Say | None = None,
    log: Say | None = None,
    pulls: Pulls | None = None,
    places: Callable[[Sequence[Place]], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; blocks. *port* 0: any free one. Raises CannotListen, and
    Invalid for a listener whose dialect or port nobody knows.

    *pulls*: fetches models that clients ask for; None: refused.
    *ready* is called once with the URL, when requests are taken; before it *places* with all that listens, the main one
    first; *log* with each line of warning or error.
    """
    config = replace(config or HttpConfig(), host=host, port=port)
    with ExitStack() as opened:
        opened.enter_context(_logging(log))
        server = Server(runtime, config, ready, pulls, places)
        server.run([opened.enter_context(sock) for sock in server.listen()])


def check(runtime: Runtime, config: HttpConfig) -> None:
    """Raise what would keep `serve` from beginning: CannotListen, Invalid."""
    server = Server(runtime, config)
    try:
        for sock in server.listen():
            sock.close()
    finally:
        app.close(server.service)


def open_all(listeners: Sequence[Listener]) -> list[socket.socket]:
    """A listening socket for each; the first is the main one. Raises CannotListen, with none left open, and Invalid for
    two at one place.
    """
    listener.check(listeners)
    opened: list[socket.socket] = []
    try:
        for at, one in enumerate(listeners):
            names = ", ".join(one.dialects) or "all dialects"
            opened.append(listen(one.host, one.port or 0, f", the listener for {names}" if at else "", opened))
    except CannotListen:
        for sock in opened:
            sock.close()
        raise
    return opened


def listen(host: str, port: int, further: str = "", ours: Sequence[socket.socket] = ()) -> socket.socket:
    """A listening socket. Raises CannotListen with one line that says why. *further*: which further listener it is.
    *ours*: those before it.
    """
    if not 0 <= port <= 65535:
        raise CannotListen(f"{port} is no port.", "Choose one from 1 to 65535, or 0 for any free one.")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, _, _, address = found[0]
        sock = socket.socket(family, kind, socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY only where TCP is named
    except (OSError, UnicodeError, OverflowError) as error:
        raise CannotListen(f"{host} is no address to listen on: {error}.", "Use 127.0.0.1 or 0.0.0.0.") from None
    try:
        _own(sock)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        told = f"cannot listen on {host} port {port}{further}: {error.strerror or error}."
        raise CannotListen(told, _hint(error, further, address, ours)) from None
    return sock


def _own(sock: socket.socket) -> None:
    """Re-use a port that is merely cooling down, never one that somebody listens on."""
    if os.name == "nt":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def _hint(error: OSError, further: str, address: tuple[Any, ...], ours: Sequence[socket.socket]) -> str:
    if error.errno == errno.EADDRNOTAVAIL:
        return "This machine has no such address: use one of its own, 127.0.0.1, or 0.0.0.0 for all."
    how = "with --listen or in [[server.listeners]]" if further else "with --port"
    rival = next((sock for sock in ours if _meet(sock.getsockname(), address)), None)
    if rival is not None:
        return f"This server itself listens there, at {rival.getsockname()[0]}: choose another port {how}."
    return f"Stop what listens there, or choose another port {how}."


def _meet(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether two addresses cannot be listened on at once."""
    return bool(one[1] == other[1]) and (one[0] == other[0] or not {one[0], other[0]}.isdisjoint(("0.0.0.0", "::")))


class Server(uvicorn.Server):
    """Uvicorn, quiet, which returns after a signal and does not raise it anew, so that the caller can clean up."""

    def __init__(
        self,
        runtime: Runtime,
        config: HttpConfig,
        ready: Say | None = None,
        pulls: Pulls | None = None,
        places: Callable[[Sequence[Place]], None] | None = None,
    ) -> None:
        """Raises Invalid for a listener whose dialect or port nobody knows."""
        made = app.create(runtime, config, pulls)
        self._faces: list[FastAPI] = made.state.faces
        self._ports = app.Ports(made)
        super().__init__(
            uvicorn.Config(
                self._ports,
                loop="asyncio",  # under uvloop, requests to a worker were seen to hang
                http="httptools",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                lifespan="on",
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=1,
                ws=PROTOCOL,
                ws_max_size=FRAME_BYTES,
                ws_ping_interval=PING_S,
                ws_ping_timeout=PING_S,
                ws_per_message_deflate=False,  # sound does not shrink, and what is packed may swell
            )
        )
        self.service: Service = made.state.service
        self.events: Events = made.state.events
        self.sockets: Sockets = made.state.sockets
        self._ready, self._tell_places = ready, places
        self._grace_s = config.grace_s

    def listen(self) -> list[socket.socket]:
        """The sockets that it is to be run with, as its settings say. Raises CannotListen, Invalid."""
        return open_all([face.state.listener for face in self._faces])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        assert sockets, "it is run with its sockets"
        self._ports.bind(sockets)
        await super().startup(sockets=sockets)
        places = [_place(face, sock) for face, sock in zip(self._faces, sockets, strict=True)]
        if self._tell_places is not None:
            self._tell_places(places)
        if self._ready is not None:
            self._ready(places[0].url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        self.events.stop()
        await self._let_end()
        self.service.stop()
        await self.sockets.stop()
        await super().shutdown(sockets=sockets)
        if self.force_exit:  # then it leaves this out, and the loop's end would log it as an error
            await self.lifespan.shutdown()

    async def _let_end(self) -> None:
        """Give running answers their time."""
        until = time.monotonic() + self._grace_s
        while self.service.running and not self.force_exit and time.monotonic() < until:
            await asyncio.sleep(0.02)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            with suppress(KeyboardInterrupt):
                yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal ends the server in good order, the second at once."""
        self.force_exit = self.should_exit
        self.should_exit = True


def _place(face: FastAPI, sock: socket.socket) -> Place:
    """Where *face* listens."""
    named: str = face.state.listener.host
    port = sock.getsockname()[1]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(named, named)
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    return Place(url=url, host=named, port=port, speaks=face.state.installed.names(face))


class _Lines(logging.Handler):
    """Hands each record to the caller as text."""

    def __init__(self, say: Say) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(self.format(record))


@contextmanager
def _logging(log: Say | None) -> Iterator[None]:
    """Warnings and errors of the server go to *log*; without one, where the program that serves has its log, if any."""
    handler: logging.Handler = _Lines(log) if log else logging.NullHandler()
    loggers = [logging.getLogger("uvicorn"), logging.getLogger("anyform.http")]
    before = [(logger, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = logger.propagate and log is None
    try:
        yield
    finally:
        for logger, propagate in before:
            logger.removeHandler(handler)
            logger.propagate = propagate
