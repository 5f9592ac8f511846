"""What a loaded model yields while it works. The last event is always one Done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, TypeAlias

from anyform.contract.facts import fact


@fact
class TokenLogprob:
    """One token: its text, its bytes (text may be a replacement), its log-probability."""

    token: str
    id: int
    bytes: tuple[int, ...]
    logprob: float | None = None
    """None: nothing comes before it, so nothing says how likely it was (the first token of an echoed prompt)."""
    top: tuple[TokenLogprob, ...] = ()
    """The most likely tokens at this place, best first; their own `top` is empty."""


@fact
class Text:
    """A piece of answer `index`. Whole UTF-8 only; may be empty when it only carries logprobs."""

    text: str
    index: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()


@fact
class Reasoning:
    """A piece of what a reasoning model thinks before it answers."""

    text: str
    index: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()


@fact
class ToolCall:
    """A piece of a tool call. The first piece of each `call` has id and name; arguments are JSON text to append."""

    call: int
    """0, 1, ...: which call of this answer."""
    index: int = 0
    id: str = ""
    name: str = ""
    arguments: str = ""


@fact
class Segment:
    """A stretch of transcribed speech; times in seconds from the start."""

    text: str
    start: float
    end: float
    extra: Mapping[str, Any] = field(default_factory=dict)


@fact
class Vector:
    """The embedding of input `index`: little-endian float32, `dimensions` of them."""

    data: bytes
    dimensions: int
    index: int = 0


@fact
class Scores:
    """Scores for input `index`; `labels` is parallel to `values`, or empty for documents in their order."""

    values: tuple[float, ...]
    labels: tuple[str, ...] = ()
    index: int = 0


@fact
class Blob:
    """A piece of binary output (picture, sound)."""

    data: bytes
    media_type: str
    index: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)


@fact
class Progress:
    """How far along: `done` of `total` in units of `stage`.

    A text backend yields Progress(stage="prompt", total=tokens) as its first event, as soon as the
    request is known to be valid and to fit, so that a server may answer 200 before the first token.
    """

    stage: str
    done: int = 0
    total: int = 0


@fact
class Usage:
    """Tokens counted by the model's own tokenizer, over all answers of a job."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Part of prompt_tokens whose computation was reused."""
    reasoning_tokens: int = 0


@fact
class Finish:
    """Why one answer ended: stop, length, tool_calls or cancelled; with the stop string that matched, if one did."""

    reason: str = "stop"
    stop: str = ""


@fact
class Done:
    """The last event of every job."""

    finishes: tuple[Finish, ...] = ()
    """One for each answer, in the order of `index`."""
    usage: Usage = Usage()
    prompt_s: float = 0.0
    generate_s: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)
    """May have `remarks`: sentences for the user on what was made of the request, such as values that were ignored."""


Event: TypeAlias = Text | Reasoning | ToolCall | Segment | Vector | Scores | Blob | Progress | Done
