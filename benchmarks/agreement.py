"""Asks several engines the same over HTTP and compares their greedy answers, letter for letter.

    python benchmarks/agreement.py      # the sample model: GGUF F16 in llama.cpp, and every form of `forms.py`
    python benchmarks/agreement.py --form onnx --form onnx_genai      # these alone; neither needs torch
    python benchmarks/agreement.py --left M-F16.gguf --folder M-folder --stories    # any other model, by completions

llama.cpp (or a form: `--against safetensors`) answers each question alone and not streamed: the reference. Each form
answers it in four ways: alone and among 32 at once, each streamed and not. Every difference is listed, with how far
apart the two tokens were where the answers part (in nats, by each engine's own log-probabilities). Forms whose engine
is not installed are named and left.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import peers
from forms import FORMS
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
    """Run and print; 1 if fewer than the wanted share are equal in any way of asking a form that is to be equal."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = _options()
    with tempfile.TemporaryDirectory() as place:
        left, folder, questions = _subjects(options, Path(place))
        backend = "llama.cpp"
        if options.against:
            form = FORMS[options.against]
            left, backend = form.make(folder, Path(place) / "reference"), form.backend
        print(f"{len(questions)} questions · the reference: {options.against or left.name} in {backend}", flush=True)
        with _served(left, backend, context(folder)) as one:
            short = [
                name for name in _forms(options) if not _agrees(name, folder, Path(place), one, questions, options)
            ]
    return 1 if short else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--left", type=Path, help="a GGUF (default: the sample model's, in F16)")
    parser.add_argument("--against", choices=FORMS, help="the reference, instead of a GGUF")
    parser.add_argument("--folder", type=Path, help="a Hugging Face folder (default: the sample model's)")
    parser.add_argument("--form", action="append", choices=FORMS, help="which; again for another (default: all)")
    parser.add_argument("--way", action="append", choices=WAYS, help="of asking; again for another (default: all)")
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

    folder = options.folder or SAMPLE
    left = options.left or gguf.write(SAMPLE, place / "sample-F16.gguf", "F16")
    if options.stories:
        asked = [Question(f"{start} {middle}", tokens=options.tokens) for start in STARTS for middle in MIDDLES]
        return left, folder, asked
    examples = held_out(options.per_category)
    return (
        left,
        folder,
        [Question(render(one)[0], _openai(one.messages[:-1]), one.tools, options.tokens) for one in examples],
    )


def _forms(options: argparse.Namespace) -> Iterator[str]:
    """Those that can be made and run here."""
    for name in options.form or FORMS:
        if missing := FORMS[name].missing():
            print(f"{name}: left out, {', '.join(missing)} not installed", flush=True)
        else:
            yield name


def _agrees(
    name: str, folder: Path, place: Path, left: int, questions: Sequence[Question], options: argparse.Namespace
) -> bool:
    """Whether enough answers of a form are equal; one that holds other numbers is only told of."""
    form = FORMS[name]
    right = form.make(folder, place / name)
    with _served(right, form.backend, context(folder)) as other:
        shares = asyncio.run(_compare(f"{name} in {form.backend}", left, other, questions, options.way or list(WAYS)))
    return not form.exact or min(shares) >= WANTED


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


def context(folder: Path) -> int:
    """Tokens for a question and its answer: no more than the model was trained for."""
    said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return min(CONTEXT, int(said["max_position_embeddings"]))


@contextlib.contextmanager
def _served(model: Path, backend: str, context: int) -> Iterator[int]:
    """The port of a server whose one model *backend* runs."""
    port = peers.free_port()
    command = [
        *(sys.executable, "-m", "anyform", "serve", str(model), "--port", str(port), "--prefer", backend, "--warm"),
        *("--context", str(context), "--parallel", str(AT_ONCE)),
    ]
    with peers.running(command) as process:
        _wait(port, backend, process)
        yield port


def _wait(port: int, backend: str, process: subprocess.Popen[bytes]) -> None:
    """Until the model is loaded. Ends the program where another backend runs it, or none does."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            loaded = httpx.get(f"http://127.0.0.1:{port}/runtime/status").json()["models"]
            if loaded and loaded[0].get("state") == "ready":
                if backend not in loaded[0].values():
                    raise SystemExit(f"the model is not run by {backend}: {loaded[0]}")
                return
        time.sleep(0.2)
    raise SystemExit(f"the model was not loaded in 120 s by {backend}, or its server ended")


async def _compare(
    title: str, left: int, right: int, questions: Sequence[Question], ways: Sequence[str]
) -> list[float]:
    """The share of equal answers for each way of asking."""
    async with _client(left) as one, _client(right) as other:
        expected = await _reference(left, one, questions)
        shares = []
        for way in ways:
            asking, at_once = WAYS[way]
            began = time.monotonic()
            found = await _all(other, questions, asking, at_once)
            apart = [place for place, pair in enumerate(zip(expected, found, strict=True)) if pair[0] != pair[1]]
            shares.append(1 - len(apart) / len(questions))
            said = f"{len(questions) - len(apart)} of {len(questions)} equal"
            print(f"{title}, {way}: {shares[-1]:.1%}, {said}, in {time.monotonic() - began:.0f} s", flush=True)
            for place in apart:
                print(f"  {await _gap(one, other, questions[place], (expected[place], found[place]))}", flush=True)
        return shares


_REFERENCES: dict[int, list[Said]] = {}
"""By the port of a reference: what it answered."""


async def _reference(port: int, client: AsyncOpenAI, questions: Sequence[Question]) -> list[Said]:
    """Asked once, whatever the number of forms."""
    if port not in _REFERENCES:
        _REFERENCES[port] = await _all(client, questions, whole, 1)
    return _REFERENCES[port]


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


WAYS: dict[str, tuple[Asking, int]] = {
    "alone": (whole, 1),
    "alone, streamed": (streamed, 1),
    f"{AT_ONCE} at once": (whole, AT_ONCE),
    f"{AT_ONCE} at once, streamed": (streamed, AT_ONCE),
}
"""How a form is asked: the call, and how many at once."""


async def _gap(one: AsyncOpenAI, other: AsyncOpenAI, question: Question, said: tuple[Said, Said]) -> str:
    """Where the two answers *said* to *question* part, and by how much each engine preferred its own token."""
    left, right = [await _tokens(client, question) for client in (one, other)]
    for place, (mine, theirs) in enumerate(zip(left, right, strict=False)):
        if mine[0] != theirs[0]:
            gaps = [_lead(mine[1], theirs[0]), _lead(theirs[1], mine[0])]
            ahead = " and ".join("more than 5 tokens" if gap is None else f"{gap:.4f} nats" for gap in gaps)
            return f"{question.prompt[-60:]!r}: token {place} {mine[0]!r} against {theirs[0]!r}, ahead by {ahead}"
    told = " against ".join(repr(text or calls) for text, calls in said)
    return f"{question.prompt[-60:]!r}: {told}, but the same {len(left)} tokens when asked again alone"


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
