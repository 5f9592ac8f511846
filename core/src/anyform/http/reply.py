"""The common shape of a resource: Ask (what a request wants) and Writer (how its events become bytes)."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii as quote
from typing import Any, Protocol

from anyform import __version__
from anyform.contract.events import Done, Event, Usage
from anyform.contract.facts import Plan
from anyform.contract.jobs import Job
from anyform.kernel.residence import Loaded
from anyform.kernel.runtime import Use

JSON = "application/json"
SSE = "text/event-stream; charset=utf-8"
FINGERPRINT = f"anyform-{__version__}"


@dataclass(kw_only=True)
class Course:
    """How the answering of one request goes, as far as its writer may tell."""

    began: float = field(default_factory=time.monotonic)
    """When it came, on the monotonic clock, in seconds."""
    load_s: float = 0.0
    """How long it waited for its turn and its model."""
    loaded: Loaded | None = None
    """The model that answers, for an Ask that is `informed`."""
    plan: Plan | None = None
    """How it was loaded: its metadata and settings; beside `loaded`."""
    cut: int = 0
    """How many messages were left out, since the whole conversation was over the context."""

    def elapsed_s(self) -> float:
        """Since it came."""
        return time.monotonic() - self.began


@dataclass(frozen=True, kw_only=True)
class Head:
    """What all parts of one answer share."""

    key: str
    """Random; the answer's id is a prefix and this."""
    created: int
    """Seconds since the epoch."""
    model: str
    origin: str = ""
    """Where the client reaches this server: scheme, name and port."""
    course: Course = field(default_factory=Course)


class Writer(Protocol):
    """Events -> bytes of the response body. Pure: no I/O, no clock; but pictures and responses that are fetched later
    are kept. One that numbers its events, or tells what has come so far, has `failed(fault) -> bytes` too: the end of
    its stream that a fault breaks off, instead of its dialect's `ending`.
    """

    media_type: str

    def write(self, event: Event, job: int) -> bytes:
        """What *event* of the request's *job*-th job adds to the body; b"" for nothing yet."""

    def end(self) -> bytes:
        """The rest of the body, once each job is done."""


class Shorter(Protocol):
    """Leaves out the beginning of a request."""

    def __call__(self, weight: float = 0) -> Ask | None:
        """The same with a turn less, or with as many less as have *weight*: see `shorten.shortened`; None when there is
        none to leave out.
        """


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A request, understood."""

    model: str
    jobs: tuple[Job, ...]
    writer: Callable[[Head], Writer]
    stream: bool = False
    prompt: str = "messages"
    """The field that holds the prompt; a prompt over the context is blamed on it."""
    heavy: bool = False
    """Whether writing takes long enough to be done in a thread."""
    typed: bool = False
    """Whether each event of its stream says its `type`; then a fault does too."""
    judged: tuple[str, ...] = ()
    """Fields of which the model alone knows what values there are."""
    spelt: Mapping[str, str] = field(default_factory=dict)
    """What the request calls fields that have several names, by the one that the model knows."""
    told: bool = False
    """Whether how far it is goes to the readers of /runtime/events."""
    use: Use | None = None
    """How long its model stays, and the like; None: as the body's `keep_alive` says."""
    shorter: Shorter | None = None
    """Called where the prompt is over the context, if the client lets it be cut."""
    cut: int = 0
    """How many messages were left out so far."""
    uncut: str = ""
    """What its client is told of cutting, where the prompt is over the context and is not cut, or no more; a sentence.
    """
    informed: bool = False
    """Whether its writer tells of the loaded model: `Course.loaded` and `plan`."""


def head(model: str, origin: str = "", course: Course | None = None) -> Head:
    """A new answer's head."""
    key = f"{random.getrandbits(96):024x}"
    return Head(key=key, created=int(time.time()), model=model, origin=origin, course=course or Course())


def dumps(value: Any) -> str:
    """Compact JSON in ASCII: U+0085, U+2028 and U+2029 would end a line in clients that split as Python does."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def sse(value: Any) -> bytes:
    """One server-sent event."""
    return f"data: {dumps(value)}\n\n".encode("ascii")


def remarks(done: Done) -> list[str]:
    """What the model remarks on the request, in sentences."""
    return list(done.extra.get("remarks") or ())


def whole(
    head: Head, id_prefix: str, kind: str, choices: Sequence[Any], counted: Usage, told: Sequence[str] = ()
) -> bytes:
    """The body of an answer that is not streamed; *kind*: its `object`; *told*: remarks."""
    answer = {
        "id": f"{id_prefix}-{head.key}",
        "object": kind,
        "created": head.created,
        "model": head.model,
        "choices": choices,
        "usage": usage(counted),
        "system_fingerprint": FINGERPRINT,
    }
    return dumps(answer | ({"remarks": list(told)} if told else {})).encode("ascii")


class Chunk:
    """The parts of a stream's chunks that no event changes, serialised once."""

    def __init__(self, head: Head, id_prefix: str, kind: str, counted: bool) -> None:
        """*counted*: whether usage is wanted; then every chunk but the last has `usage: null`."""
        self.open = (
            f'data: {{"id":"{id_prefix}-{head.key}","object":"{kind}","created":{head.created},'
            f'"model":{quote(head.model)},"system_fingerprint":"{FINGERPRINT}","choices":['
        )
        self.close = '],"usage":null}\n\n' if counted else "]}\n\n"
        self.tail = ',"finish_reason":null}' + self.close
        self._counted = counted

    def remarking(self, told: Sequence[str]) -> str:
        """`close` with the remarks *told*, which are said once, with the last finish_reason."""
        return f'],"remarks":{dumps(list(told))}{self.close[1:]}' if told else self.close

    def last(self, total: Usage) -> bytes:
        """The end of the stream, with *total* where usage is wanted."""
        if not self._counted:
            return b"data: [DONE]\n\n"
        return f'{self.open}],"usage":{dumps(usage(total))}}}\n\ndata: [DONE]\n\n'.encode("ascii")


def added(one: Usage, other: Usage) -> Usage:
    """The tokens of both."""
    return Usage(
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
        cached_tokens=one.cached_tokens + other.cached_tokens,
        reasoning_tokens=one.reasoning_tokens + other.reasoning_tokens,
    )


def usage(counted: Usage) -> dict[str, Any]:
    """OpenAI's usage object of a text answer."""
    return {
        "prompt_tokens": counted.prompt_tokens,
        "completion_tokens": counted.completion_tokens,
        "total_tokens": counted.prompt_tokens + counted.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": counted.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": counted.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def finish(done: Done, index: int) -> str:
    """OpenAI's finish_reason of answer *index*."""
    reason = done.finishes[index].reason if index < len(done.finishes) else "stop"
    return "stop" if reason == "cancelled" else reason


def logprob(value: float | None) -> float | None:
    """A log-probability that JSON can hold; OpenAI writes -9999.0 for what never happens, null for what has none."""
    return None if value is None else max(value, -9999.0)
