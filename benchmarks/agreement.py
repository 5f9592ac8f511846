"""Asks two engines the same over HTTP and compares their greedy answers, letter for letter.

    python benchmarks/agreement.py      # the sample model: GGUF F16 in llama.cpp, its folder in transformers
    python benchmarks/agreement.py --left M-F16.gguf --right M-folder --stories    # any other model, by completions

The left engine answers each question alone and not streamed: the reference. The right one answers it in four ways:
alone and among 32 at once, each streamed and not. Every difference is listed, with how far apart the two tokens were
where the answers part (in nats, by each engine's own log-probabilities).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import peers
from openai import AsyncOpenAI

AT_ONCE = 32
CONTEXT = 2048
WANTED = 0.99
"""The share of answers that is meant to be equal, in each way of asking."""
MOST = 200
"""Tokens of an answer."""
STARTS = ("Once upon a time", "One day, a", "There was a", "Lily and Tom", "The little", "In the park,")
MIDDLES = (
    "little girl",
    "big dog",
    "red ball",
    "boy named Tim",
    "small bird",
    "happy cat",
    "old tree",
    "cake",
    "sad fish",
)


@dataclass(frozen=True)
class Question:
    """What both engines are asked. `prompt`: as the model reads it."""

    prompt: str
    messages: Sequence[Any] = ()
    """A conversation; empty: the prompt is to be completed."""
    tools: Sequence[Any] = ()
    tokens: int = MOST
    """Of the answer, at the most."""


Said = tuple[str, tuple[tuple[str, str], ...]]
"""An answer: its text, and the names and arguments of its tool calls."""
Asking = Callable[[AsyncOpenAI, Question], Awaitable[Said]]


def main() -> int:
    """Run and print; 1 if fewer than the wanted share are equal in any way of asking."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = _options()
    with tempfile.TemporaryDirectory() as place:
        left, right, questions = _subjects(options, Path(place))
        print(f"{len(questions)} questions · left {left.name} · right {right.name}", flush=True)
        with _served(left, "gguf_llamacpp") as one, _served(right, "hf_transformers") as other:
            shares = asyncio.run(_compare(one, other, questions))
    return 0 if min(shares) >= WANTED else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--left", type=Path, help="a GGUF (default: the sample model's, in F16)")
    parser.add_argument("--right", type=Path, help="a Hugging Face folder (default: the sample model's)")
    parser.add_argument(
        "--stories", action="store_true", help="complete beginnings of stories, not the sample's questions"
    )
    parser.add_argument(
        "--per-category", type=int, default=60, metavar="N", help="questions of the sample's (default: 60)"
    )
    parser.add_argument(
        "--tokens", type=int, default=MOST, metavar="N", help="of an answer, at the most (default: 200)"
    )
    return parser.parse_args()


def _subjects(options: argparse.Namespace, place: Path) -> tuple[Path, Path, list[Question]]:
    from anyform_samples import gguf
    from anyform_samples.corpus import held_out, render
    from anyform_samples.layout import SAMPLE

    right = options.right or SAMPLE
    left = options.left or gguf.write(SAMPLE, place / "sample-F16.gguf", "F16")
    if options.stories:
        return (
            left,
            right,
            [Question(f"{start} {middle}", tokens=options.tokens) for start in STARTS for middle in MIDDLES],
        )
    return (
        left,
        right,
        [
            Question(render(one)[0], _openai(one.messages[:-1]), one.tools, options.tokens)
            for one in held_out(options.per_category)
        ],
    )


def _openai(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The corpus's messages as OpenAI wants them: calls have ids, which results name in their order."""
    made: list[dict[str, Any]] = []
    open_ids: list[str] = []
    for place, message in enumerate(messages):
        one = dict(message)
        if calls := message.get("tool_calls"):
            open_ids = [f"call_{place}_{number}" for number in range(len(calls))]
            one["tool_calls"] = [_call(id, call["function"]) for id, call in zip(open_ids, calls, strict=True)]
            one.setdefault("content", None)
        if message["role"] == "tool":
            one["tool_call_id"] = open_ids.pop(0)
        made.append(one)
    return made


def _call(id: str, function: Mapping[str, Any]) -> dict[str, Any]:
    arguments = function["arguments"]
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {"id": id, "type": "function", "function": {"name": function["name"], "arguments": text}}


@contextlib.contextmanager
def _served(model: Path, plugin: str) -> Iterator[int]:
    """The port of a server whose one model *plugin* runs."""
    port = peers.free_port()
    command = [
        *(sys.executable, "-m", "anyform", "serve", str(model), "--port", str(port), "--prefer", plugin, "--warm"),
        *("--context", str(CONTEXT), "--parallel", str(AT_ONCE)),
    ]
    with peers.running(command):
        _wait(port, plugin)
        yield port


def _wait(port: int, plugin: str) -> None:
    """Until the model is loaded. Ends the program where another plugin runs it, or none does."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            loaded = httpx.get(f"http://127.0.0.1:{port}/runtime/status").json()["models"]
            if loaded and loaded[0].get("state") == "ready":
                if plugin not in json.dumps(loaded[0]):
                    raise SystemExit(f"the model is not run by {plugin}: {loaded[0]}")
                return
        time.sleep(0.2)
    raise SystemExit(f"the model was not loaded in 120 s by {plugin}")


async def _compare(left: int, right: int, questions: Sequence[Question]) -> list[float]:
    """The share of equal answers for each way of asking."""
    async with _client(left) as one, _client(right) as other:
        expected = await _all(one, questions, whole, 1)
        shares = []
        for title, asking, at_once in (
            ("alone, whole", whole, 1),
            ("alone, streamed", streamed, 1),
            (f"{AT_ONCE} at once, whole", whole, AT_ONCE),
            (f"{AT_ONCE} at once, streamed", streamed, AT_ONCE),
        ):
            began = time.monotonic()
            found = await _all(other, questions, asking, at_once)
            apart = [place for place, pair in enumerate(zip(expected, found, strict=True)) if pair[0] != pair[1]]
            shares.append(1 - len(apart) / len(questions))
            print(f"{title}: {shares[-1]:.1%} equal, in {time.monotonic() - began:.0f} s", flush=True)
            for place in apart:
                print(f"  {await _gap(one, other, questions[place])}", flush=True)
        return shares


@contextlib.asynccontextmanager
async def _client(port: int) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", timeout=600) as client:
        yield client


async def _all(client: AsyncOpenAI, questions: Sequence[Question], asking: Asking, at_once: int) -> list[Said]:
    room = asyncio.Semaphore(at_once)

    async def one(question: Question) -> Said:
        async with room:
            return await asking(client, question)

    return list(await asyncio.gather(*map(one, questions)))


async def whole(client: AsyncOpenAI, question: Question) -> Said:
    """The answer in one body."""
    model = (await client.models.list()).data[0].id
    if not question.messages:
        made = await client.completions.create(
            model=model, prompt=question.prompt, max_tokens=question.tokens, temperature=0
        )
        return made.choices[0].text, ()
    given: dict[str, Any] = {"tools": list(question.tools)} if question.tools else {}
    answer = await client.chat.completions.create(
        model=model, messages=list(question.messages), max_tokens=question.tokens, temperature=0, **given
    )
    message = answer.choices[0].message
    calls = tuple((call.function.name, call.function.arguments) for call in message.tool_calls or ())
    return message.content or "", calls


async def streamed(client: AsyncOpenAI, question: Question) -> Said:
    """The answer, put together from a stream's pieces."""
    model = (await client.models.list()).data[0].id
    if not question.messages:
        pieces = await client.completions.create(
            model=model, prompt=question.prompt, max_tokens=question.tokens, temperature=0, stream=True
        )
        return "".join([piece.choices[0].text async for piece in pieces if piece.choices]), ()
    given: dict[str, Any] = {"tools": list(question.tools)} if question.tools else {}
    stream = await client.chat.completions.create(
        model=model, messages=list(question.messages), max_tokens=question.tokens, temperature=0, stream=True, **given
    )
    text = ""
    calls: dict[int, list[str]] = {}
    async for piece in stream:
        for choice in piece.choices:
            text += choice.delta.content or ""
            for call in choice.delta.tool_calls or ():
                parts = calls.setdefault(call.index, ["", ""])
                parts[0] += call.function.name or ""
                parts[1] += call.function.arguments or ""
    return text, tuple((name, arguments) for name, arguments in calls.values())


async def _gap(one: AsyncOpenAI, other: AsyncOpenAI, question: Question) -> str:
    """Where two answers to *question* part, and by how much each engine preferred its own token."""
    left, right = [await _tokens(client, question) for client in (one, other)]
    for place, (mine, theirs) in enumerate(zip(left, right, strict=False)):
        if mine[0] != theirs[0]:
            gaps = [_lead(mine[1], theirs[0]), _lead(theirs[1], mine[0])]
            said = " and ".join("more than 5 tokens" if gap is None else f"{gap:.4f} nats" for gap in gaps)
            return f"{question.prompt[-60:]!r}: token {place} {mine[0]!r} against {theirs[0]!r}, ahead by {said}"
    return f"{question.prompt[-60:]!r}: the same tokens when asked again alone, {len(left)} and {len(right)}"


async def _tokens(client: AsyncOpenAI, question: Question) -> list[tuple[str, dict[str, float]]]:
    """Tokens of the greedy completion, and the log-probabilities of the likeliest at each place."""
    model = (await client.models.list()).data[0].id
    made = await client.completions.create(
        model=model, prompt=question.prompt, max_tokens=question.tokens, temperature=0, logprobs=5
    )
    told = made.choices[0].logprobs
    return list(zip(told.tokens or [], told.top_logprobs or [], strict=True)) if told else []


def _lead(alternatives: dict[str, float], other: str) -> float | None:
    """How far the likeliest token is ahead of *other*; None where that is not among those told."""
    return max(alternatives.values()) - alternatives[other] if other in alternatives else None


if __name__ == "__main__":
    sys.exit(main())
