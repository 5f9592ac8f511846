"""What is told of the engine that runs a model."""

from __future__ import annotations

from typing import Any

from anyform.contract.facts import Plan
from anyform.dialect import Server


class Engines:
    """Each backend's version and formats, by plugin and backend."""

    def __init__(self, here: Server) -> None:
        self._here = here
        self._known: dict[tuple[str, str], dict[str, Any]] = {}

    async def learn(self) -> None:
        """Ask once, and again where one was met that is new."""
        if not self._known:
            self._known = await self._here.quick(self._ask)

    def _ask(self) -> dict[tuple[str, str], dict[str, Any]]:
        known: dict[tuple[str, str], dict[str, Any]] = {}
        for state in self._here.runtime.capabilities(False):
            backend, proven = state.backend, state.capabilities
            installed = state.versions.get(backend.engine[0], "") if backend.engine else ""
            known[state.plugin, backend.name] = {
                "name": backend.name,
                "version": proven.engine_version if proven else installed,
                "supported_formats": list(dict.fromkeys((*backend.reads, *backend.converts))),
            }
        return known

    def of(self, plan: Plan) -> dict[str, Any]:
        """v0's `runtime` of a model that was loaded so."""
        known = self._known.get((plan.plugin, plan.backend))
        if known is None:
            self._known = {}
            return {"name": plan.backend, "version": "", "supported_formats": [plan.match.format]}
        return known
