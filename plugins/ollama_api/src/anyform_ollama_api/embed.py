"""POST /api/embed, and /api/embeddings, its older form for one text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from anyform.contract.jobs import Embed
from anyform.dialect import JSON, Ask, Done, Event, Fields, Head, Media, Rule, Vector, Writer, WrongType, dumps, floats
from anyform_ollama_api import options, request
from anyform_ollama_api.clock import nanoseconds

TOLD = "Texts over the context were cut at its end."
ASK = 'Send "truncate": true to have texts cut at its end.'
ELSEWHERE = '/api/embed cuts texts, with "truncate": true.'


def inputs(body: Fields) -> tuple[str, ...]:
    """The texts of /api/embed; none where there is nothing to do. Raises Invalid."""
    value = body.data.get("input")
    if isinstance(value, str):
        return (value,) if value else ()
    if not isinstance(value, list | None) or not all(isinstance(item, str) for item in value or ()):
        raise WrongType("invalid input type: 'input' must be a string or a list of strings.", param="input")
    return tuple(value or ())


def prompt(body: Fields) -> tuple[str, ...]:
    """The text of /api/embeddings; none where it is empty. Raises Invalid."""
    text = body.text("prompt")
    return (text,) if text else ()


def read(values: Mapping[str, Any], media: Media, rule: Rule) -> Ask:
    """The request as an Embed job. Raises Invalid."""
    body = Fields(values)
    job = Embed(inputs=inputs(body), dimensions=body.integer("dimensions", low=1))
    ask = _ask(body, job, Whole, "input")
    if not request.truncates(body, rule):
        return replace(ask, uncut=ASK)
    cut = replace(ask, jobs=(replace(job, truncate=True),), cut=1)
    return replace(ask, shorter=lambda weight=0: cut)


def read_one(values: Mapping[str, Any], media: Media, rule: Rule) -> Ask:
    """The request of /api/embeddings as an Embed job. Raises Invalid."""
    body = Fields(values)
    return replace(_ask(body, Embed(inputs=prompt(body)), One, "prompt"), uncut=ELSEWHERE)


def _ask(body: Fields, job: Embed, writer: Callable[[Head], Writer], field: str) -> Ask:
    options.read(body)
    return Ask(model=request.model(body), jobs=(job,), writer=writer, prompt=field, use=request.use(body))


class Whole:
    """Collects vectors, which may come in any order."""

    media_type = JSON

    def __init__(self, head: Head) -> None:
        self._head, self._done = head, Done()
        self._vectors: dict[int, bytes] = {}

    def write(self, event: Event, job: int = 0) -> bytes:
        if isinstance(event, Vector):
            self._vectors[event.index] = event.data
        elif isinstance(event, Done):
            self._done = event
        return b""

    def end(self) -> bytes:
        course = self._head.course
        vectors = ",".join(floats(self._vectors[index]) for index in sorted(self._vectors))
        tail = dumps(
            {
                "total_duration": nanoseconds(course.elapsed_s()),
                "load_duration": nanoseconds(course.load_s),
                "prompt_eval_count": self._done.usage.prompt_tokens,
                **({"truncated": True, "remarks": [TOLD]} if course.cut else {}),
            }
        )
        return f'{{"model":{dumps(self._head.model)},"embeddings":[{vectors}],{tail[1:]}'.encode("ascii")


class One(Whole):
    """Writes the only vector, and nothing else."""

    def end(self) -> bytes:
        return f'{{"embedding":{floats(self._vectors[0])}}}'.encode("ascii")
