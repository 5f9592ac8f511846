"""What loading taught about this machine: the reduced settings that an engine version needs here, if any."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anyform.contract.facts import BackendInfo, Capabilities, Metadata
from anyform.kernel.memo import Memo


class Learned:
    """Remembers, for a backend, engine version, machine and quantization, the options that made loading safe."""

    def __init__(self, state: Path | None) -> None:
        self._loads = Memo(state / "learned.json" if state else None)
        self._probes = Memo(state / "probes.json" if state else None)

    def options(self, key: str) -> Mapping[str, Any] | None:
        """Options to load with ({}: none needed); None: never tried."""
        known = self._loads.get(key)
        return known.get("options", {}) if isinstance(known, dict) else None

    def why(self, key: str) -> str:
        """What the remembered options avoid; empty when none are needed."""
        known = self._loads.get(key)
        return str(known.get("why", "")) if isinstance(known, dict) else ""

    def remember(self, key: str, options: Mapping[str, Any], why: str) -> None:
        self._loads.update({key: {"options": dict(options), "why": why}})

    def all(self) -> list[tuple[str, Mapping[str, Any]]]:
        """(key, {options, why}) of everything remembered; for doctor."""
        return [(key, value) for key, value in self._loads.items() if isinstance(value, dict)]

    def capabilities(self, key: str) -> Capabilities | None:
        known = self._probes.get(key)
        if not isinstance(known, dict):
            return None
        try:
            return Capabilities(
                engine_version=str(known["engine_version"]),
                devices=tuple(known["devices"]),
                features=tuple(known["features"]),
                spills=bool(known["spills"]),
            )
        except (KeyError, TypeError):
            return None

    def remember_probe(self, key: str, found: Capabilities) -> None:
        self._probes.update(
            {
                key: {
                    "engine_version": found.engine_version,
                    "devices": list(found.devices),
                    "features": list(found.features),
                    "spills": found.spills,
                }
            }
        )


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
