"""Puts a runtime together: plugins, library, loader and pool. The one place where kernel and workers meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from anyform.contract.facts import Settings
from anyform.kernel.library import Library
from anyform.kernel.plugins import Plugins, require
from anyform.kernel.runtime import Runtime


def start(
    models: Sequence[str | Path] = (),
    *,
    where: Literal["worker", "here"] = "worker",
    folders: Sequence[str | Path] = (),
    aliases: Mapping[str, str] | None = None,
    settings: Mapping[str, Settings] | None = None,
    defaults: Settings | None = None,
    prefer: Sequence[str] = (),
    forbid: Sequence[str] = (),
    state: Path | None = None,
    plugins: Plugins | None = None,
) -> Runtime:
    """A runtime over *models* (files or folders) and *folders* (searched for models); nothing is loaded yet.

    *aliases*: other names, alias -> model name.
    *where*: each model in a worker process of its own, or in this process. *settings*: by model name, laid over
    *defaults*. *prefer*, *forbid*: plugin names. *state*: the folder for what is learnt about this machine; None: kept
    in memory. Raises ModelNotFound for an absent path, Invalid for an unknown plugin name.
    """
    from anyform.workers.here import Here
    from anyform.workers.pool import Pool
    from anyform.workers.remote import Workers

    known = plugins or Plugins.discover(state)
    for name in (*prefer, *forbid):
        require(known, name)
    library = Library(known, [Path(model) for model in models], [Path(folder) for folder in folders], aliases)
    workers = Workers()
    loader = workers if where == "worker" else Here(known, workers)
    return Runtime(
        known, library, loader, Pool(), settings=settings, defaults=defaults, prefer=prefer, forbid=forbid, state=state
    )
