"""Puts a runtime together: plugins, library, loader and pool. The one place where kernel and workers meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from anyform.contract.errors import Invalid, PluginFault
from anyform.contract.facts import Settings
from anyform.contract.hooks import ModelSource
from anyform.kernel.context import Sizing
from anyform.kernel.entry import Entry
from anyform.kernel.hardware import snapshot
from anyform.kernel.news import News
from anyform.kernel.plugins import Plugins, require
from anyform.kernel.rule import Rule, Rules, over
from anyform.kernel.runtime import Runtime
from anyform.sources.derived import Derived, laid
from anyform.sources.library import Library
from anyform.sources.recipe import Recipes
from anyform.sources.stores import OWN, Stores, sources
from anyform.workers.lifecycle import Lifecycle
from anyform.workers.trial import discover


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
    rules: Rules | None = None,
    lifecycle: Lifecycle | None = None,
    sizing: Sizing | None = None,
    tables: Mapping[str, Mapping[str, Any]] | None = None,
) -> Runtime:
    """A runtime over *models* (files or folders) and *folders* (searched for models); nothing is loaded yet.

    *stores*: also the models of these stores and of plugins; None: only what the first two name. *order*: variants
    such as quantizations, the one to take first first, where a name leaves it open.

    *aliases*: other names, alias -> model name.
    *where*: each model in a worker process of its own, or in this process, unless its rule says otherwise. *settings*:
    by model name, laid over *defaults*; *rules* says the same and more, and goes in their place. *lifecycle*: how long
    models stay, and how many. *sizing*: how a context is chosen that nobody asks for. *prefer*, *forbid*: plugin names.
    *tables*: what plugins are told of this machine, by their names, as [plugin.NAME] of a settings file does.
    *state*: the folder for what is learnt about this machine; None: kept in memory. Raises ModelNotFound for an absent
    path, Invalid for an unknown plugin name, or what is no table.
    """
    from anyform.sources.catalogue import FILE, Catalogue
    from anyform.sources.shelf import Shelf
    from anyform.workers.calibration import Calibration
    from anyform.workers.here import Here
    from anyform.workers.isolation import Workers
    from anyform.workers.learned import Learned
    from anyform.workers.loads import Loads
    from anyform.workers.pool import Pool

    known = plugins or discover(state)
    for name, table in (tables or {}).items():
        if not isinstance(table, Mapping):
            raise Invalid(f"tables.{name} must be a table, not {table!r}.", "Give a dict of the plugin's settings.")
    known.tables = {**known.tables, **(tables or {})}
    for name in (*prefer, *forbid, *(tables or ())):
        require(known, name)
    shelf = Shelf(
        known,
        [Path(model) for model in models],
        [Path(folder) for folder in folders],
        _sources(known, stores) if stores else (),
        Catalogue(state / FILE, known) if state else None,
    )
    library = Library(shelf, aliases, order, Recipes(stores.home) if stores and OWN in stores.names else None)
    lifecycle, learned, news = lifecycle or Lifecycle(), Learned(state), News()
    library.changed = lambda: news.tell("library")
    workers = Workers(lifecycle.load_s)
    return Runtime(
        known,
        library,
        Loads({"worker": workers, "here": Here(known, workers)}, where, learned, news),
        Pool(lifecycle, lambda: snapshot(known).free, news),
        learned,
        news,
        calibration=Calibration(state),
        sizing=sizing,
        rules=rules or plain(settings or {}, defaults or Settings()),
        prefer=prefer,
        forbid=forbid,
    )


def plain(settings: Mapping[str, Settings], defaults: Settings) -> Rules:
    """Rules out of settings by name or alias, laid over *defaults*."""

    def rule(entry: Entry) -> Rule:
        made = Rule(settings=defaults)
        if isinstance(entry, Derived):
            made = laid(rule(entry.base) if entry.base else made, entry)
        for name in (entry.name, *entry.aliases):
            made = replace(made, settings=over(made.settings, settings.get(name)))
        return made

    return rule


def _sources(plugins: Plugins, stores: Stores) -> list[ModelSource]:
    brought = []
    for plugin, answer in plugins.ask_all("list_sources"):
        for source in answer:
            if isinstance(getattr(source, "name", None), str) and callable(getattr(source, "find", None)):
                brought.append(source)
            else:
                plugins.failures.append(PluginFault(plugin, "list_sources", f"{source!r} is no source of models"))
    return sources(stores, brought)
