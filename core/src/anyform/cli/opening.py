"""Opens the runtime for a command: over the configured library, or over one path that the user named."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from anyform.cli import unread
from anyform.cli.arguments import read_config
from anyform.config import Config, config_folder
from anyform.contract.errors import Fault, Invalid, ModelAmbiguous, ModelNotFound

if TYPE_CHECKING:
    from anyform.kernel.entry import Entry
    from anyform.kernel.plugins import Plugins
    from anyform.kernel.runtime import Runtime
    from anyform.sources.hubname import Reference

Where = Literal["worker", "here"]
Absent = Literal["refuse", "look", "pull"]
OWN = "anyform"
"""The source that is anyform's own folder."""


@contextmanager
def opened(config: Config, where: Where = "worker") -> Iterator[Runtime]:
    """A runtime over the library that *config* describes; closed at the end."""
    from anyform import rules
    from anyform.assembly import start
    from anyform.sources.pattern import contexts

    runtime = start(
        config.models.paths,
        where=where,
        folders=config.models.folders,
        aliases=config.models.aliases,
        rules=rules.of(config),
        lifecycle=config.lifecycle,
        sizing=replace(config.sizing, patterns={**config.sizing.patterns, **contexts(*_contexts(config))}),
        prefer=config.prefer,
        forbid=config.forbid,
        state=config.state_folder,
        plugins=discovered(config),
        stores=config.stores,
        order=config.models.quantizations,
    )
    try:
        yield runtime
    finally:
        runtime.close()


def _contexts(config: Config) -> list[Path]:
    """Where a user's own patterns may lie: beside the settings that are read, then in the usual folder of these."""
    beside = [config.file.absolute().parent] if config.file else []
    return [folder / "contexts.toml" for folder in dict.fromkeys([*beside, config_folder()])]


def discovered(config: Config) -> Plugins:
    """Every installed plugin, with what the settings say for it. Raises Invalid for a backend that has one's name."""
    from anyform.workers.trial import discover

    plugins = discover(config.state_folder)
    for name in config.command:
        if plugins.record(name) is not None:
            raise Invalid(f"{config.file}: command.{name} has the name of a plugin.", "Call it otherwise.")
    plugins.tables = {**config.plugin, "command": {name: asdict(table) for name, table in config.command.items()}}
    for sentence in unread.tables(plugins):
        logging.getLogger("anyform").info(sentence)
    return plugins


@contextmanager
def opened_for(args: Namespace, where: Where = "worker", absent: Absent = "refuse") -> Iterator[tuple[Runtime, str]]:
    """A runtime, and the name in it of the model that `args.model` means: a path if that exists, else a name; if it is
    empty, `default_model` of the settings.

    *absent*: what to do about `owner/repo` that is not here: refuse, look at it where it lies, or pull it.
    """
    config = read_config(args)
    args.model = args.model or config.default_model
    path, variant = _path(args.model)
    if path is None:
        with opened(with_own(config) if absent == "pull" else config, where) as runtime:
            yield runtime, _named(runtime, args.model, config, absent)
        return
    alone = replace(config, models=replace(config.models, paths=(path,), folders=(), sources=()))
    with opened(alone, where) as runtime:
        yield runtime, _only(runtime, path, variant).name


def with_own(config: Config) -> Config:
    """*config* with anyform's own folder among the sources, since what is pulled comes there."""
    models = config.models
    if OWN in models.sources:
        return config
    return replace(config, models=replace(models, sources=(OWN, *models.sources)))


def _named(runtime: Runtime, model: str, config: Config, absent: Absent) -> str:
    """The full name of the model that *model* names, here or on a hub."""
    from anyform.sources import hubname

    try:
        return runtime.find(model).name
    except ModelAmbiguous:
        raise
    except ModelNotFound:
        from anyform.cli import absent as missing

        if missing.meant_as_path(model, runtime.plugins):
            raise missing.nothing_at(model) from None
        reference = hubname.parsed(model)
        if reference is None or absent == "refuse" or _is_alias(model, config):
            raise
    try:
        return _fetched(runtime, config, reference, absent)
    except Fault as fault:
        missing.add_hint(fault, runtime.library.near(model))
        raise


def _is_alias(model: str, config: Config) -> bool:
    return model.casefold() in {alias.casefold() for alias in config.models.aliases}


def _fetched(runtime: Runtime, config: Config, reference: Reference, absent: Absent) -> str:
    """The name of a model that a hub has, pulled or only looked at."""
    from anyform.cli import pulling
    from anyform.sources.hubpull import Wish

    hub = pulling.hub_of(config)
    if absent == "look":
        return pulling.looked(hub, runtime, config, reference)
    name = pulling.fetched(hub, runtime.plugins, config, Wish(reference=reference)).name
    runtime.library.refresh()
    return runtime.find(name).name


def spelled(runtime: Runtime, args: Namespace, name: str) -> str:
    """What the user typed, where that leaves a variant open: then an explanation says which was taken. Else *name*."""
    path, variant = _path(args.model)
    groups = () if variant else runtime.find(name).groups
    typed = args.model if path is None else next(iter(groups), name)
    return typed if runtime.library.choice(typed) else name


def _path(text: str) -> tuple[Path | None, str]:
    """(path, variant) if *text* is a path, or a path and a variant as in `folder:Q8_0`; (None, "") for a name."""
    if Path(text).exists():
        return Path(text), ""
    before, sign, variant = text.rpartition(":")
    if sign and before and Path(before).is_dir():
        return Path(before), variant
    if _looks_like_path(text):
        from anyform.cli.absent import nothing_at

        raise nothing_at(text)
    return None, ""


def _looks_like_path(text: str) -> bool:
    return text.startswith((".", "~", "/", "\\")) or Path(text).is_absolute()


def _only(runtime: Runtime, path: Path, variant: str) -> Entry:
    """The one model at *path*; of several variants, the one that is asked for or preferred."""
    entries = runtime.library.entries()
    if variant:
        entries = tuple(entry for entry in entries if entry.match.variant.casefold() == variant.casefold())
    preferred = [entry for entry in entries if entry.aliases] or list(entries)
    if len(entries) == 1 or len(preferred) == 1:
        return entries[0] if len(entries) == 1 else preferred[0]
    known = ", ".join(entry.name for entry in runtime.library.entries())
    if not entries:
        raise ModelNotFound(f"{path} has no variant {variant!r}.", f"It has {known}.")
    raise ModelNotFound(f"{path} holds several models: {known}.", "Name one file.")
