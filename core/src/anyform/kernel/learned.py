"""What this machine taught, as far as decisions need it, and what it is filed under. Who remembers is in `workers`."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from anyform.contract.facts import BackendInfo, Capabilities, MemoryEstimate, Metadata, Plan, Settings


class Learned(Protocol):
    """The options that made loading safe, and what probes found; by `load_key` and `engine_key`."""

    def why(self, key: str) -> str:
        """What the remembered options avoid; empty when none are needed."""

    def all(self) -> list[tuple[str, Mapping[str, Any]]]:
        """(key, {options, why}) of everything remembered; for doctor."""

    def capabilities(self, key: str) -> Capabilities | None: ...
    def remember_probe(self, key: str, found: Capabilities) -> None: ...


class Calibration(Protocol):
    """What models really took, beside what was estimated; by `memory_key`."""

    def record(self, key: str, settings: Settings, peak_bytes: int) -> None: ...
    def apply(self, key: str, estimate: MemoryEstimate, settings: Settings) -> MemoryEstimate:
        """*estimate* as measurements correct it."""


def engine_versions(backend: BackendInfo) -> tuple[dict[str, str], tuple[str, ...]]:
    """({distribution: version}, missing distributions) of a backend's engine, without importing it."""
    found: dict[str, str] = {}
    for name in backend.engine:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found, tuple(name for name in backend.engine if name not in found)


def engine_key(plugin: str, backend: BackendInfo, versions: Mapping[str, str] | None = None) -> str:
    """Names one backend with one version of its engine (the first distribution; the others are what it needs).

    *versions*: what `engine_versions` says, where that was asked already.
    """
    versions = engine_versions(backend)[0] if versions is None else versions
    engine = [f"{name} {versions[name]}" for name in backend.engine[:1] if name in versions]
    return " ".join([f"{plugin}/{backend.name}", *engine])


def load_key(plugin: str, backend: BackendInfo, fingerprint: str, format: str, metadata: Metadata) -> str:
    """Names what a crash at load depends on: engine version, machine, and kind of weights."""
    return f"{engine_key(plugin, backend)} | {fingerprint} | {format} {metadata.quantization}".rstrip()


def memory_key(engine: str, fingerprint: str, format: str, metadata: Metadata) -> str:
    """Names what memory depends on beside the settings. *engine*: `learned.engine_key`; the fingerprint is the
    hardware's.
    """
    model = (metadata.architecture, metadata.quantization, metadata.parameters, metadata.weight_bytes)
    return " | ".join([engine, fingerprint, format, *map(str, model)])


def placed(plan: Plan) -> Settings:
    """The settings of a plan with the device that it names."""
    return replace(plan.settings, device=plan.devices[0].id if plan.devices else plan.settings.device)
