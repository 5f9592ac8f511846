"""All models that are known, and what their names mean. Loads nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from anyform.contract.errors import ModelNotFound
from anyform.contract.hooks import Place
from anyform.kernel.entry import Entry
from anyform.sources.derived import SOURCE, Derived, Joined, joined
from anyform.sources.naming import Names
from anyform.sources.reader import Reader
from anyform.sources.recipe import Recipe, Recipes
from anyform.sources.survey import Lead, survey

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

    def __init__(
        self,
        shelf: Shelf,
        aliases: Mapping[str, str] | None = None,
        order: Sequence[str] = (),
        recipes: Recipes | None = None,
    ) -> None:
        """*aliases*: the user's own names, alias -> name. *order*: variants, the one to take first first. *recipes*:
        models that were made of others; None: there are none, and none can be made.
        """
        self.shelf, self.order, self.recipes = shelf, tuple(order), recipes
        self.aliases = dict(aliases or {})
        self.changed: Callable[[], None] = _ignore
        """Called when recipes were made, replaced or deleted, here or by another process."""
        self._lock = threading.RLock()
        self._names: Names | None = None
        self._found: Sequence[Entry] = ()
        """What the shelf has."""
        self._own: Names | None = None
        """The names that it has without recipes."""
        self._troubles: Sequence[str] = ()
        self._joined = Joined(found=(), lost={})
        self._stamp = ""
        """Of the recipes, as they were joined."""
        self._elsewhere: dict[str, Entry] = {}
        self._looked = False
        self._next_look = 0.0

    def entries(self) -> tuple[Entry, ...]:
        """All entries, sorted by name."""
        return self._known().entries

    def refresh(self) -> None:
        """Look at the disk again."""
        began = time.monotonic()
        found = self.shelf.look()
        with self._lock:
            self._found, self._troubles = found, tuple(self.shelf.troubles)
            self._own = self._named(found)
            self._join()
        took = time.monotonic() - began
        self._next_look = began + took + max(REFRESH_S, REST * took) if self._looked else 0.0
        self._looked = True

    def rejoin(self) -> None:
        """Look at the recipes again, and at nothing else on the disk."""
        if self._names is None:
            self.refresh()
            return
        with self._lock:
            before = self._joined
            self._join()
            changed = self._joined != before
        if changed:
            self.changed()

    def hidden(self) -> tuple[Entry, ...]:
        """Models whose names were deleted while recipes need their files."""
        self._known()
        return self._joined.hidden

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
            raise self._missing(name)
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

    def _missing(self, name: str) -> ModelNotFound:
        recipe = self.recipes.get(name) if self.recipes is not None and self._joined.lost else None
        lost = self._joined.lost.get(recipe.name) if recipe is not None else None
        if lost is None:
            return self._known().missing(name)
        said, _, hint = lost.partition(". ")
        return ModelNotFound(f"{said}.", hint, model=name)

    def _known(self) -> Names:
        if self._names is None:
            self.refresh()
        elif self.recipes is not None and (not self._stamp or self._stamp != self.recipes.stamp()):
            self.rejoin()
        assert self._names is not None
        return self._names

    def _join(self) -> None:
        """Name what was found, and what recipes make of it."""
        names = self._own
        assert names is not None
        if self.recipes is not None:
            self._stamp = self.recipes.stamp()
            self._joined = joined(self._found, names.named, self.recipes, names.find, self._look)
            if any(isinstance(entry, Derived) for entry in self._joined.found) or self._joined.hidden:
                names = self._named(self._joined.found)
            renamed = (_renamed(entry) for entry in names.entries if isinstance(entry, Derived))
            troubles = (*self.recipes.troubles, *self._joined.lost.values(), *filter(None, renamed))
            self.shelf.troubles = [*self._troubles, *troubles]
        self._names = names

    def _named(self, found: Sequence[Entry]) -> Names:
        return Names(found, self.aliases, self.order, self.shelf.bare)

    def _look(self, recipe: Recipe, folder: Path) -> Sequence[Entry]:
        """The models in a recipe's own folder."""
        assert recipe.where is not None
        digests = {name: digest.removeprefix("sha256:") for name, digest in recipe.digests.items()}
        place = Place(path=folder, name=recipe.name, files=recipe.where.files, digests=digests)
        return survey(self.shelf.reader, [Lead(source=SOURCE, place=place)])


def recipes_of(library: object) -> Recipes | None:
    """The recipes of a runtime's library; None where it has none, since no home of its own is known."""
    return library.recipes if isinstance(library, Library) else None


def _renamed(entry: Derived) -> str:
    """Where another model has a recipe's name by now, in words; else ""."""
    if entry.name == entry.recipe.name:
        return ""
    return f"the created model {entry.recipe.name} is listed as {entry.name}: another model came by its name."


def _ignore() -> None:
    return None
