# mypy: disable-error-code="empty-body"
"""The hookspecs: ten questions that the kernel asks plugins. Pluggy is used before a model is loaded, never per token.

A hook is *collected* (every plugin is asked, each in its own `try`) or *addressed* (one plugin is asked by name).
An implementation may take fewer arguments than the spec. `docs/contract.md` is generated from these docstrings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

from anyform.contract.facts import (
    BackendInfo,
    Capabilities,
    Device,
    Finding,
    FormatMatch,
    MemoryEstimate,
    Metadata,
    ModelFiles,
    Plan,
    Settings,
    fact,
)

if TYPE_CHECKING:
    from anyform.contract.jobs import Job
    from anyform.contract.model import LoadedModel

PROJECT = "anyform"
CONTRACT = 1
"""Raised only by a change that breaks plugins. A plugin states the one it was written for, as ANYFORM_CONTRACT."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@fact
class Place:
    """Where something lies that may be a model: a file, a folder, some files of a folder, or a folder to search."""

    path: Path
    """A file or a folder. Symbolic links are kept: what a link is called may be the model's name."""
    name: str = ""
    """What the source calls it, such as `owner/repo`; empty: the file's stem or the folder's name serves.
    In a folder to search: what the names below begin with."""
    aliases: tuple[str, ...] = ()
    """Further names of the very same model, such as a store's other tags."""
    files: tuple[str, ...] = ()
    """Of the folder only these files, relative POSIX names; empty: all."""
    search: bool = False
    """Whether models lie anywhere below the folder, to be found by looking."""
    skip: tuple[str, ...] = ()
    """In a folder to search: folders below it, relative POSIX names, that are not looked into."""
    revision: str = ""
    """Which state of a repository it is."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Relative name -> SHA-256 in hexadecimal, where the source knows it without reading the file."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What the store says of the model (template, parameters, license): JSON values, shown and not acted upon."""


class ModelSource(Protocol):
    """A store of models. They are read where they lie; a source writes nothing."""

    name: str
    """One lower-case word, which settings and `anyform list` show: `huggingface`, `ollama`."""

    def find(self) -> Iterable[Place]:
        """All places of this store; empty when the store does not exist. Reads listings and small records only.

        The better place comes first where two have one name. What cannot be read is left out.
        """


class Routes(Protocol):
    """Where a plugin hangs its HTTP routes: the server's FastAPI application, as far as a plugin needs it."""

    def add_api_route(self, path: str, endpoint: Any, **options: Any) -> None: ...
    def include_router(self, router: Any, **options: Any) -> None: ...


class Runtime(Protocol):
    """The kernel's facade, as far as a dialect needs it."""

    def names(self) -> list[str]:
        """Names of all models that are known."""

    def open(self, model: str, job: Job | None = None, settings: Settings | None = None) -> LoadedModel:
        """A loaded model by name; loads it if need be. Raises ModelNotFound, NoBackend, LoadFailed, OutOfMemory."""


@hookspec
def list_backends(tables: Mapping[str, Any]) -> list[BackendInfo]:
    """Asks: which engines can you drive, what do they read and do? *tables*: [plugin.NAME] of the settings file.
    When and where: collected, at start, in every process.
    Engine: not imported.
    Empty means: this plugin brings no engine.
    """


@hookspec
def find_devices(tables: Mapping[str, Any]) -> list[Device]:
    """Asks: which devices does this machine have, and how much memory is free? *tables*: as for `list_backends`.
    When and where: collected, whenever a snapshot of the hardware is taken.
    Engine: not imported.
    Empty means: none of the kind that this plugin looks for.
    """


@hookspec
def list_sources() -> list[ModelSource]:
    """Asks: which stores of models do you know? Such as the models that a package brings along.
    When and where: collected, when the library is first looked at.
    Engine: not imported.
    Empty means: this plugin brings no source.
    """


@hookspec
def detect_format(files: ModelFiles, tables: Mapping[str, Any]) -> list[FormatMatch]:
    """Asks: which models of your formats lie in this folder? *tables*: as for `list_backends`.
    When and where: collected, for each folder; must be quick and must not raise on any bytes.
    Engine: not imported.
    Empty means: a stranger.
    """


@hookspec
def validate(files: ModelFiles, match: FormatMatch, tables: Mapping[str, Any]) -> list[Finding]:
    """Asks: is this model sound? Read in bounded memory and time, before native code sees it. *tables*: as above.
    When and where: addressed to the plugin that made the match, before each load.
    Engine: not imported.
    Empty means: nothing to remark.
    """


@hookspec
def extract_metadata(files: ModelFiles, match: FormatMatch) -> Metadata:
    """Asks: what does this model say of itself?
    When and where: addressed to the plugin that made the match; cached by path, size and mtime.
    Engine: not imported.
    Empty means: fields that the files do not tell are None or empty.
    """


@hookspec
def estimate_memory(backend: BackendInfo, metadata: Metadata, settings: Settings) -> MemoryEstimate:
    """Asks: what will this model occupy in this backend?
    When and where: addressed to the backend's plugin, while routing.
    Engine: not imported.
    Empty means: not allowed; a guess has a low confidence.
    """


@hookspec
def probe_backend(backend: BackendInfo) -> Capabilities:
    """Asks: import the engine; which version is it, and which devices does it really have?
    When and where: addressed, in a throw-away worker; cached by the engine's version.
    Engine: imported.
    Empty means: not allowed; raise EngineMissing if it cannot be imported.
    """


@hookspec
def load(plan: Plan) -> LoadedModel:
    """Asks: load this model, warm it up, return it.
    When and where: addressed, in a worker or in this process; blocks.
    Engine: imported.
    Empty means: not allowed; raise LoadFailed, OutOfMemory or Invalid (an option).
    """


@hookspec
def add_routes(routes: Routes, runtime: Runtime) -> None:
    """Asks: which HTTP routes do you add?
    When and where: collected, once, when a server starts.
    Engine: not imported.
    Empty means: none.
    """
