"""What the library knows of one model: its names, its files, and every place where the same bytes lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from anyform.contract.facts import FormatMatch, ModelFiles, fact
from anyform.kernel.files import FolderFiles


@fact
class Spot:
    """One place where a model's files lie."""

    source: str
    """The name of its `ModelSource`; empty: named by the user."""
    path: str
    """The folder that `entry` is relative to."""
    entry: str
    revision: str = ""


@fact
class Entry:
    """One model (one variant of it) in the library."""

    name: str
    path: str
    """The folder that `match` is relative to."""
    plugin: str
    """Whose format it is."""
    match: FormatMatch
    others: tuple[tuple[str, FormatMatch], ...] = ()
    """(plugin, match) of other forms of the same model in the same folder."""
    groups: tuple[str, ...] = ()
    """Names that it shares with its variants; empty for a file that was named by itself."""
    aliases: tuple[str, ...] = ()
    """Other names that mean this one."""
    size_bytes: int = 0
    source: str = ""
    """Where it was found first; empty: named by the user."""
    places: tuple[Spot, ...] = ()
    """Everywhere that the same bytes lie, the one that is used first."""
    only: tuple[str, ...] = ()
    """Of the folder just these files are the model's surroundings; empty: all."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of its files, as far as its source knows them."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What its store says of it; see `Place.about`."""

    @property
    def here(self) -> bool:
        """Whether its files are on this machine."""
        return True

    def files(self) -> ModelFiles:
        """Its folder, to be read anew."""
        return FolderFiles(Path(self.path), self.only)
