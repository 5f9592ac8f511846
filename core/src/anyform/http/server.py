"""Listens: uvicorn over httptools, on a socket that is bound before anything else, ended cleanly by Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from anyform.contract.errors import Area, Category, Fault
from anyform.contract.facts import Severity
from anyform.http import app
from anyform.http.config import PORT, HttpConfig
from anyform.http.events import Events
from anyform.http.handshake import PROTOCOL
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
) -> None:
    """Serve until SIGINT or SIGTERM; blocks. *port* 0: any free one. Raises CannotListen.

    *pulls*: fetches models that clients ask for; None: refused.
    *ready* is called once with the URL, when requests are taken; *log* with each line of warning or error.
    """
    sock = listen(host, port)
    with sock, _logging(log):
        bound = sock.getsockname()[1]
        config = replace(config or HttpConfig(), host=host, port=bound)
        Server(runtime, config, ready, pulls).run([sock])


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises CannotListen with one line that says why."""
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
        raise CannotListen(f"cannot listen on {host} port {port}: {error.strerror or error}.", _hint(port)) from None
    return sock


def _own(sock: socket.socket) -> None:
    """Re-use a port that is merely cooling down, never one that somebody listens on."""
    if os.name == "nt":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def _hint(port: int) -> str:
    return "Stop what listens there, or choose another port with --port."


class Server(uvicorn.Server):
    """Uvicorn, quiet, which returns after a signal and does not raise it anew, so that the caller can clean up."""

    def __init__(
        self, runtime: Runtime, config: HttpConfig, ready: Say | None = None, pulls: Pulls | None = None
    ) -> None:
        made = app.create(runtime, config, pulls)
        super().__init__(
            uvicorn.Config(
                made,
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
        self._ready = ready
        self._grace_s = config.grace_s
        self._url = _url(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self._ready is not None:
            self._ready(self._url)

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


def _url(config: HttpConfig) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(config.host, config.host)
    return f"http://[{host}]:{config.port}" if ":" in host else f"http://{host}:{config.port}"


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
