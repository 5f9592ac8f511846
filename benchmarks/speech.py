"""Measures speech to text against faster-whisper called directly, and how soon a long text begins to sound; on a CPU.

    python benchmarks/speech.py                  # a 60 s file, 1, 4 and 16 clients, the first sound
    python benchmarks/speech.py --only hearing --rounds 9 --json

Hearing: a Whisper of base's shape with random weights in int8, whose work does not depend on what the weights say.
The peer is called with the same file, options and threads in a process that times itself, and pays for no HTTP; as
the server it has a session of its own, to which Linux gives its share of a busy machine. Both sides take turns, and
each ratio is of two neighbours in time; the median is what counts. Many clients send half a minute each, right after
the peer heard as much.

Speaking: a stand-in for Kokoro that computes for about as long as the real one (voices.py), behind the real
phonemizer. The peer of a text of 20 sentences is its first sentence alone, asked for in turn: what is timed is when
4,096 bytes of sound have come. Models are written to .bench on first use. Needs faster-whisper, kokoro-onnx and numpy.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import peers
import voices

OVERHEAD = 0.05
"""How much longer than the peer a file may take over HTTP."""
SOONER = 1.5
"""How many times as long as its first sentence alone a long text may take to begin."""
START_S = 120.0
FIRST_BYTES = 4096
"""Of sound: 85 ms of PCM; more than the head of any file."""
FILE_S, CLIENT_S = 60.0, 30.0
CLIENTS = (1, 4, 16)
AHEAD = 3
"""Times that the peer hears a client's file before the clients do."""
FORMS = ("pcm", "mp3")
BEAM = 5
TEXT = """
The old mill stands where the river turns to the south. Nobody has ground any corn there for sixty years. Its wheel
still moves a little after heavy rain. Children are told not to play on the wooden bridge. They play there all the
same on long summer evenings. In the autumn the water carries leaves past the broken gate. A heron waits on one leg
beside the pond. The miller's house was sold to a painter from the city. She came for a month and stayed for most of
her life. Her pictures show the same window in every kind of light. Some of them hang in the small museum by the
station. Visitors ask why there are never any people in them. The painter used to say that people do not keep still.
She kept bees behind the house, and gave the honey away. On clear nights she walked up the hill to look at the stars.
The path is narrow, and it is easily missed in the dark. From the top you can see the lights of three towns. The train
crosses the valley twice before midnight. Its sound arrives long after its windows have gone. Then it is quiet again,
and only the river goes on talking.
"""

Ask = Callable[[], float]


@dataclass(frozen=True)
class Round:
    """One turn of both sides: seconds."""

    ours: float
    peer: float

    @property
    def ratio(self) -> float:
        """How many times as long as the peer we took."""
        return self.ours / self.peer


@dataclass(frozen=True)
class Comparison:
    """All rounds of one thing."""

    name: str
    rounds: tuple[Round, ...]
    most: float
    """The ratio that is wanted at the most."""
    same: bool = True
    """Whether both sides gave the same."""

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios."""
        return statistics.median(one.ratio for one in self.rounds)

    @property
    def met(self) -> bool:
        """Whether it is as fast as wanted, and the same."""
        return self.same and self.ratio <= self.most

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        rounds = [(one.ours, one.peer) for one in self.rounds]
        return {"name": self.name, "rounds": rounds, "ratio": self.ratio, "same": self.same, "met": self.met}


@dataclass(frozen=True)
class Throughput:
    """Seconds of sound that are heard in one second."""

    clients: int
    ours: float
    peer: float
    """Of one request after the other, called directly."""


def main() -> int:
    """Run and print; with --require, 1 if what is wanted was missed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = _options()
    made: list[Comparison] = []
    throughput: list[Throughput] = []
    if options.only != "speaking":
        compared, throughput = hearing(options.rounds, options.threads, options.clients)
        made.append(compared)
    if options.only != "hearing":
        made += speaking(options.rounds, options.threads)
    if options.json:
        print(
            json.dumps({"compared": [one.as_dict() for one in made], "throughput": [asdict(one) for one in throughput]})
        )
    else:
        show(made, throughput)
    return 1 if options.require and not all(one.met for one in made) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("hearing", "speaking"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=lambda text: [int(n) for n in text.split(",")], default=list(CLIENTS))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="that compute, on both sides")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--require", action="store_true", help="exit with 1 if what is wanted was missed")
    return parser.parse_args()


def hearing(rounds: int, threads: int, clients: Sequence[int]) -> tuple[Comparison, list[Throughput]]:
    """A file over HTTP and directly; and how many seconds of sound many clients are done with in one, and the peer."""
    model = voices.whisper()
    long, short = sound(FILE_S), sound(CLIENT_S)
    with (
        Peer(model, threads) as peer,
        server(model, f"threads={threads}", "condition_on_previous_text=false", "fallback=false") as port,
    ):
        client = Client(port, model.name)
        said = (client.hear(long), peer.hear(long)[1])
        compared = Comparison(
            f"a file of {FILE_S:.0f} s: over HTTP / faster-whisper called directly",
            turns(rounds, lambda: timed(client.hear, long), lambda: peer.hear(long)[0]),
            most=1 + OVERHEAD,
            same=said[0] == said[1],
        )
        throughput = []
        for many in clients:
            alone = sum(peer.hear(short)[0] for _ in range(AHEAD)) / AHEAD
            throughput.append(
                Throughput(many, many * CLIENT_S / crowd(port, model.name, many, short), CLIENT_S / alone)
            )
    return compared, throughput


def speaking(rounds: int, threads: int) -> list[Comparison]:
    """When a long text begins to sound, and its first sentence alone."""
    model = voices.speaker()
    text = " ".join(TEXT.split())
    alone = text[: text.index(".") + 1]
    made = []
    with server(model, f"threads={threads}") as port:
        client = Client(port, model.name)
        for form in FORMS:
            client.first(alone, form)
            compared = turns(rounds, lambda: client.first(text, form), lambda: client.first(alone, form))  # noqa: B023
            name = f"first {form} of {text.count('.')} sentences / of the first one alone"
            made.append(Comparison(name, compared, most=SOONER))
        whole = timed(client.spoken, text)
        print(f"the whole text takes {whole:.2f} s", file=sys.stderr)
    return made


def turns(rounds: int, ours: Ask, peer: Ask) -> tuple[Round, ...]:
    """Both sides in turns, each first every other time; each gives seconds."""
    made = []
    for number in range(rounds):
        if number % 2:
            theirs = peer()
            made.append(Round(ours(), theirs))
        else:
            made.append(Round(ours(), peer()))
    return tuple(made)


def timed(work: Callable[[Any], object], given: Any) -> float:
    """Seconds that *work* takes."""
    started = time.perf_counter()
    work(given)
    return time.perf_counter() - started


def crowd(port: int, model: str, clients: int, file: bytes) -> float:
    """Seconds until each of *clients* has what is said in *file*."""
    asking = [Client(port, model) for _ in range(clients)]
    with ThreadPoolExecutor(clients) as pool:
        return timed(lambda all: list(pool.map(lambda one: one.hear(file), all)), asking)


def sound(seconds: float) -> bytes:
    """A WAV that is like a voice."""
    from anyform.testing.whisper import voice, wave_file

    return wave_file(voice(seconds))


class Peer:
    """faster-whisper in a process and a session of its own."""

    def __init__(self, model: Path, threads: int) -> None:
        self._pool = ProcessPoolExecutor(1, get_context("fork"), _open, (model, threads))

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def hear(self, file: bytes) -> tuple[float, str]:
        """How many seconds it took to hear *file*, and what is said in it."""
        return self._pool.submit(_heard, file).result()


_opened: list[Any] = []
"""Of the peer's process: its model."""


def _open(model: Path, threads: int) -> None:
    os.setsid()
    voices.hide()
    from faster_whisper import WhisperModel

    _opened.append(WhisperModel(str(model), device="cpu", cpu_threads=threads, local_files_only=True))


def _heard(file: bytes) -> tuple[float, str]:
    started = time.perf_counter()
    segments, _ = _opened[0].transcribe(
        BytesIO(file), language="en", beam_size=BEAM, temperature=0, condition_on_previous_text=False
    )
    said = "".join(segment.text for segment in segments).strip()
    return time.perf_counter() - started, said


class Client:
    """One client of a server, with a connection of its own that it keeps."""

    def __init__(self, port: int, model: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        self._model = model

    def hear(self, file: bytes) -> str:
        """What is said in *file*. Raises SystemExit for an answer other than 200."""
        fields = {"model": self._model, "language": "en"}
        body, kind = form(fields, file)
        return str(json.loads(self._answer("/v1/audio/transcriptions", body, kind).read())["text"])

    def spoken(self, text: str) -> bytes:
        """All of *text* as PCM."""
        return self._speech(text, "pcm").read()

    def first(self, text: str, kind: str) -> float:
        """Seconds until FIRST_BYTES of *text*'s sound are there; the rest is not waited for."""
        self._settle()
        started, come = time.perf_counter(), 0
        answer = self._speech(text, kind)
        while come < FIRST_BYTES and (piece := answer.read1(FIRST_BYTES)):
            come += len(piece)
        took = time.perf_counter() - started
        self._connection.close()  # which ends what is still being made
        if come < FIRST_BYTES:
            raise SystemExit(f"only {come} bytes of sound came for {text[:60]!r}")
        return took

    def _settle(self) -> None:
        """Until the server does nothing: what was hung up on ends a moment later."""
        busy = True
        while busy:
            self._connection.request("GET", "/runtime/status")
            busy = any(one["active"] for one in json.loads(self._connection.getresponse().read())["models"])

    def _speech(self, text: str, kind: str) -> http.client.HTTPResponse:
        asked = {"model": self._model, "input": text, "voice": "af_heart", "response_format": kind}
        return self._answer("/v1/audio/speech", json.dumps(asked).encode(), "application/json")

    def _answer(self, path: str, body: bytes, kind: str) -> http.client.HTTPResponse:
        self._connection.request("POST", path, body, {"Content-Type": kind})
        answer = self._connection.getresponse()
        if answer.status != 200:
            raise SystemExit(f"the server answered {answer.status}: {answer.read(500).decode(errors='replace')}")
        return answer


def form(fields: dict[str, str], file: bytes) -> tuple[bytes, str]:
    """A body of multipart/form-data, and its Content-Type."""
    border = "b0e11f2c61"
    said = [*(f'name="{name}"\r\n\r\n{text}' for name, text in fields.items())]
    said.append('name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n')
    head = "\r\n".join(f"--{border}\r\nContent-Disposition: form-data; {one}" for one in said).encode()
    return head + file + f"\r\n--{border}--\r\n".encode(), f"multipart/form-data; boundary={border}"


@contextmanager
def server(model: Path, *options: str) -> Iterator[int]:
    """Our own server over *model* with load options, as a user starts it, the model loaded: its port."""
    port = peers.free_port()
    given = [part for option in options for part in ("--option", option)]
    command = [sys.executable, "-m", "anyform", "serve", str(model), "--port", str(port), "--warm", *given]
    with peers.running(command) as process:
        _wait(process, port)
        yield port


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    """Until the server is ready."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode} before it answered")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    raise SystemExit(f"the server was not ready in {START_S} s")


def show(made: Sequence[Comparison], throughput: Sequence[Throughput]) -> None:
    """Print all for people."""
    for one in made:
        ours, theirs = statistics.median(r.ours for r in one.rounds), statistics.median(r.peer for r in one.rounds)
        each = " ".join(f"{each.ratio:.3f}" for each in one.rounds)
        verdict = "met" if one.met else "MISSED" if one.same else "MISSED: the two differ in what they say"
        print(one.name)
        print(f"  {ours:.3f} s / {theirs:.3f} s · ratio {one.ratio:.3f}x (rounds: {each})")
        print(f"  wanted {one.most:.2f}x at the most: {verdict}", flush=True)
    for many in throughput:
        told = f"{many.ours:.1f} s of sound a second / {many.peer:.1f} of the peer, one by one"
        print(f"{many.clients} clients: {told} · ratio {many.ours / many.peer:.2f}x", flush=True)


if __name__ == "__main__":
    sys.exit(main())
