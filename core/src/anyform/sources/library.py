"""All models that are known, and what their names mean. Loads nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from anyform.kernel.entry import Entry
from anyform.sources.naming import Names
from anyform.sources.reader import Reader

REFRESH_S = 1.0
"""How long at least after a second look unknown names make the library look at the disk no more."""
REST = 9
"""So many times as long as the look took: whoever asks for names that do not exist gets a tenth of a core at most."""


class Shelf(Protocol):
    """Where the library's models are found."""

    reader: Reader
    troubles: list[str]
    """What could not be looked at the last time, in words."""

    def look(self) -> list[Entry]:
        """All models that are there now, the same bytes once, under the names that their places give them."""

    def bare(self, name: str) -> str:
        """*name* without what only says where it lies, such as the address of a hub."""


class Library:
    """The models of a shelf, found when first asked for; `refresh` looks again."""

    def __init__(self, shelf: Shelf, aliases: Mapping[str, str] | None = None, order: Sequence[str] = ()) -> None:
        """*aliases*: the user's own names, alias -> name. *order*: variants, the one to take first first."""
        self.shelf, self.order = shelf, tuple(order)
        self.aliases = dict(aliases or {})
        self._names: Names | None = None
        self._elsewhere: dict[str, Entry] = {}
        self._looked = False
        self._next_look = 0.0

    def entries(self) -> tuple[Entry, ...]:
        """All entries, sorted by name."""
        return self._known().entries

    def refresh(self) -> None:
        """Look at the disk again."""
        began = time.monotonic()
        self._names = Names(self.shelf.look(), self.aliases, self.order, self.shelf.bare)
        took = time.monotonic() - began
        self._next_look = began + took + max(REFRESH_S, REST * took) if self._looked else 0.0
        self._looked = True

    def find(self, name: str) -> Entry:
        """The entry called *name*; a missing `:latest` or letter case is forgiven.

        Raises ModelNotFound with the nearest names, ModelAmbiguous with those that it could mean.
        """
        looked = self._names is not None
        entry = self._known().find(name) or self._elsewhere.get(name)
        if entry is None and looked and time.monotonic() > self._next_look:
            self.refresh()
            entry = self._known().find(name)
        if entry is None:
            raise self._known().missing(name)
        return entry

    def admit(self, entry: Entry) -> None:
        """Let an *entry* that no source finds, such as one that is not on this machine, be found by its name."""
        self._elsewhere[entry.name] = entry

    def choice(self, name: str) -> str:
        """Which variant *name* was taken to mean, in words; empty where it names one, or there is just one."""
        return self._known().choice(name)

    def near(self, name: str) -> list[str]:
        """Names that are like *name*, which has no model; empty where there are no models."""
        return self._known().near(name)

    def _known(self) -> Names:
        if self._names is None:
            self.refresh()
        assert self._names is not None
        return self._names
