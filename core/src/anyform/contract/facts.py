"""The facts that plugins and the kernel exchange: frozen, plain, JSON-shaped values.

Sizes are in bytes and times in seconds, always. Nothing here reads a file or imports an engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def fact(cls: type[T]) -> type[T]:
    """Make *cls* a fact: a frozen, slotted, keyword-only dataclass that can cross the wire."""
    return dataclass(frozen=True, slots=True, kw_only=True)(cls)


class Evidence(IntEnum):
    """How strongly a detector recognised a format; shown to users as a confidence."""

    NAME = 1
    """A file name or extension only."""
    LAYOUT = 2
    """Several files or keys that belong together."""
    MAGIC = 3
    """Bytes of the file itself."""


class Severity(IntEnum):
    """How much a finding matters. Only CRITICAL keeps a model from being loaded."""

    INFO = 1
    WARNING = 2
    CRITICAL = 3


class ModelFiles(Protocol):
    """One model's files, listed once and read at most once for all detectors.

    The same protocol is served by a folder on disk and by a remote listing, so a detector
    must go through `head` and `json`; `path` is only for addressed hooks on local files.
    """

    @property
    def path(self) -> Path:
        """The folder that the names in `files` are relative to."""

    @property
    def files(self) -> Mapping[str, int]:
        """Relative POSIX name -> size in bytes, sorted by name."""

    def head(self, name: str, size: int = 4096) -> bytes:
        """The first *size* bytes of *name*; fewer when the file is shorter, b"" when unreadable."""

    def json(self, name: str) -> Mapping[str, Any]:
        """The JSON object in *name*; empty when absent, over 16 MiB, or not a JSON object."""


@fact
class FormatMatch:
    """One thing that a format plugin found in a folder: one variant of one model."""

    format: str
    """Lower-case format name owned by the plugin, such as "gguf"."""
    entry: str
    """The file (or "." for the folder) that an engine is pointed at, relative to `ModelFiles.path`."""
    files: tuple[str, ...]
    """All files that this variant needs, `entry` included."""
    evidence: Evidence
    why: str
    """One clause for the user: what was recognised."""
    name: str = ""
    """The model's own name without its variant (`qwen3-0.6b`); empty: the folder's name serves."""
    variant: str = ""
    """What tells this one from its siblings in the folder, such as a quantization; empty for the only one."""
    order: int = 0
    """Which sibling is preferred when none is named: the lowest."""


@fact
class Finding:
    """One result of validation."""

    code: str
    severity: Severity
    text: str
    """A sentence with the value that was found and what to do."""


@fact
class Metadata:
    """What a model says of itself, read without an engine. None: it does not say."""

    name: str = ""
    version: str = ""
    """The format's version."""
    architecture: str = ""
    tasks: tuple[str, ...] = ()
    """What it can do, in `jobs` terms: chat, complete, embed, rerank, ... The first is its main task."""
    parameters: int | None = None
    context: int | None = None
    """Tokens it was trained for."""
    quantization: str = ""
    vocab_size: int | None = None
    weight_bytes: int | None = None
    features: tuple[str, ...] = ()
    """tools, thinking, vision, ..."""
    tensors: int | None = None
    tokenizer: str = ""
    license: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """The format plugin's own facts (layers, KV heads, template); JSON values only."""


@fact
class Device:
    """One place where weights can lie."""

    kind: str
    """cpu, cuda, metal, vulkan, rknpu, ...: lower case, owned by the plugin that found it."""
    index: int = 0
    name: str = ""
    total_bytes: int = 0
    free_bytes: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)
    """JSON values; the cpu device has `flags`, the instruction sets that matter. `notes`: what `doctor` tells of it, in
    clauses; `unified`: whether its memory is the main memory."""

    @property
    def id(self) -> str:
        """`cpu`, `cuda:0`, ..."""
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"


@fact
class Reduction:
    """Settings to retry a load with, when the first try died or was refused for memory."""

    options: Mapping[str, Any] = field(default_factory=dict)
    context_factor: float = 1.0
    """Multiplies the context; never applied to a context that the user asked for."""
    why: str = ""
    """What it avoids and what it costs, in one clause."""


@fact
class BackendInfo:
    """An engine that a plugin can drive, stated without importing it."""

    name: str
    reads: tuple[str, ...]
    """Formats it loads natively."""
    tasks: tuple[str, ...]
    converts: tuple[str, ...] = ()
    """Formats it can load by converting them first, slower or larger."""
    devices: tuple[str, ...] = ("cpu",)
    """Device kinds it can use at all; `Capabilities` says which it really has."""
    engine: tuple[str, ...] = ()
    """Distributions that must be installed, as pip names them, the engine itself first; empty: none needed."""
    install: str = ""
    """The command that installs the engine, quoted to the user when it is missing."""
    features: tuple[str, ...] = ()
    local_options: tuple[str, ...] = ()
    """Load options that reach into this machine (a path, a command): for its user's configuration and command line
    alone; a request over HTTP that names one is refused."""
    reductions: tuple[Reduction, ...] = ()
    """Tried in this order, cumulatively."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Load options that go with this backend wherever the user gives no others; they reach `load` in the plan."""
    trouble: str = ""
    """Of a backend without an engine: why it cannot be used here, such as a program that is absent, in a clause."""
    suggestions: str = ""
    """A TOML file of models that run on this machine by this backend, written as the core's own is; empty: none."""
    parallel: int = 4
    """How many requests share a model where the user does not say; 1 for an engine that runs one after another."""


@fact
class Capabilities:
    """The truth about an engine, learnt by importing it in a throw-away worker."""

    engine_version: str
    devices: tuple[str, ...] = ("cpu",)
    features: tuple[str, ...] = ()
    spills: bool = False
    """Whether a model may lie partly on an accelerator and partly in main memory."""


@fact
class Settings:
    """Load-time settings. Sampling belongs to a request and lies in the Job."""

    context: int | None = None
    """Tokens one request may use, prompt and answer together."""
    parallel: int | None = None
    """How many requests may run at once; None: the backend's own default."""
    device: str | None = None
    """A `Device.id` or kind; None: the router chooses."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The plugin's own load options (gpu_layers, lora, ...); the plugin checks them."""


@fact
class Saving:
    """Load options with which a model takes less memory."""

    options: Mapping[str, Any]
    bytes: int
    """How much less, with the settings that were asked about."""
    why: str
    """What it is and what it costs, in one clause."""
    moves: bool = False
    """Whether the bytes go from the accelerator to main memory; else they are not needed at all."""


@fact
class MemoryEstimate:
    """What a model will occupy, as a function of its settings: fixed + per_token * context * parallel."""

    weights_bytes: int
    bytes_per_token: int = 0
    """KV cache for one token of one request."""
    overhead_bytes: int = 0
    """Compute buffers and the engine itself."""
    confidence: float = 0.5
    """0 a guess ... 1 measured."""
    why: str = ""
    """The formula in words, with its source."""
    accelerated: float = 1.0
    """The share that lies on the accelerator that it runs on; the rest lies in main memory."""
    savings: tuple[Saving, ...] = ()
    """What the backend could do with less, the mildest first."""

    def spread(self, settings: Settings, device: str) -> dict[str, int]:
        """Bytes needed, by device id, where the model runs on *device*."""
        total = self.at(settings)
        there = total if device == "cpu" else round(total * self.accelerated)
        return {device: there} if there == total else {device: there, "cpu": total - there}

    def at(self, settings: Settings) -> int:
        """Bytes needed with these settings (context x parallel tokens of KV cache)."""
        tokens = (settings.context or 0) * (settings.parallel or 1)
        return self.weights_bytes + self.overhead_bytes + self.bytes_per_token * tokens


@fact
class Plan:
    """All that a worker needs to load one model with one backend."""

    plugin: str
    backend: str
    model: str
    """The name that users call it by."""
    path: str
    """The folder; `match.entry` lies in it."""
    match: FormatMatch
    metadata: Metadata
    settings: Settings
    devices: tuple[Device, ...] = ()
