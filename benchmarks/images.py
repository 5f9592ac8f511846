"""Measures pictures against diffusers called directly: over HTTP, in process, and for several clients; on a CPU.

    python benchmarks/images.py                     # 10 steps over HTTP (base64 and url) and in process; 4 clients
    python benchmarks/images.py --only http --rounds 9 --require
    python benchmarks/images.py --family flux --width 8 --side 256 --json

A random pipeline (anyform_samples.painting), of which a run takes some seconds, since what is measured is what is laid
on top of a run: the queue, the worker's pipe, the PNG, base64, HTTP. The peer is diffusers in a process and a session
of its own, called with the same prompt, seed, steps, size and threads; it makes no file. Both sides take turns, and
each ratio is of two neighbours in time; the median is what counts. Pictures are compared pixel for pixel. Clients: so
many at once, and as many requests one after another, both over HTTP. Models are written to .bench on first use. Needs
what the plugin diffusers needs.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import shutil
import signal
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from hashlib import sha256
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import speech
from speech import Comparison

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / ".bench" / "models"
OVERHEAD = 0.03
"""How much longer than the peer a run may take."""
CROWD = 0.05
"""How much longer than one after another several at once may take."""
PROMPT = "a red house by the sea, in the evening"
SEED = 7
FORMS = ("b64_json", "url")


def main() -> int:
    """Run and print; with --require, 1 if what is wanted was missed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = _options()
    made: list[Comparison] = []
    for name, compare in {"http": over_http, "here": in_process, "clients": clients}.items():
        if options.only in (None, name):
            for one in compare(options):
                made.append(one)
                if not options.json:
                    show(one)
    if options.json:
        print(json.dumps([one.as_dict() for one in made]))
    return 1 if options.require and not all(one.met for one in made) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("http", "here", "clients"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--family", default="sd", help="of anyform_samples.painting")
    parser.add_argument("--width", type=int, default=2, help="channels, in those of the tiny pipelines")
    parser.add_argument("--side", type=int, default=128, help="of the picture, in pixels")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="that compute, on both sides")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--require", action="store_true", help="exit with 1 if what is wanted was missed")
    return parser.parse_args()


def over_http(options: argparse.Namespace) -> list[Comparison]:
    """A run over HTTP, the picture as base64 and as a URL that is fetched, each against the peer."""
    model = pipeline(options.family, options.width)
    with Alone(_open_diffusers, model, options) as peer, speech.server(model, *_loading(options)) as port:
        client, wanted = Client(port, model.name, options), peer.paint(SEED)[1]
        made = []
        for form in FORMS:
            same = pixels(client.paint(SEED, form)) == wanted
            rounds = speech.turns(
                options.rounds,
                lambda: speech.timed(lambda form: client.paint(SEED, form), form),  # noqa: B023
                lambda: peer.paint(SEED)[0],
            )
            name = f"{_told(options)} over HTTP as {form} / diffusers called directly"
            made.append(Comparison(name, rounds, 1 + OVERHEAD, same))
    return made


def in_process(options: argparse.Namespace) -> list[Comparison]:
    """A run by anyform as a library, in a process of its own without workers, against the peer."""
    model = pipeline(options.family, options.width)
    with Alone(_open_diffusers, model, options) as peer, Alone(_open_here, model, options) as ours:
        same = ours.paint(SEED)[1] == peer.paint(SEED)[1]
        rounds = speech.turns(options.rounds, lambda: ours.paint(SEED)[0], lambda: peer.paint(SEED)[0])
    name = f"{_told(options)} in process / diffusers called directly"
    return [Comparison(name, rounds, 1 + OVERHEAD, same)]


def clients(options: argparse.Namespace) -> list[Comparison]:
    """So many at once, against as many one after another; what they get must be the same."""
    model = pipeline(options.family, options.width)
    with speech.server(model, *_loading(options)) as port:
        crowd = [Client(port, model.name, options) for _ in range(options.clients)]
        seeds = range(SEED, SEED + options.clients)
        alone = [crowd[0].paint(seed) for seed in seeds]
        with ThreadPoolExecutor(options.clients) as pool:

            def together() -> list[bytes]:
                return list(pool.map(Client.paint, crowd, seeds))

            same = [pixels(one) for one in together()] == [pixels(one) for one in alone]
            rounds = speech.turns(
                options.rounds,
                lambda: speech.timed(lambda _: together(), None),
                lambda: speech.timed(lambda client: [client.paint(seed) for seed in seeds], crowd[0]),
            )
    name = f"{_told(options)}: {options.clients} clients at once / one after another"
    return [Comparison(name, rounds, 1 + CROWD, same)]


def _loading(options: argparse.Namespace) -> tuple[str, str]:
    """Load options; pictures may be far larger than those that so small a pipeline is made for."""
    return f"threads={options.threads}", f"max_pixels={max(options.side, 64) ** 2}"


def _told(options: argparse.Namespace) -> str:
    return f"{options.family} of width {options.width}, {options.side} px, {options.steps} steps"


def pipeline(family: str, width: int) -> Path:
    """A random pipeline's folder; made on first use, in a process that ends."""
    target = FOLDER / f"painting-{family}-{width}"
    if not target.exists():
        partial = target.with_name(f"{target.name}-{os.getpid()}-partial")
        FOLDER.mkdir(parents=True, exist_ok=True)
        try:
            with ProcessPoolExecutor(1, get_context("fork")) as pool:
                pool.submit(_write, family, width, partial).result()
            partial.replace(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            shutil.rmtree(FOLDER / f".{partial.name}-tokenizers", ignore_errors=True)
    return target


def _write(family: str, width: int, target: Path) -> None:
    _hide()
    from anyform_samples import painting

    painting.write(family, target, width=width)


def _hide() -> None:
    """Let later imports find nothing here: there is a transformers.py."""
    sys.path[:] = [place for place in sys.path if Path(place).resolve() != HERE]


Paint = Callable[[int], Any]
"""Of a seed, a picture: a PIL.Image, or the bytes of a file."""


class Alone:
    """Something that paints, in a process and a session of its own."""

    def __init__(self, begin: Callable[[Path, argparse.Namespace], Paint], *given: Any) -> None:
        self._pool = ProcessPoolExecutor(1, get_context("fork"), _begin, (begin, *given))

    def __enter__(self) -> Alone:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def paint(self, seed: int) -> tuple[float, str]:
        """How many seconds it took, and what `pixels` says of the picture."""
        return self._pool.submit(_painted, seed).result()


_opened: list[Paint] = []
"""Of such a process: what paints."""


def _begin(begin: Callable[[Path, argparse.Namespace], Paint], model: Path, options: argparse.Namespace) -> None:
    os.setsid()
    _hide()
    _opened.append(begin(model, options))


def _painted(seed: int) -> tuple[float, str]:
    started = time.perf_counter()
    picture = _opened[0](seed)
    return time.perf_counter() - started, pixels(picture)


def _open_diffusers(model: Path, options: argparse.Namespace) -> Paint:
    import torch
    from diffusers import AutoPipelineForText2Image

    torch.set_num_threads(options.threads)
    pipe = AutoPipelineForText2Image.from_pretrained(model, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    given = {"width": options.side, "height": options.side, "num_inference_steps": options.steps}

    def paint(seed: int) -> Any:
        return pipe(PROMPT, generator=torch.Generator("cpu").manual_seed(seed), **given).images[0]

    return paint


def _open_here(model: Path, options: argparse.Namespace) -> Paint:
    import anyform
    from anyform.contract.events import Blob
    from anyform.contract.facts import Settings
    from anyform.contract.jobs import Image

    settings = Settings(options=dict(one.split("=") for one in _loading(options)))
    runtime = anyform.start([model], where="here", defaults=settings)

    def paint(seed: int) -> bytes:
        job = Image(prompt=PROMPT, width=options.side, height=options.side, steps=options.steps, seed=seed)
        [made] = [one.data for one in runtime.generate(model.name, job) if isinstance(one, Blob)]
        return bytes(made)

    return paint


def pixels(picture: Any) -> str:
    """The same for pictures that are equal, whether in memory or in a file."""
    from PIL import Image

    opened = Image.open(BytesIO(picture)) if isinstance(picture, bytes) else picture
    return f"{opened.mode} {opened.size} {sha256(opened.tobytes()).hexdigest()}"


class Client:
    """One client of a server, with a connection of its own that it keeps."""

    def __init__(self, port: int, model: str, options: argparse.Namespace) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        size = f"{options.side}x{options.side}"
        self._asked = {"model": model, "prompt": PROMPT, "size": size, "num_inference_steps": options.steps}

    def paint(self, seed: int, form: str = FORMS[0]) -> bytes:
        """The picture's file; as a URL, it is fetched. Raises SystemExit for an answer other than 200."""
        body = json.dumps({**self._asked, "seed": seed, "response_format": form})
        told = json.loads(self._answer("POST", "/v1/images/generations", body))["data"][0][form]
        return base64.b64decode(told) if form == FORMS[0] else self._answer("GET", urlsplit(told).path)

    def _answer(self, method: str, path: str, body: str | None = None) -> bytes:
        self._connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise SystemExit(f"the server answered {answer.status}: {data[:500].decode(errors='replace')}")
        return data


def show(one: Comparison) -> None:
    """Print it for people."""
    ours, theirs = (statistics.median(side) for side in zip(*((r.ours, r.peer) for r in one.rounds), strict=True))
    each = " ".join(f"{each.ratio:.3f}" for each in one.rounds)
    verdict = "met" if one.met else "MISSED" if one.same else "MISSED: the pictures differ"
    print(one.name)
    print(f"  {ours:.3f} s / {theirs:.3f} s · ratio {one.ratio:.3f}x (rounds: {each})")
    print(f"  wanted {one.most:.2f}x at the most: {verdict}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
