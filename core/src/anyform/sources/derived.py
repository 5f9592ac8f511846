"""Recipes as entries of the library: each is its base under another name. Looks at recipes' own files alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from anyform.contract.errors import Fault
from anyform.contract.facts import Settings, fact
from anyform.kernel.entry import Entry
from anyform.kernel.rule import Rule, over
from anyform.sources.reader import stamp_of
from anyform.sources.recipe import LATEST, Mark, Recipe, Recipes, Where

SOURCE = "recipe"
ADAPTERS = "lora"
"""The load option that takes paths of adapters."""


@fact
class Derived(Entry):
    """A model that was made by a recipe."""

    recipe: Recipe
    base: Entry | None = None
    """The model that it is made from, by its own name; None: it has files of its own."""
    folder: Path | None = None
    """Where its own files lie."""


@fact
class Joined:
    """A library with its recipes."""

    found: tuple[Entry, ...]
    """What is listed, the recipes last; names are still to be given."""
    hidden: tuple[Entry, ...] = ()
    """What is not listed any more, by its name."""
    lost: Mapping[str, str]
    """Recipes whose files are gone, by name -> in words."""


def joined(
    found: Sequence[Entry],
    named: Sequence[Entry],
    recipes: Recipes,
    find: Callable[[str], Entry | None],
    look: Callable[[Recipe, Path], Sequence[Entry]],
) -> Joined:
    """*found* without what is hidden, with an entry for each recipe whose files are there.

    *named*: the same entries by their names. *find*: one of these by a name. *look*: the models in a recipe's own
    folder.
    """
    bases = _Bases(named, find)
    marks = recipes.hidden()
    hides = [any(is_marked(entry, mark) for mark in marks) for entry in named] if marks else [False] * len(named)
    made: list[Entry] = []
    lost: dict[str, str] = {}
    for recipe in recipes.all():
        entry = _own(recipe, recipes, look) if recipe.where and not recipe.base else _of_base(recipe, recipes, bases)
        if entry is None:
            lost[recipe.name] = _gone(recipe)
        else:
            made.append(entry)
    return Joined(
        found=(*(entry for entry, hide in zip(found, hides, strict=True) if not hide), *made),
        hidden=tuple(entry for entry, hide in zip(named, hides, strict=True) if hide),
        lost=lost,
    )


def laid(rule: Rule, entry: Derived) -> Rule:
    """What the recipe of *entry* says over *rule*, which is its base's."""
    recipe = entry.recipe
    request = {**rule.request, **recipe.request}
    if recipe.chat_template:
        request["chat_template"] = recipe.chat_template
    settings = over(rule.settings, recipe.settings)
    if recipe.adapters and entry.folder:
        paths = [str(entry.folder / name) for name in recipe.adapters]
        settings = over(settings, Settings(options={ADAPTERS: paths}))
    return replace(
        rule,
        settings=settings,
        system=recipe.system or rule.system,
        request=request,
        messages=recipe.messages or rule.messages,
    )


class _Bases:
    """Finds the model that a recipe is made from: by its files, or else by its name."""

    def __init__(self, named: Iterable[Entry], find: Callable[[str], Entry | None]) -> None:
        self._by_place: dict[tuple[str, str], list[Entry]] = {}
        self._find = find
        for entry in named:
            for path, name in {(spot.path, spot.entry) for spot in entry.places}:
                self._by_place.setdefault((path, name), []).append(entry)

    def base(self, recipe: Recipe) -> Entry | None:
        where = recipe.where
        if where is not None:
            for entry in self._by_place.get((where.path, where.entry), ()):
                if _alike(entry, where):
                    return entry
        try:
            found = self._find(recipe.base)
        except Fault:
            return None
        if found is None or not is_called(found, recipe.base):  # a model that came by a like name is another
            return None
        return found if where is None or _alike(found, where) else None


def is_called(entry: Entry, name: str) -> bool:
    """Whether *name* is one of the whole names of *entry*, `:latest` and letter case aside."""
    return plain(name) in {plain(one) for one in (entry.name, *entry.aliases)}


def plain(name: str) -> str:
    """*name* as names are compared."""
    return name.casefold().removesuffix(LATEST)


def _alike(entry: Entry, where: Where) -> bool:
    forms = [entry.match, *(match for _, match in entry.others)]
    return any((match.format, match.variant) == (where.format, where.variant) for match in forms)


def is_marked(entry: Entry, mark: Mark) -> bool:
    """Whether *entry* is what was hidden."""
    where = mark.where
    here = any((spot.path, spot.entry) == (where.path, where.entry) for spot in entry.places)
    return here and _alike(entry, where) and mark.stamp == stamp_of(where.path, where.files)


def _of_base(recipe: Recipe, recipes: Recipes, bases: _Bases) -> Derived | None:
    base = bases.base(recipe)
    return None if base is None else _derived(recipe, recipes, base, base)


def _own(recipe: Recipe, recipes: Recipes, look: Callable[[Recipe, Path], Sequence[Entry]]) -> Derived | None:
    where = recipe.where
    assert where is not None
    found = [entry for entry in look(recipe, recipes.own(recipe.folder)) if _alike(entry, where)]
    return _derived(recipe, recipes, found[0], None) if found else None


def _derived(recipe: Recipe, recipes: Recipes, entry: Entry, base: Entry | None) -> Derived:
    return Derived(
        name=recipe.name,
        path=entry.path,
        plugin=entry.plugin,
        match=entry.match,
        others=entry.others,
        size_bytes=entry.size_bytes,
        source=SOURCE,
        places=tuple(replace(spot, source=SOURCE) for spot in entry.places),
        only=entry.only,
        digests=entry.digests,
        about={**entry.about, "recipe": dict(_told(recipe))},
        recipe=recipe,
        base=base,
        folder=recipes.own(recipe.folder) if recipe.folder else None,
    )


def _told(recipe: Recipe) -> Iterator[tuple[str, object]]:
    """What there is to say of it, without what is empty."""
    for name, value in recipe.as_dict().items():
        if value not in (None, "", (), [], {}) and name not in ("name", "where", "folder"):
            yield (
                name,
                {key: held for key, held in value.items() if held not in (None, {})} if name == "settings" else value,
            )


def _gone(recipe: Recipe) -> str:
    if not recipe.base:
        return f"the files of {recipe.name} are gone. Create it anew, or delete it with `anyform rm {recipe.name}`."
    return (
        f"{recipe.name} was made from {recipe.base}, whose files are gone. Bring {recipe.base} back, or delete"
        f" {recipe.name} with `anyform rm {recipe.name}`."
    )
