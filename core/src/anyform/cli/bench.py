"""`anyform bench MODEL`: tokens a second, time to the first token and between tokens, measured here and now."""

from __future__ import annotations

import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from anyform.cli import document
from anyform.cli.arguments import add_json, add_library, add_model, add_settings, positive
from anyform.cli.background import waited
from anyform.cli.opening import opened_for
from anyform.cli.run import load
from anyform.cli.table import pairs
from anyform.cli.terminal import errors, output
from anyform.contract.errors import Unsupported
from anyform.contract.events import Done, Progress
from anyform.contract.jobs import Complete, Generation, Sampling
from anyform.contract.model import Stop

if TYPE_CHECKING:
    from anyform.kernel.runtime import Runtime

WORDS = (
    "Once upon a time there was a machine that told stories to whoever asked it for one, and it never told one twice."
)


@dataclass
class Request:
    """One answer: when it was asked, when its pieces came, how many tokens it had."""

    began: float = 0.0
    arrivals: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    tokens: int = 0

    @property
    def first_s(self) -> float:
        return self.arrivals[0] - self.began

    @property
    def between_s(self) -> float:
        """From one token to the next, on average: several may come in one piece."""
        return (self.arrivals[-1] - self.arrivals[0]) / (self.tokens - 1)


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model(parser)
    parser.add_argument("--requests", type=positive, default=8, metavar="N", help="requests in all (default: 8)")
    parser.add_argument("--concurrency", type=positive, default=1, metavar="N", help="requests at once (default: 1)")
    parser.add_argument(
        "--tokens", type=positive, default=64, metavar="N", help="tokens to generate a request (default: 64)"
    )
    parser.add_argument(
        "--prompt", default=WORDS, metavar="TEXT", help="the prompt; each request has its number before it"
    )
    parser.add_argument("--here", action="store_true", help="run the model in this process, not in a worker")
    add_json(parser)
    add_settings(parser)
    add_library(parser)


def execute(args: Namespace) -> int:
    """Load, run all requests, print what was measured."""
    if args.parallel is None:
        args.parallel = args.concurrency
    with opened_for(args, "here" if args.here else "worker") as (runtime, name):
        tasks = runtime.metadata(runtime.find(name)).tasks
        if "complete" not in tasks:
            raise Unsupported(
                f"{name} does not continue text, so it has no tokens a second.",
                "`anyform imagine` tells the seconds of a picture."
                if "image" in tasks
                else "Take a model that chats or completes.",
            )
        load_s = load(runtime, name, _job(args, 0))
        backend = next((one.backend for one in runtime.loaded() if one.model == name), "")
        status = errors().status
        try:
            requests, wall_s = waited(lambda: _measure(runtime, name, args), lambda s: status(f"measuring … {s:.0f} s"))
        finally:
            status("")
    result = {
        "model": name,
        "backend": backend,
        "load_s": round(load_s, 3),
        **summary(requests, wall_s, args.concurrency),
    }
    if args.json:
        document.show(result)
    else:
        pairs(output(), [(key, str(value)) for key, value in result.items()])
    return 0


def summary(requests: Sequence[Request], wall_s: float, concurrency: int) -> dict[str, Any]:
    """The numbers of a run; times in milliseconds where the name says so."""
    firsts = [request.first_s for request in requests if request.arrivals]
    gaps = [request.between_s for request in requests if request.arrivals and request.tokens > 1]
    tokens = sum(request.tokens for request in requests)
    return {
        "requests": len(requests),
        "concurrency": concurrency,
        "prompt_tokens": sum(request.prompt_tokens for request in requests),
        "completion_tokens": tokens,
        "wall_s": round(wall_s, 3),
        "tokens_per_s": round(tokens / wall_s, 2) if wall_s else 0.0,
        "first_token_ms_p50": _ms(firsts, 0.5),
        "first_token_ms_p95": _ms(firsts, 0.95),
        "between_tokens_ms_p50": _ms(gaps, 0.5),
        "between_tokens_ms_p95": _ms(gaps, 0.95),
    }


def _measure(runtime: Runtime, name: str, args: Namespace) -> tuple[list[Request], float]:
    """All requests, by as many threads as run at once; the seconds from the first to the last."""
    numbers, requests = iter(range(args.requests)), [Request() for _ in range(args.requests)]
    troubles: list[BaseException] = []
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None or troubles:
                return
            try:
                _one(runtime, name, _job(args, number), requests[number])
            except BaseException as trouble:
                troubles.append(trouble)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(args.concurrency)]
    began = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if troubles:
        raise troubles[0]
    return requests, perf_counter() - began


def _one(runtime: Runtime, name: str, job: Complete, request: Request) -> None:
    request.began = perf_counter()
    for event in runtime.generate(name, job, Stop()):
        if isinstance(event, Done):
            request.prompt_tokens, request.tokens = event.usage.prompt_tokens, event.usage.completion_tokens
        elif not isinstance(event, Progress):
            request.arrivals.append(perf_counter())


def _job(args: Namespace, number: int) -> Complete:
    """The same greedy work each time; the number keeps one request from reusing the other's prompt."""
    how = Generation(sampling=Sampling(temperature=0), max_tokens=args.tokens, ignore_eos=True)
    return Complete(prompt=f"{number}. {args.prompt}", generation=how)


def _ms(values: Sequence[float], share: float) -> float | None:
    if not values:
        return None
    place = sorted(values)[min(int(len(values) * share), len(values) - 1)] if share != 0.5 else median(values)
    return round(place * 1000, 3)
