"""Loads models in worker processes. What drives a process is imported with the first: many commands start none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from anyform.contract.errors import LoadFailed
from anyform.contract.facts import BackendInfo, Capabilities, Plan

if TYPE_CHECKING:
    from anyform.workers.remote import Process, RemoteModel

Progress = Callable[[int], None]
PROBE_S = 120.0
"""How long an engine may take to be imported and asked."""


LOAD_S = 600.0
"""How long a model may take to load."""
TOLD_S = 0.5
"""How often a load that goes on tells how far it is."""


class Workers:
    """Loads each model in a process of its own."""

    isolated = True

    def __init__(self, load_s: float = LOAD_S) -> None:
        """*load_s*: how long a model may take to load; its worker is ended then."""
        self._load_s = load_s

    def load(self, plan: Plan, progress: Progress | None = None) -> RemoteModel:
        """Start a worker and load. *progress* is told the worker's resident bytes now and then.

        Raises the worker's Fault, or LoadFailed (crashed=True) if it died, or if it took too long.
        """
        from anyform.workers.remote import Process

        process = Process()
        try:
            with _told(process, progress):
                reply = process.ask({"do": "load", "plugin": plan.plugin, "plan": plan}, self._load_s)
            return _ready(process, plan.model, reply.get("ready", {}))
        except TimeoutError as error:
            process.kill()
            raise LoadFailed(
                f"{plan.model} was not loaded after {self._load_s:g} s, and its worker was ended.",
                process.last_words() or "Allow more time: load_s in [lifecycle] of anyform.toml.",
                timeout_s=self._load_s,
            ) from error
        except (EOFError, OSError) as error:
            process.kill()
            raise _crash(process, plan.model) from error
        except BaseException:
            process.kill()
            raise

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


def _ready(process: Process, model: str, said: Mapping[str, Any]) -> RemoteModel:
    """The model in *process*. Its worker may be of another version, and say more or less. Raises LoadFailed."""
    from anyform.workers.remote import RemoteModel

    port = said.get("port")
    if not port:
        raise LoadFailed(
            f"the worker that loaded {model} does not say where it answers: {', '.join(said) or 'nothing'}.",
            "anyform was changed while it runs: start it anew.",
        )
    parallel, runs_on, notes = said.get("parallel", 1), said.get("runs_on", ""), said.get("notes", ())
    return RemoteModel(process, model, port=port, parallel=parallel, runs_on=runs_on, notes=notes)


@contextmanager
def _told(process: Process, progress: Progress | None) -> Iterator[None]:
    """Tell *progress* how many bytes the process has, until the block ends."""
    over = threading.Event()

    def tell() -> None:
        while progress is not None and not over.wait(TOLD_S):
            progress(process.measured("VmRSS"))

    teller = threading.Thread(target=tell, name="anyform-progress", daemon=True)
    if progress is not None:
        teller.start()
    try:
        yield
    finally:
        over.set()


def _crash(process: Process, what: str) -> LoadFailed:
    return LoadFailed(
        f"the worker loading {what} died: {process.ending()}.", process.last_words(), crashed=True, pid=process.pid
    )
