"""Loads models in this process. What was never tried here is first rehearsed in a throw-away worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyform.contract.facts import BackendInfo, Capabilities, Plan
from anyform.contract.model import LoadedModel
from anyform.kernel.plugins import Plugins

if TYPE_CHECKING:
    from anyform.workers.isolation import Progress, Workers


class Here:
    """A `Loader` without processes of its own; the kernel asks it to rehearse what could crash."""

    isolated = False

    def __init__(self, plugins: Plugins, workers: Workers) -> None:
        self._plugins, self._workers = plugins, workers

    def load(self, plan: Plan, progress: Progress | None = None) -> LoadedModel:
        """In this process, where nothing can be told of how far it is."""
        model: LoadedModel = self._plugins.ask_one(plan.plugin, "load", plan=plan)
        return model

    def rehearse(self, plan: Plan) -> None:
        self._workers.rehearse(plan)

    def probe(self, plugin: str, backend: BackendInfo) -> Capabilities:
        return self._workers.probe(plugin, backend)
