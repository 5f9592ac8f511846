"""GET /runtime/events: what happens to models, as https://html.spec.whatwg.org/multipage/server-sent-events.html says.

A reader that does not keep up is cut off: what is on its way to it ends the answer, and nobody waits for it. It may
come again with the number of the last that it got.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from anyform.http import reply
from anyform.http.control import plain
from anyform.http.fields import Fields
from anyform.kernel.news import KEPT, Item

if TYPE_CHECKING:
    from anyform.kernel.news import News

KEEP_ALIVE_S = 15.0
"""A comment is sent when nothing happened for so long, so that no proxy takes the line for dead."""
ROOM = 2 * KEPT
"""Events that may wait for a reader; one more and it is cut off. More than the news keep, which may come at once."""
RETRY_MS = 2000


def encode(item: Item) -> bytes:
    """One server-sent event; its data are the model, the time in seconds since the epoch, and the kind's own facts.

    What is not kept has no number, so that a reader who comes again goes on after the last that was.
    """
    data = json.dumps({"model": item.model, "time_s": item.time_s, **item.facts}, default=str, separators=(",", ":"))
    number = f"id: {item.number}\n" if item.number else ""
    return f"{number}event: {item.kind}\ndata: {data}\n\n".encode("ascii")


class Events:
    """The resource, and all who read it now."""

    def __init__(self, news: News, keep_alive_s: float = KEEP_ALIVE_S, room: int = ROOM) -> None:
        self._news, self.keep_alive_s, self.room = news, keep_alive_s, room
        self.readers: set[Reader] = set()

    async def events(self, request: Request) -> Response:
        """All that happens from now on; with `Last-Event-ID` or `after`, first what is kept of what came after it."""
        given = Fields({name: plain(value) for name, value in request.query_params.items()})
        after = given.integer("after", low=0)
        last = request.headers.get("last-event-id", "").strip()
        if last.isascii() and last.isdigit():
            after = int(last)
        if request.method == "HEAD":
            return Response(headers=HEADERS)
        return Reader(self, self._news, after)

    def pass_on(self, kind: str, model: str, **facts: Any) -> None:
        """Tell who reads now, and nobody who comes later: what comes by the hundred must not push out what is kept.

        On the event loop.
        """
        if self.readers:
            item = Item(number=0, time_s=time.time(), kind=kind, model=model, facts=facts)
            for reader in self.readers:
                reader.pass_on(item)

    def stop(self) -> None:
        """End all answers; the server stops."""
        for reader in list(self.readers):
            reader.end()


HEADERS = {"content-type": reply.SSE, "cache-control": "no-cache", "x-accel-buffering": "no"}


class Reader(Response):
    """One reader's answer: it ends when the reader hangs up, falls behind, or the server stops."""

    def __init__(self, events: Events, news: News, after: int | None) -> None:
        self._events, self._news, self._after = events, news, after
        self._waiting: list[Item] = []
        self._woken = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in HEADERS.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        self._task = asyncio.create_task(self._write(send))
        watch = asyncio.create_task(_hangup(receive))
        watch.add_done_callback(lambda _: self.end())
        self._events.readers.add(self)
        leave = self._news.listen(self._hear, self._after)
        try:
            await asyncio.wait([self._task])
        finally:
            leave()
            self._events.readers.discard(self)
            self._task.cancel()
            self._waiting = []
        try:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            watch.cancel()

    def end(self) -> None:
        """Stop writing, also in the middle of an event that the reader does not take."""
        if self._task is not None:
            self._task.cancel()

    def pass_on(self, item: Item) -> None:
        """Left out where the reader is behind already, which is no reason to cut it off."""
        if len(self._waiting) < KEPT:
            self._arrive(item)

    def _hear(self, item: Item) -> None:
        """In the thread in which it happened."""
        with suppress(RuntimeError):  # the loop was closed, so nobody reads any more
            self._loop.call_soon_threadsafe(self._arrive, item)

    def _arrive(self, item: Item) -> None:
        self._waiting.append(item)
        self._woken.set()
        if len(self._waiting) > self._events.room:
            self._waiting = []
            self.end()

    async def _write(self, send: Send) -> None:
        await _send(send, f"retry: {RETRY_MS}\n\n".encode("ascii"))
        async for data in self._data():
            await _send(send, data)

    async def _data(self) -> AsyncIterator[bytes]:
        sent = self._after
        while True:
            try:
                async with asyncio.timeout(self._events.keep_alive_s):
                    await self._woken.wait()
            except TimeoutError:
                yield b": nothing new\n\n"
                continue
            self._woken.clear()
            items, self._waiting = self._waiting, []
            numbers = [item.number for item in items if item.number]
            if sent is not None and numbers and numbers[0] > sent + 1:
                yield f": {sent + 1} to {numbers[0] - 1} are not kept any more\n\n".encode("ascii")
            sent = numbers[-1] if numbers else sent
            yield b"".join(map(encode, items))


async def _send(send: Send, data: bytes) -> None:
    if data:
        await send({"type": "http.response.body", "body": data, "more_body": True})


async def _hangup(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
