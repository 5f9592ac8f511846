"""A measuring client: one streamed OpenAI request per connection over a raw socket.

While tokens flow it does nothing but note the time and keep the bytes; they are parsed when the run is over. So the
client takes little of the cores that the servers are measured on, and takes the same for each of them.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

DONE = b"[DONE]"


@dataclass(frozen=True)
class Answer:
    """One finished stream. Times in seconds on the clock of `time.perf_counter`."""

    sent_s: float
    arrivals_s: tuple[float, ...]
    """When each event that carried text came."""
    tokens: int
    """What the server counted; where it does not say, the number of events with text."""
    prompt_tokens: int
    status: int
    error: str

    @property
    def first_s(self) -> float:
        """From the request to the first text."""
        return self.arrivals_s[0] - self.sent_s

    @property
    def gaps_s(self) -> list[float]:
        """Times between successive texts."""
        return [after - before for before, after in zip(self.arrivals_s, self.arrivals_s[1:], strict=False)]


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes) -> None:
        self.request = request
        self.sent_s = 0.0
        self.pieces: list[tuple[float, bytes]] = []
        self.tail = b""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.sent_s = time.perf_counter()
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.pieces.append((time.perf_counter(), data))
        self.tail = self.tail[-len(DONE) :] + data
        if DONE in self.tail:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


async def ask(port: int, path: str, body: dict[str, Any], timeout_s: float) -> Answer:
    """Send *body* to 127.0.0.1:*port*, read the stream to its end. Never raises for what the server does."""
    try:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: _Connection(_request(port, path, body)), "127.0.0.1", port
        )
    except OSError as error:
        return Answer(time.perf_counter(), (), 0, 0, 0, str(error))
    try:
        await asyncio.wait_for(connection.ended, timeout_s)
    except TimeoutError:
        connection.transport.abort()
        return _answer(connection, f"no end after {timeout_s} s")
    return _answer(connection)


def _request(port: int, path: str, body: dict[str, Any]) -> bytes:
    payload = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Accept: text/event-stream\r\nContent-Length: {len(payload)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + payload


def _answer(connection: _Connection, error: str = "") -> Answer:
    arrivals: list[float] = []
    usage: dict[str, int] = {}
    status = 0
    pieces = iter(connection.pieces)
    head, rest = _head(pieces)
    if head:
        status = int(head.split(b" ", 2)[1])
        chunked = b"transfer-encoding: chunked" in head.lower()
        for when, text in _lines(_unchunk(rest, pieces) if chunked else [*rest, *pieces]):
            event = _event(text)
            if "error" in event:
                error = error or json.dumps(event["error"])
            if _text(event):
                arrivals.append(when)
            usage = event.get("usage") or usage
        if status != 200:
            error = error or b"".join(data for _, data in connection.pieces)[-300:].decode(errors="replace")
    return Answer(
        sent_s=connection.sent_s,
        arrivals_s=tuple(arrivals),
        tokens=usage.get("completion_tokens", len(arrivals)),
        prompt_tokens=usage.get("prompt_tokens", 0),
        status=status,
        error=error if head else error or "closed without an answer",
    )


def _head(pieces: Iterator[tuple[float, bytes]]) -> tuple[bytes, list[tuple[float, bytes]]]:
    head = b""
    for when, data in pieces:
        head += data
        if b"\r\n\r\n" in head:
            head, _, rest = head.partition(b"\r\n\r\n")
            return head, [(when, rest)]
    return b"", []


def _unchunk(first: list[tuple[float, bytes]], pieces: Iterable[tuple[float, bytes]]) -> Iterator[tuple[float, bytes]]:
    """Take HTTP's chunk framing off; each chunk bears the time at which it was complete."""
    buffer = b""
    for when, data in [*first, *pieces]:
        buffer += data
        while True:
            size, found, rest = buffer.partition(b"\r\n")
            if not found or len(rest) < int(size.split(b";")[0] or b"0", 16) + 2:
                break
            length = int(size.split(b";")[0] or b"0", 16)
            yield when, rest[:length]
            buffer = rest[length + 2 :]


def _lines(pieces: Iterable[tuple[float, bytes]]) -> Iterator[tuple[float, bytes]]:
    buffer = b""
    for when, data in pieces:
        *lines, buffer = (buffer + data).split(b"\n")
        yield from ((when, line.strip()) for line in lines)


def _event(line: bytes) -> dict[str, Any]:
    if not line.startswith(b"data:") or line.endswith(DONE):
        return {}
    event = json.loads(line[5:])
    return event if isinstance(event, dict) else {}


def _text(event: dict[str, Any]) -> str:
    choice = (event.get("choices") or [{}])[0]
    delta = choice.get("delta") or {}
    return choice.get("text") or delta.get("content") or delta.get("reasoning_content") or ""
