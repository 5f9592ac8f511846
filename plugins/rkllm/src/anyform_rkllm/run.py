"""What one run of a model is given and gives, and how it may fail. Plain facts: no library is needed to read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anyform.contract.errors import Area, Category, Fault, WorkerDied

if TYPE_CHECKING:
    from anyform_rkllm.layout import Mode


class EngineFailed(Fault):
    """A run that the library ended with an error. The model stays usable."""

    code = "rkllm.engine_failed"
    category, area = Category.INTERNAL, Area.BACKEND


class EngineBusy(Fault):
    """A call while a run goes on: the library does one thing at a time."""

    code = "rkllm.busy"
    category, area = Category.BUSY, Area.BACKEND


class EngineStuck(WorkerDied):
    """A run that the library does not end. Only the end of its process does."""

    code = "rkllm.stuck"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Pictures that were encoded, all of one size."""

    embeddings: Any
    """float32, contiguous, n * tokens * width of the model; a buffer, such as an array of numpy or bytes."""
    tokens: int
    """Of each."""
    count: int
    width: int
    height: int
    start: str = ""
    """Texts around a picture, and in its place; empty: the model's own. Before ABI 1.3 they are load options
    (image_start, image_end, image_content), and others than those are refused."""
    end: str = ""
    content: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run is given. Either text (which the library puts in its template) or tokens."""

    text: str = ""
    tokens: Sequence[int] = ()
    pictures: Pictures | None = None
    role: str = "user"
    """Of the text, as is `thinking`: before ABI 1.2.1 others than these two are refused."""
    thinking: bool = False
    mode: Mode | None = None
    """None: generate."""
    keep_history: bool = False
    sampling: Mapping[str, float] = field(default_factory=dict)
    """By SamplingParam's names; those that are absent are the model's own. Ignored before 1.3: see `Abi`."""
    max_tokens: int | None = None
    """Before ABI 1.3 they are counted here, and the run is aborted."""
    lora: str = ""
    """The name of an adapter of load option loras; empty: that of load option lora, or none."""
    cache_file: str = ""
    """Where the prompt's cache is saved after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Perf:
    """Figures of the library for one run."""

    prompt_s: float
    prompt_tokens: int
    generate_s: float
    generated_tokens: int
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """States of the last layer: little-endian float32, tokens rows of width numbers."""

    data: bytes
    tokens: int
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a run ended."""

    finished: bool = False
    """Whether the model ended it; else it was aborted, or reached max_tokens before ABI 1.3."""
    perf: Perf | None = None
    hidden: Hidden | None = None
    tokens: int = 0
    """How many were given to `take`."""
    full: bool = False
    """Whether it ended with max_tokens."""


Take = Callable[[bytes, int], bool]
"""(text, its token's id) -> whether to go on. Text may be empty, or a part of a character. In the library's thread."""
