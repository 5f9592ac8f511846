"""The crowd that embeds texts, against a server that answers with a known vector, and one that refuses."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def vectors(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import vectors

    return vectors


@pytest.fixture
def port() -> Iterator[int]:
    """A server whose vector of a text is its length and its first letter; `refuse` gets a 400."""
    loop, ready, found = asyncio.new_event_loop(), threading.Event(), []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                writer.close()
                return
            size = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            text = json.loads(await reader.readexactly(size))["input"]
            numbers = np.array([len(text), ord(text[0])], "<f4").tobytes()
            reply: dict[str, Any] = {"data": [{"embedding": base64.b64encode(numbers).decode()}]}
            reply["usage"] = {"prompt_tokens": len(text)}
            body = json.dumps(reply).encode()
            status = b"400 Bad Request" if text == "refuse" else b"200 OK"
            writer.write(b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n" % (status, len(body)) + body)

    async def serve() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        found.append(server.sockets[0].getsockname()[1])
        ready.set()

    def run() -> None:
        loop.create_task(serve())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    yield found[0]
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


def test_every_text_gets_its_vector_from_several_clients(vectors: Any, port: int) -> None:
    crowd, texts = vectors.Crowd(port, "m", 5), list(vectors.mixed_texts(40))
    crowd.encode(texts)
    rows, tokens = crowd.vectors(texts)
    assert rows.tolist() == [[len(text), ord(text[0])] for text in texts]
    assert tokens == sum(map(len, texts))


def test_a_refusal_ends_the_run(vectors: Any, port: int) -> None:
    with pytest.raises(SystemExit, match="the server answered"):
        vectors.Crowd(port, "m", 2).encode(["good", "refuse", "better"])


def test_texts_are_mixed_and_the_same_each_time(vectors: Any) -> None:
    texts = list(vectors.mixed_texts(300))
    assert texts == list(vectors.mixed_texts(300))
    lengths = [len(text.split()) for text in texts]
    assert min(lengths) < 8
    assert max(lengths) > 100
    assert min(lengths) >= vectors.SHORTEST
    assert max(lengths) <= vectors.LONGEST


def test_what_is_wanted_is_both_speed_and_closeness(vectors: Any) -> None:
    def made(speed: float, difference: float) -> Any:
        turn = (vectors.Round(anyform=speed, peer=100.0),)
        return vectors.Comparison("m", 32, 1, 1, turn, difference, 0.0)

    assert made(91.0, 1e-6).met
    assert not made(89.0, 1e-6).met
    assert not made(91.0, 1e-4).met
