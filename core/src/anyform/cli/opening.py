"""Opens the runtime for a command: over the configured library, or over one path that the user named."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from anyform.cli.arguments import read_config
from anyform.config import Config
from anyform.contract.errors import ModelNotFound

if TYPE_CHECKING:
    from anyform.kernel.library import Entry
    from anyform.kernel.runtime import Runtime

Where = Literal["worker", "here"]


@contextmanager
def opened(config: Config, where: Where = "worker") -> Iterator[Runtime]:
    """A runtime over the library that *config* describes; closed at the end."""
    from anyform.assembly import start

    runtime = start(
        config.models.paths,
        where=where,
        folders=config.models.folders,
        aliases=config.models.aliases,
        settings=config.model,
        defaults=config.defaults,
        prefer=config.prefer,
        forbid=config.forbid,
        state=config.state_folder,
    )
    try:
        yield runtime
    finally:
        runtime.close()


@contextmanager
def opened_for(args: Namespace, where: Where = "worker") -> Iterator[tuple[Runtime, str]]:
    """A runtime, and the name in it of the model that `args.model` means: a path if that exists, else a name."""
    config = read_config(args)
    path, variant = _path(args.model)
    if path is None:
        with opened(config, where) as runtime:
            yield runtime, runtime.find(args.model).name
        return
    alone = replace(config, models=replace(config.models, paths=(path,), folders=()))
    with opened(alone, where) as runtime:
        yield runtime, _only(runtime, path, variant).name


def _path(text: str) -> tuple[Path | None, str]:
    """(path, variant) if *text* is a path, or a path and a variant as in `folder:Q8_0`; (None, "") for a name."""
    if Path(text).exists():
        return Path(text), ""
    before, sign, variant = text.rpartition(":")
    if sign and before and Path(before).is_dir():
        return Path(before), variant
    if _looks_like_path(text):
        raise ModelNotFound(f"nothing lies at {text}.", "Check the spelling of the path.")
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
