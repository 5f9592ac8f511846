"""Puts a runtime together: plugins, library, loader and pool. The one place where kernel and workers meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from anyform.contract.errors import PluginFault
from anyform.contract.facts import Settings
from anyform.contract.hooks import ModelSource
from anyform.kernel.library import Library
from anyform.kernel.plugins import Plugins, require
from anyform.kernel.runtime import Runtime
from anyform.sources.stores import Stores, sources


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
    stores: Stores | None = None,
    order: Sequence[str] = (),
) -> Runtime:
    """A runtime over *models* (files or folders) and *folders* (searched for models); nothing is loaded yet.

    *stores*: also the models of these stores and of plugins; None: only what the first two name. *order*: variants
    such as quantizations, the one to take first first, where a name leaves it open.

    *aliases*: other names, alias -> model name.
    *where*: each model in a worker process of its own, or in this process. *settings*: by model name, laid over
    *defaults*. *prefer*, *forbid*: plugin names. *state*: the folder for what is learnt about this machine; None: kept
    in memory. Raises ModelNotFound for an absent path, Invalid for an unknown plugin name.
    """
    from anyform.sources.catalogue import FILE, Catalogue
    from anyform.sources.shelf import Shelf
    from anyform.workers.here import Here
    from anyform.workers.isolation import Workers
    from anyform.workers.pool import Pool

    known = plugins or Plugins.discover(state)
    for name in (*prefer, *forbid):
        require(known, name)
    shelf = Shelf(
        known,
        [Path(model) for model in models],
        [Path(folder) for folder in folders],
        _sources(known, stores) if stores else (),
        Catalogue(state / FILE, known) if state else None,
    )
    library = Library(shelf, aliases, order)
    workers = Workers()
    loader = workers if where == "worker" else Here(known, workers)
    return Runtime(
        known, library, loader, Pool(), settings=settings, defaults=defaults, prefer=prefer, forbid=forbid, state=state
    )


def _sources(plugins: Plugins, stores: Stores) -> list[ModelSource]:
    brought = []
    for plugin, answer in plugins.ask_all("list_sources"):
        for source in answer:
            if isinstance(getattr(source, "name", None), str) and callable(getattr(source, "find", None)):
                brought.append(source)
            else:
                plugins.failures.append(PluginFault(plugin, "list_sources", f"{source!r} is no source of models"))
    return sources(stores, brought)
