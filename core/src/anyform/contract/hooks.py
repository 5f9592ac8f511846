# mypy: disable-error-code="empty-body"
"""The hookspecs: ten questions that the kernel asks plugins. Pluggy is used before a model is loaded, never per token.

A hook is *collected* (every plugin is asked, each in its own `try`) or *addressed* (one plugin is asked by name).
An implementation may take fewer arguments than the spec. `docs/contract.md` is generated from these docstrings.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

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
)
from anyform.contract.jobs import Job
from anyform.contract.model import LoadedModel

PROJECT = "anyform"
CONTRACT = 1
"""Raised only by a change that breaks plugins. A plugin states the one it was written for, as ANYFORM_CONTRACT."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class ModelSource(Protocol):
    """A place where models come from."""

    name: str

    def find(self) -> Iterable[Path]:
        """Folders and files of models that lie here already; reads directory listings only."""


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
def list_backends() -> list[BackendInfo]:
    """Asks: which engines can you drive, and what do they read and do?
    When and where: collected, at start, in every process.
    Engine: not imported.
    Empty means: this plugin brings no engine.
    """


@hookspec
def find_devices() -> list[Device]:
    """Asks: which devices does this machine have, and how much memory is free?
    When and where: collected, whenever a snapshot of the hardware is taken.
    Engine: not imported.
    Empty means: none of the kind that this plugin looks for.
    """


@hookspec
def list_sources() -> list[ModelSource]:
    """Asks: where do models come from?
    When and where: collected, when the library is listed.
    Engine: not imported.
    Empty means: this plugin brings no source.
    """


@hookspec
def detect_format(files: ModelFiles) -> list[FormatMatch]:
    """Asks: which models of your formats lie in this folder?
    When and where: collected, for each folder; must be quick and must not raise on any bytes.
    Engine: not imported.
    Empty means: a stranger.
    """


@hookspec
def validate(files: ModelFiles, match: FormatMatch) -> list[Finding]:
    """Asks: is this model sound? Read in bounded memory and time, before native code sees it.
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
