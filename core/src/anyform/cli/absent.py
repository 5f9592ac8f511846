"""What is said of a model that is not here: a path where nothing lies, or a name that a hub does not know either."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path

from anyform.contract.errors import Fault, ModelNotFound
from anyform.kernel.plugins import Plugins
from anyform.sources import hubname
from anyform.sources.hubfault import HubOffline, HubTimeout, HubUnreachable, RepositoryMissing

UNKNOWN = (HubOffline, HubTimeout, HubUnreachable, RepositoryMissing)
"""After these a name may as well be a local one that was mistyped."""


def meant_as_path(text: str, plugins: Plugins) -> bool:
    """Whether *text*, which names no model here, is rather a mistyped path than a repository: a link to nothing, a
    path below a folder that there is, or one that ends as files of an installed format do.
    """
    if hubname.bare(text) != text:
        return False
    if os.path.lexists(text):
        return True
    path = Path(text)
    if len(path.parts) < 2:
        return False
    from anyform.sources.hubchoice import formats

    ending = path.suffix.partition(":")[0].removeprefix(".")
    return Path(path.parts[0]).is_dir() or ending.casefold() in formats(plugins)


def nothing_at(text: str) -> ModelNotFound:
    """The fault for a path where nothing lies, with what lies near."""
    path = Path(text)
    link = f", a link to {os.readlink(path)}" if path.is_symlink() else ""
    near = [] if link else _near(path)
    hint = f"Nearest: {', '.join(near)}." if near else "Check the spelling of the path."
    if hubname.parsed(text):
        hint += f" A repository of that name: hf.co/{text}."
    return ModelNotFound(f"nothing lies at {text}{link}.", hint, model=text)


def add_hint(fault: Fault, near: list[str]) -> None:
    """Let *fault*, where a hub could not say what a name means, name the models that are here first."""
    if near and isinstance(fault, UNKNOWN):
        fault.hint = f"Nearest here: {', '.join(near)}. {fault.hint}"


def _near(path: Path) -> list[str]:
    """Up to three paths like *path*: its parts are followed as far as they exist."""
    folder = Path()
    for part in path.parts:
        if not (folder / part).exists():
            break
        folder /= part
    try:
        there = sorted(child.name for child in folder.iterdir() if child.exists() and not child.name.startswith("."))
    except OSError:
        return []
    return [str(folder / name) for name in get_close_matches(part, there, n=3, cutoff=0.5)]
