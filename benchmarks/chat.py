"""Measures streamed answers over HTTP: anyform against llama.cpp's `llama-server` and `llama_cpp.server`, in one run.

    python benchmarks/chat.py                    # the 0.1B model; 1, 8 and 32 clients
    python benchmarks/chat.py --model 0.6B --json

The same GGUF, machine, flags, requests and client for all. One server lives at a time. The servers take turns for
several rounds, since shared machines are noisy; each figure is the median over the rounds, and each ratio is the median
of the ratios within a round. Tokens per second count whole answers only: a stream that a server cut answers nobody.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import signal
import statistics
import string
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import models
import peers
from stream import Answer, ask

WANTED = {
    ("llama-server", 1): 1.0,
    ("llama-server", 8): 1.1,
    ("llama-server", 32): 1.1,
    ("llama_cpp.server", 8): 5.0,
    ("transformers-serve", 1): 1.0,
    ("transformers-serve", 8): 1.2,
    ("transformers-serve-continuous", 1): 1.0,
    ("transformers-serve-continuous", 8): 1.2,
}
"""Which ratios of tokens per second to a peer anyform is meant to reach, by peer and clients."""
SERVERS = ["anyform", "llama-server", "llama_cpp.server"]
START_S = 120.0
ANSWER_S = 600.0


@dataclass(frozen=True)
class Score:
    """One server in one round; times in milliseconds."""

    tokens_per_s: float
    first_ms: float
    first_p95_ms: float
    between_ms: float
    between_p95_ms: float
    whole: float
    """Streams that gave all the tokens they were asked for, of 1."""
    all_tokens_per_s: float
    """Counting the tokens of cut streams too."""
    prompt_tokens: float
    texts_per_token: float


def main() -> int:
    """Run and print; with --require, 1 if a wanted ratio was missed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = _options()
    model = models.path_of(options.model) if options.model in models.SHAPES else Path(options.model)
    if not options.json:
        print(
            f"{model.name} · {options.threads} threads · {options.tokens} tokens an answer · {_machine()}", flush=True
        )
    _warn_if_busy()
    results = [level(clients, model, options) for clients in options.clients]
    if options.json:
        print(json.dumps({"model": model.name, "machine": _machine(), "options": _plain(options), "levels": results}))
    missed = [ratio for one in results for ratio in one["ratios"] if ratio["met"] is False]
    return 1 if options.require and missed else 0


def _warn_if_busy() -> None:
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > cores / 4:
        print(f"this machine is busy (load {load:.1f} on {cores} cores): the ratios will mean little", file=sys.stderr)


def _options() -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return [name for name in text.split(",") if name]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="0.1B", help="0.1B, 0.6B or a GGUF file")
    parser.add_argument("--clients", type=lambda text: [int(n) for n in names(text)], default=[1, 8, 32])
    parser.add_argument("--servers", type=names, default=SERVERS, help=f"of {', '.join(peers.SERVERS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=128, help="tokens of each answer")
    parser.add_argument("--context", type=int, default=512, help="tokens of context of each request")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--requests", type=int, default=0, help="streams of each client; 0: 4 of one, else 2")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--require", action="store_true", help="exit with 1 if a wanted ratio was missed")
    options = parser.parse_args()
    if unknown := set(options.servers) - set(peers.SERVERS):
        parser.error(f"unknown servers: {', '.join(sorted(unknown))}")
    return options


def level(clients: int, model: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All rounds with so many clients: the servers' medians, and anyform's ratios to the others."""
    rounds: list[dict[str, Score]] = []
    for number in range(options.rounds):
        turn = options.servers if number % 2 == 0 else options.servers[::-1]
        rounds.append({name: measure(name, clients, model, options, seed=number) for name in turn})
    made = {
        "clients": clients,
        "servers": {name: asdict(_median(turn[name] for turn in rounds)) for name in options.servers},
        "ratios": _ratios(clients, rounds),
        "rounds": [{name: asdict(score) for name, score in turn.items()} for turn in rounds],
    }
    if not options.json:
        _show(made)
    return made


def measure(name: str, clients: int, model: Path, options: argparse.Namespace, seed: int) -> Score:
    """The server *name* of peers.SERVERS with *model*, started and asked by so many clients."""
    flags = peers.Flags(model, peers.free_port(), clients, options.context, options.threads, name)
    requests = options.requests or (4 if clients == 1 else 2)
    with peers.running(peers.SERVERS[name](flags)) as server:
        prompts = distinct_prompts(seed)
        _wait(server, flags, next(prompts))
        asyncio.run(_crowd(flags, [[next(prompts)] for _ in range(clients)], tokens=8))
        tasks = [[next(prompts) for _ in range(requests)] for _ in range(clients)]
        answers = asyncio.run(_crowd(flags, tasks, options.tokens))
    return _score(answers, options.tokens)


def distinct_prompts(seed: int) -> Iterator[str]:
    """Distinct prompts of about 32 tokens, which differ from their first word on."""
    rng = random.Random(seed)
    while True:
        yield " ".join("".join(rng.choices(string.ascii_lowercase, k=4)) for _ in range(8))


def _wait(server: subprocess.Popen[bytes], flags: peers.Flags, prompt: str) -> None:
    """Until the server answers a request, the model loaded."""
    deadline = time.monotonic() + START_S
    answer = None
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit(f"the server ended with {server.returncode} before it answered")
        answer = asyncio.run(_one(flags, prompt, 4))
        if answer.status == 200 and answer.tokens:
            return
        if answer.status in (400, 404, 422):
            raise SystemExit(f"the server refuses the request: {answer.error}")
        time.sleep(0.1)
    raise SystemExit(f"the server gave no answer in {START_S} s: {answer}")


async def _crowd(flags: peers.Flags, tasks: list[list[str]], tokens: int) -> list[Answer]:
    """One client for each list of prompts, all at once; each asks its prompts one after the other."""

    async def client(prompts: list[str]) -> list[Answer]:
        return [await _one(flags, prompt, tokens) for prompt in prompts]

    return [answer for answers in await asyncio.gather(*map(client, tasks)) for answer in answers]


async def _one(flags: peers.Flags, prompt: str, tokens: int) -> Answer:
    body: dict[str, Any] = {
        "model": flags.name,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if flags.model.is_file():
        body["ignore_eos"] = True  # transformers refuses it; the folders' answers never end
    return await ask(flags.port, "/v1/chat/completions", body, ANSWER_S)


def _score(answers: list[Answer], tokens: int) -> Score:
    spoken = [answer for answer in answers if answer.arrivals_s]
    if not spoken:
        raise SystemExit(f"no stream gave any text: {answers[0].error}")
    whole = [answer for answer in spoken if answer.tokens >= tokens and not answer.error]
    seconds = max(answer.arrivals_s[-1] for answer in spoken) - min(answer.sent_s for answer in answers)
    first = [answer.first_s * 1e3 for answer in spoken]
    gaps = [gap * 1e3 for answer in spoken for gap in answer.gaps_s] or [0.0]
    total = sum(answer.tokens for answer in spoken)
    return Score(
        tokens_per_s=sum(answer.tokens for answer in whole) / seconds,
        first_ms=statistics.median(first),
        first_p95_ms=_p95(first),
        between_ms=statistics.median(gaps),
        between_p95_ms=_p95(gaps),
        whole=len(whole) / len(answers),
        all_tokens_per_s=total / seconds,
        prompt_tokens=statistics.median(answer.prompt_tokens for answer in spoken),
        texts_per_token=sum(len(answer.arrivals_s) for answer in spoken) / max(total, 1),
    )


def _p95(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.95))]


def _median(scores: Iterable[Score]) -> Score:
    rows = [asdict(score) for score in scores]
    return Score(**{field: statistics.median(row[field] for row in rows) for field in rows[0]})


def _ratios(clients: int, rounds: list[dict[str, Score]]) -> list[dict[str, Any]]:
    return [_ratio(peer, clients, rounds) for peer in rounds[0] if peer != "anyform" and "anyform" in rounds[0]]


def _ratio(peer: str, clients: int, rounds: list[dict[str, Score]]) -> dict[str, Any]:
    """How many times the peer's speed ours is; null where the peer completed no answer at all."""
    pairs = [(turn["anyform"].tokens_per_s, turn[peer].tokens_per_s) for turn in rounds]
    each = [ours / theirs if theirs else math.inf for ours, theirs in pairs]
    ratio, wanted = statistics.median(each), WANTED.get((peer, clients))
    return {
        "peer": peer,
        "ratio": ratio if math.isfinite(ratio) else None,
        "rounds": [value if math.isfinite(value) else None for value in each],
        "wanted": wanted,
        "met": None if wanted is None else ratio >= wanted,
    }


def _show(level: dict[str, Any]) -> None:
    print(f"\n{level['clients']} client{'s' if level['clients'] > 1 else ''}")
    print(f"{'':28}{'tokens/s':>9}{'first token ms':>20}{'between texts ms':>20}{'whole':>8}{'tokens a text':>15}")
    print(f"{'':37}{'median':>12}{'p95':>8}{'median':>12}{'p95':>8}")
    for name, score in level["servers"].items():
        times = "".join(
            f"{score[median]:12.1f}{score[p95]:8.1f}"
            for median, p95 in (("first_ms", "first_p95_ms"), ("between_ms", "between_p95_ms"))
        )
        each = 1 / score["texts_per_token"]
        print(f"  {name:26}{score['tokens_per_s']:9.1f}{times}{score['whole']:8.0%}{each:15.1f}")
    for name, score in level["servers"].items():
        if score["whole"] < 1:
            cut, every = 1 - score["whole"], score["all_tokens_per_s"]
            print(f"  {name} cut {cut:.0%} of its streams; counting their tokens too it gave {every:.1f} tokens/s")
    for ratio in level["ratios"]:
        print(f"  anyform / {ratio['peer']}: {_words(ratio)}", flush=True)


def _words(ratio: dict[str, Any]) -> str:
    each = " ".join(f"{value:.2f}" if value is not None else "∞" for value in ratio["rounds"])
    value = f"{ratio['ratio']:.2f}x" if ratio["ratio"] is not None else "the peer completed no answer"
    verdict = "" if ratio["met"] is None else f" · wanted {ratio['wanted']}x: {'met' if ratio['met'] else 'MISSED'}"
    return f"{value} (rounds: {each}){verdict}"


def _machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line] if cpuinfo.exists() else []
    return f"{names[0].split(':')[1].strip() if names else sys.platform}, {os.cpu_count()} cores"


def _plain(options: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if name not in ("json", "require")}


if __name__ == "__main__":
    sys.exit(main())
