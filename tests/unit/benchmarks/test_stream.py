"""The measuring client, against a server that speaks byte by byte, cuts streams, and refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[bytes]], Any]:
    """Ask a server that answers with the given pieces, each in a write of its own, and closes."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import stream

    async def exchange(pieces: list[bytes]) -> Any:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await stream.ask(port, "/v1/chat/completions", {"stream": True}, timeout_s=10)

    return lambda pieces: asyncio.run(exchange(pieces))


def event(**content: Any) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


def chat(text: str) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}}])


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


DONE = b"data: [DONE]\n\n"


def test_texts_are_timed_and_usage_is_believed(ask: Callable[[list[bytes]], Any]) -> None:
    usage = event(choices=[], usage={"completion_tokens": 3, "prompt_tokens": 30})
    answer = ask([HEAD + b"\r\n", event(choices=[{"delta": {"role": "assistant"}}]), chat("a"), chat("b"), usage, DONE])
    assert (answer.tokens, answer.prompt_tokens, len(answer.arrivals_s), answer.error) == (3, 30, 2, "")
    assert answer.sent_s <= answer.arrivals_s[0] <= answer.arrivals_s[1]
    assert len(answer.gaps_s) == 1


def test_chunks_may_be_split_anywhere(ask: Callable[[list[bytes]], Any]) -> None:
    body = b"".join(map(chunk, [chat("a"), chat("b"), event(choices=[{"text": "c"}]), DONE]))
    whole = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body + chunk(b"")
    answer = ask([whole[at : at + 1] for at in range(len(whole))])
    assert (answer.tokens, answer.status, answer.error) == (3, 200, "")


def test_a_stream_that_ends_early_counts_what_came(ask: Callable[[list[bytes]], Any]) -> None:
    answer = ask([HEAD + b"\r\n", chat("a"), chat("b")])
    assert (answer.tokens, answer.prompt_tokens) == (2, 0)


def test_an_error_event_is_kept(ask: Callable[[list[bytes]], Any]) -> None:
    answer = ask([HEAD + b"\r\n", chat("a"), event(error={"message": "gone"})])
    assert "gone" in answer.error


def test_a_refusal_is_kept(ask: Callable[[list[bytes]], Any]) -> None:
    answer = ask([b"HTTP/1.1 503 Unavailable\r\nContent-Length: 9\r\n\r\nnot ready"])
    assert (answer.status, answer.arrivals_s) == (503, ())
    assert "not ready" in answer.error


def test_nothing_at_all(ask: Callable[[list[bytes]], Any]) -> None:
    assert ask([]).error == "closed without an answer"
