"""Loads models in worker processes. What drives a process is imported with the first: many commands start none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyform.contract.errors import LoadFailed
from anyform.contract.facts import BackendInfo, Capabilities, Plan

if TYPE_CHECKING:
    from anyform.workers.remote import Process, RemoteModel

PROBE_S = 120.0
"""How long an engine may take to be imported and asked."""


class Workers:
    """Loads each model in a process of its own."""

    isolated = True

    def load(self, plan: Plan) -> RemoteModel:
        """Start a worker and load. Raises the worker's Fault, or LoadFailed (crashed=True) if it died."""
        from anyform.workers.remote import Process, RemoteModel

        process = Process()
        try:
            ready = process.ask({"do": "load", "plugin": plan.plugin, "plan": plan})["ready"]
        except (EOFError, OSError) as error:
            process.kill()
            raise _crash(process, plan.model) from error
        except BaseException:
            process.kill()
            raise
        return RemoteModel(process, plan.model, ready["port"], ready["parallel"])

    def rehearse(self, plan: Plan) -> None:
        self.load(plan).close()

    def probe(self, plugin: str, backend: BackendInfo) -> Capabilities:
        from anyform.workers.remote import Process

        process = Process()
        try:
            reply = process.ask({"do": "probe", "plugin": plugin, "backend": backend}, PROBE_S)
        except (EOFError, TimeoutError, OSError) as error:
            process.kill()
            raise _crash(process, f"{plugin}/{backend.name}") from error
        finally:
            process.kill()
        found: Capabilities = reply["found"]
        return found


def _crash(process: Process, what: str) -> LoadFailed:
    return LoadFailed(
        f"the worker loading {what} died: {process.ending()}.", process.last_words(), crashed=True, pid=process.pid
    )
