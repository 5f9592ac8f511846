"""What loading taught about this machine: the reduced settings that an engine version needs here, if any."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anyform.contract.facts import Capabilities
from anyform.workers.memo import Memo


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
