"""Finds models that are named, for commands that work on the library: where the user typed a path, that is said."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from anyform.cli import absent
from anyform.contract.errors import ModelAmbiguous, ModelNotFound

if TYPE_CHECKING:
    from anyform.kernel.entry import Entry
    from anyform.kernel.runtime import Runtime


def found(runtime: Runtime, name: str, paths: bool = False) -> Entry:
    """The entry called *name*. Raises ModelNotFound, which for what looks like a path says that nothing lies there.

    *paths*: the command takes paths too, so that anything may have been meant as one.
    """
    try:
        return runtime.find(name)
    except ModelAmbiguous:
        raise
    except ModelNotFound as fault:
        if not Path(name).exists() and _is_path(runtime, name):
            raise absent.nothing_at(name) from None
        if paths:
            said = f"nothing lies at {name}, and no model is called so."
            raise ModelNotFound(said, fault.hint, model=name) from None
        raise


def known(runtime: Runtime, name: str, home: Path, hint: str) -> Entry:
    """As `found`; of a path that exists the fault says which model lies there, else NotOurs with *hint*."""
    try:
        return found(runtime, name)
    except ModelAmbiguous:
        raise
    except ModelNotFound:
        if not Path(name).exists():
            raise
    from anyform.sources.removal import NotOurs, paths

    asked = Path(name).resolve()
    for entry in runtime.library.entries():
        if asked in {Path(entry.path).resolve(), *paths(entry)}:
            raise ModelNotFound(
                f"{name} is a path, where a name is needed.", f"The model there is {entry.name}.", model=entry.name
            )
    inside = asked.is_relative_to(home.resolve())
    why = "no pull brought it" if inside else f"it lies outside of anyform's own folder, {home}"
    raise NotOurs(f"{name} is not a pulled model: {why}.", hint)


def _is_path(runtime: Runtime, name: str) -> bool:
    return name.startswith((".", "~", "/", "\\")) or absent.meant_as_path(name, runtime.plugins)
