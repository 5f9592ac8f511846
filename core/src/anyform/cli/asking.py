"""Turns the arguments of `run` into jobs, and the events of an answer into one reply."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any

from anyform.cli.arguments import positive, within
from anyform.contract import jobs
from anyform.contract.errors import Invalid
from anyform.contract.events import Done, Event, Reasoning, Text
from anyform.contract.jobs import Chat, Complete, Generation, Message, Sampling

FLOATS = {
    "temperature": "0: always the likeliest token",
    "top_p": "draw from the likeliest tokens that make up this share",
    "min_p": "drop tokens under this share of the likeliest one's",
    "typical_p": "locally typical sampling",
    "repeat_penalty": "over 1: repeat less",
    "presence_penalty": "over 0: return less to what was said",
    "frequency_penalty": "over 0: repeat frequent tokens less",
}
INTS = {
    "top_k": "draw from so many tokens",
    "repeat_last_n": "tokens that repeat_penalty looks back",
    "seed": "same seed, same text",
}


def add_generation(parser: ArgumentParser) -> None:
    """What every answer has in common."""
    group = parser.add_argument_group("answering")
    kinds: tuple[tuple[Callable[[str], float], Mapping[str, str]], ...] = ((float, FLOATS), (int, INTS))
    for kind, names in kinds:
        for name, text in names.items():
            group.add_argument(f"--{name.replace('_', '-')}", type=within(name, kind), metavar="N", help=text)
    group.add_argument("--max-tokens", type=positive, metavar="N", help="tokens to answer with at the most")
    group.add_argument("--stop", action="append", default=[], metavar="S", help="end the answer before the text S")
    group.add_argument("--schema", type=Path, metavar="FILE", help="a JSON schema that the answer must follow")
    group.add_argument("--grammar", type=Path, metavar="FILE", help="a GBNF grammar that the answer must follow")


def generation(args: Namespace) -> Generation:
    """The arguments of `add_generation`. Raises Invalid for a schema or grammar that cannot be read."""
    asked = {name: getattr(args, name) for name in (*FLOATS, *INTS)}
    if asked["seed"] == -1:
        asked["seed"] = None  # a random one, as over HTTP
    return Generation(
        sampling=Sampling(**asked),
        max_tokens=args.max_tokens,
        stop=tuple(args.stop),
        schema=_schema(args.schema) if args.schema else None,
        grammar=_read(args.grammar).decode(errors="replace") if args.grammar else "",
    )


def completed(how: Generation, request: Mapping[str, Any]) -> Generation:
    """*how*, with what *request*, fields by the names of the HTTP interface, says where it says nothing itself."""
    from anyform.http import generation as fields
    from anyform.http.fields import Fields

    limit = how.max_tokens or Fields(request).integer("max_tokens", "max_completion_tokens", low=1)
    under = fields.read(Fields(request), max_tokens=limit)
    said = {name: getattr(how.sampling, name) for name in (*FLOATS, *INTS)}
    asked: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    form = how if how.schema is not None or how.grammar else under
    return replace(
        under,
        sampling=replace(under.sampling, **asked),
        stop=how.stop or under.stop,
        n=1,
        schema=form.schema,
        grammar=form.grammar,
    )


def pictures(paths: Sequence[Path]) -> tuple[jobs.Picture, ...]:
    """The files at *paths*, as they are."""
    return tuple(jobs.Picture(data=_read(path)) for path in paths)


def message(role: str, text: str, images: Sequence[jobs.Picture] = ()) -> Message:
    """One turn of a conversation; pictures come before the text, as models are trained to see them."""
    return Message(role=role, parts=(*images, jobs.Text(text=text)))


@dataclass
class Reply:
    """One answer as it grows."""

    began: float = field(default_factory=monotonic)
    first_s: float | None = None
    """Seconds to the first piece of text."""
    text: str = ""
    reasoning: str = ""
    done: Done | None = None

    def take(self, event: Event) -> None:
        """Add what *event* brings."""
        if isinstance(event, (Text, Reasoning)) and event.text and self.first_s is None:
            self.first_s = monotonic() - self.began
        if isinstance(event, Text):
            self.text += event.text
        elif isinstance(event, Reasoning):
            self.reasoning += event.text
        elif isinstance(event, Done):
            self.done = event

    @property
    def finish(self) -> str:
        """Why it ended; empty while it has not."""
        return self.done.finishes[0].reason if self.done and self.done.finishes else ""

    @property
    def remarks(self) -> Sequence[str]:
        """What the model remarks on the request."""
        return tuple(self.done.extra.get("remarks") or ()) if self.done else ()

    def timings(self) -> Mapping[str, float | None]:
        """Seconds, and tokens a second of generation."""
        done = self.done or Done()
        speed = done.usage.completion_tokens / done.generate_s if done.generate_s else None
        return {
            "first_token_s": _rounded(self.first_s),
            "prompt_s": _rounded(done.prompt_s),
            "generate_s": _rounded(done.generate_s),
            "tokens_per_s": _rounded(speed, 2),
        }

    def speed(self) -> str:
        """One line for people."""
        usage, timings = (self.done or Done()).usage, self.timings()
        parts = [
            f"{usage.prompt_tokens} + {usage.completion_tokens} tokens",
            f"first after {timings['first_token_s']} s" if self.first_s is not None else "",
            f"{timings['tokens_per_s']} tokens/s" if timings["tokens_per_s"] else "",
            f"{usage.cached_tokens} reused" if usage.cached_tokens else "",
            self.finish,
        ]
        return " · ".join(part for part in parts if part)


def job(
    task: str, prompt: str, system: str, images: Sequence[jobs.Picture], how: Generation, thinking: bool | None
) -> Chat | Complete:
    """One question as a job. Raises Invalid for what a raw completion does not have."""
    if task == "complete":
        if images or system:
            raise Invalid(
                "a raw completion takes no system text and no pictures.", "Leave out --raw, or take a chat model."
            )
        return Complete(prompt=prompt, generation=how)
    before = (message("system", system),) if system else ()
    return Chat(messages=(*before, message("user", prompt, images)), thinking=thinking, generation=how)


def _schema(path: Path) -> Mapping[str, Any]:
    try:
        schema = json.loads(_read(path))
    except ValueError as error:
        raise Invalid(f"{path} is not JSON: {error}.", "Give a JSON schema.") from None
    if not isinstance(schema, dict):
        raise Invalid(f"{path} is not a JSON object.", "Give a JSON schema.")
    return schema


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror or error}.", "Check the spelling of the path.") from None


def _rounded(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(value, digits)
