"""Creates, copies and deletes models of a running library: what `anyform rm` and dialects do, with all its checks.

What changes is seen at once under its name, everywhere; a loaded model that is replaced or deleted is unloaded.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from itertools import chain, count
from pathlib import Path, PurePosixPath

from anyform.contract.errors import (
    Invalid,
    InvalidModel,
    ModelAmbiguous,
    ModelNotFound,
    Overloaded,
    RefusedRequest,
    UnknownFormat,
)
from anyform.contract.facts import Severity
from anyform.contract.hooks import Place
from anyform.kernel.entry import Entry
from anyform.kernel.rule import over
from anyform.kernel.runtime import Runtime
from anyform.sources import folder as own
from anyform.sources import removal
from anyform.sources.blob import Blobs, unwritable
from anyform.sources.derived import SOURCE, Derived, is_called, is_marked, plain
from anyform.sources.hublock import BeingPulled
from anyform.sources.hubname import bare
from anyform.sources.library import Library, recipes_of
from anyform.sources.reader import stamp_of
from anyform.sources.recipe import Mark, Recipe, Recipes, canonical, place_of, where_of
from anyform.sources.removal import Form, NotOurs, Removal
from anyform.sources.survey import Lead, survey

ADAPTERS = "adapters"
"""In a recipe's own folder, so that no detector takes them for models."""
MOST_FILES = 512
FILE = re.compile(r"[\w()+@=,-][\w .()+@=,-]{0,199}")
"""One part of a relative name."""


class Derivations:
    """The recipes of a runtime's library: what a dialect needs of this module, and of `Recipes`."""

    def __init__(self, runtime: Runtime, recipes: Recipes) -> None:
        self._runtime, self._recipes = runtime, recipes
        self.blobs: Blobs = recipes.blobs
        """Uploads."""

    def all(self) -> list[Recipe]:
        """Every recipe, by name."""
        return self._recipes.all()

    def get(self, name: str) -> Recipe | None:
        """The recipe of that name, `:latest` and letter case aside; None if there is none."""
        return self._recipes.get(name)

    def create(
        self, recipe: Recipe, files: Mapping[str, str] | None = None, adapters: Mapping[str, str] | None = None
    ) -> Recipe:
        """See `create` of this module."""
        return create(self._runtime, recipe, files, adapters)

    def copy(self, source: str, new: str) -> Recipe | None:
        """See `copy` of this module."""
        return copy(self._runtime, source, new)

    def delete(self, name: str) -> Removal:
        """See `delete` of this module."""
        return delete(self._runtime, self._recipes.home, name)


def of(runtime: Runtime) -> Derivations | None:
    """What makes models of other ones in *runtime*; None where it knows no folder of its own."""
    recipes = recipes_of(runtime.library)
    return None if recipes is None else Derivations(runtime, recipes)


def create(
    runtime: Runtime, recipe: Recipe, files: Mapping[str, str] | None = None, adapters: Mapping[str, str] | None = None
) -> Recipe:
    """Make a model: from `recipe.base`, or from uploaded *files* (relative name -> digest); as it is kept. It goes in
    the place of a created model of its name. Of both: the files, with what a created base says. Blocks.

    From a created model: what *recipe* leaves out is that one's. *adapters*: further uploads, which its engine lays
    over the weights. Raises Invalid (a name, a digest that is not here), ModelNotFound (the base), UnknownFormat and
    InvalidModel (files that are no model, or a broken one), RefusedRequest (no home), Overloaded, DiskFull.
    """
    library, recipes = _library(runtime)
    files, adapters = files or {}, adapters or {}
    name = canonical(recipe.name)
    if not (recipe.base or files):
        raise Invalid(f"{name} is to be made of nothing.", "Name a model or files.")
    _check_names(files)
    _check_names(adapters)
    base = runtime.find(recipe.base) if recipe.base else None
    _require_free(library, name, base)
    before, replaced = _listed(runtime, name), recipes.get(name)
    with recipes.alone():
        made = _flat(replace(recipe, name=name), base)
        if files:
            made = replace(made, base="", where=None, folder="", digests={}, adapters=())
        with _folder(recipes, made, files, adapters) as made:
            if files:
                made = _detected(library, made, recipes.own(made.folder))
            kept = recipes.create(made)
    _settle(library, recipes, replaced)
    _unload(runtime, before)
    return kept


def copy(runtime: Runtime, source: str, new: str) -> Recipe | None:
    """Another name for the model *source*, with all that is said of it; it replaces a created model of that name.
    None: *new* is a name of that model already, so there is nothing to do.

    Raises ModelNotFound, and what `create` does.
    """
    library, recipes = _library(runtime)
    base, name = runtime.find(source), canonical(new)
    if not isinstance(base, Derived):
        if is_called(base, name):
            return None
        return create(runtime, Recipe(name=name, base=base.name))
    if name.casefold() == base.recipe.name.casefold():
        return base.recipe
    _require_free(library, name, base)
    before, replaced = _listed(runtime, name), recipes.get(name)
    kept = recipes.copy(base.recipe.name, name)
    _settle(library, recipes, replaced)
    _unload(runtime, before)
    return kept


def delete(runtime: Runtime, home: Path, name: str) -> Removal:
    """Delete the model *name*, as over HTTP: a recipe, or what anyform pulled. What recipes need stays, nameless.

    Raises ModelNotFound, NotOurs for files that anyform did not put there, BeingPulled, Overloaded, OSError.
    """
    found = recipe_named(runtime, name)
    if found is not None:
        _require_whole(name, (found.name, *_listed(runtime, found.name)))
        return forget(runtime, found)
    entry = runtime.find(name)
    _require_whole(name, (entry.name, *entry.aliases))
    try:
        planned = considered(runtime, home, entry)
        if not _is_pulled(home, entry):
            raise NotOurs(f"{entry.name} lies in {entry.path}, where no pull put it.")
    except NotOurs as refused:
        where = "" if refused.hint.startswith("Use") else "Whoever keeps it there may delete it: "
        hint = refused.hint if not where else f"{where}`anyform rm {entry.name} --force` on that machine."
        raise NotOurs(refused.message, hint, model=entry.name) from None
    runtime.unload(entry.name)
    carry_out(runtime, home, entry, planned)
    return planned


def recipe_named(runtime: Runtime, name: str) -> Recipe | None:
    """The recipe that *name* means, also of one whose files are gone; None where it means something else or nothing."""
    recipes = recipes_of(runtime.library)
    try:
        entry = runtime.find(name)
    except ModelAmbiguous:
        raise
    except ModelNotFound:
        return recipes.get(name) if recipes is not None else None
    return entry.recipe if isinstance(entry, Derived) else None


def forget(runtime: Runtime, recipe: Recipe) -> Removal:
    """Delete a recipe, its own files if no other needs them, and those of a deleted base that nothing needs now.

    Raises Overloaded, OSError.
    """
    library, recipes = _library(runtime)
    names = _listed(runtime, recipe.name)
    _unload(runtime, names)
    with recipes.alone():
        before = list(_sizes(recipes, recipe))
        recipes.delete(recipe.name)
        gone = [(path, size) for path, size in before if not path.exists()]
        freed = sum(size for _, size in gone) + _settle(library, recipes, recipe)
    _unload(runtime, names)  # whoever asked for it meanwhile
    return Removal(
        model=recipe.name,
        folder=recipes.own(recipe.folder) if recipe.folder else recipes.folder,
        files=tuple(path.relative_to(recipes.own(recipe.folder)).as_posix() for path, _ in gone),
        freed_bytes=freed,
        recipe=True,
    )


def considered(runtime: Runtime, home: Path, entry: Entry, force: bool = False, form: Form | None = None) -> Removal:
    """What deleting *entry*, which is no recipe, would come to; see `removal.considered`. Where recipes are made from
    it (and not just one *form* is to go) only its name goes, and the files with the last of these: so what may not be
    deleted is not hidden either. Raises NotOurs; Invalid for the base of recipes that this library does not look at.
    """
    entries = runtime.library.entries()
    if recipes_of(runtime.library) is None:
        _require_unused(home, entry)
    planned = removal.considered(home, entry, entries, force, form)
    if form is None and any(isinstance(one, Derived) and one.base and _is_same(one.base, entry) for one in entries):
        return Removal(model=entry.name, folder=planned.folder, files=(), shared=entry.match.files, hidden=True)
    return planned


def _require_unused(home: Path, entry: Entry) -> None:
    files = set(removal.paths(entry))
    made = [one for one in Recipes(home).all() if one.where is not None]
    told = [one.name for one in made if one.where and (Path(one.where.path) / one.where.entry).resolve() in files]
    if told:
        raise Invalid(
            f"{entry.name} is what {', '.join(told)} {'is' if len(told) == 1 else 'are'} made of.",
            "Delete it as part of the whole library, without naming folders: then only its name goes.",
        )


def carry_out(runtime: Runtime, home: Path, entry: Entry, planned: Removal) -> None:
    """Do what `considered` said. Raises BeingPulled, Overloaded, OSError."""
    if not planned.hidden:
        there = recipes_of(runtime.library)
        with there.alone() if there is not None else nullcontext():
            _require_unneeded(runtime, planned)
            removal.remove(home, planned)
        runtime.library.refresh()
        return
    library, recipes = _library(runtime)
    where = where_of(entry)
    recipes.hide(Mark(name=entry.name, where=where, stamp=stamp_of(where.path, where.files)))
    library.rejoin()


def _require_unneeded(runtime: Runtime, planned: Removal) -> None:
    """Raise Overloaded where a model has been made of these files since that was planned."""
    gone = {(planned.folder / name).resolve() for name in planned.files}
    for one in runtime.library.entries():
        if isinstance(one, Derived) and not gone.isdisjoint(removal.paths(one)):
            raise Overloaded(f"{one.name} was made of {planned.model} just now.", "Try again.", retry_after_s=1)


def _library(runtime: Runtime) -> tuple[Library, Recipes]:
    library = runtime.library
    if not isinstance(library, Library) or library.recipes is None:
        raise RefusedRequest(
            "models cannot be created here: anyform's own folder is not among the sources.",
            'Start with "anyform" among the sources in [models] of the settings file.',
        )
    return library, library.recipes


def _require_free(library: Library, name: str, base: Entry | None) -> None:
    """Raise Invalid where *name* is that of a model which is no recipe, or short for another one than *base*."""
    try:
        there = library.find(name)
    except ModelNotFound:  # also where it could be short for several
        return
    taken = plain(name) in {plain(alias) for alias in library.aliases}
    if not isinstance(there, Derived):
        taken = taken or is_called(there, name) or base is None or not _is_same(base, there)
    if taken:
        raise Invalid(
            f"{name} is the name of a model that is here already: {there.name}.",
            f"Give another name, or delete that one first: `anyform rm {there.name}`.",
            model=name,
        )


def _require_whole(name: str, names: Iterable[str]) -> None:
    """Raise ModelNotFound unless *name* is one of *names*: what is only short for a model deletes none."""
    said = bare(name)
    if plain(said) not in {plain(one) for one in names}:
        whole = next(iter(names))
        raise ModelNotFound(f"there is no model {name!r} to delete.", f"Name it in full: {whole}.", model=name)


def _is_same(base: Entry, other: Entry) -> bool:
    """Whether *base*, or what it was made from, is the model *other*, whatever either was called when it was found."""
    base = (base.base or base) if isinstance(base, Derived) else base
    return place_of(where_of(base)) == place_of(where_of(other))


def _flat(recipe: Recipe, base: Entry | None) -> Recipe:
    """*recipe* with the files of *base*; where that is a recipe's, over what that one says."""
    if base is None:
        return recipe
    if not (base.here and (Path(base.path) / base.match.entry).exists()):
        raise ModelNotFound(f"{base.name} is not here yet.", f"Pull it first: `anyform pull {base.name}`.")
    if not isinstance(base, Derived):
        return replace(recipe, base=base.name, where=where_of(base))
    parent = base.recipe
    return replace(
        recipe,
        base=parent.base,
        where=parent.where if base.base is None else where_of(base),
        folder=parent.folder,
        digests=parent.digests,
        system=recipe.system or parent.system,
        request={**parent.request, **recipe.request},
        settings=over(parent.settings, recipe.settings),
        messages=recipe.messages or parent.messages,
        chat_template=recipe.chat_template or parent.chat_template,
        licenses=tuple(dict.fromkeys((*parent.licenses, *recipe.licenses))),
        adapters=parent.adapters,
        about={**parent.about, "parent": parent.name, **recipe.about},
    )


@contextmanager
def _folder(
    recipes: Recipes, recipe: Recipe, files: Mapping[str, str], adapters: Mapping[str, str]
) -> Iterator[Recipe]:
    """*recipe* with a folder of its own that has *files* and *adapters* too, where there are any; it goes if what is
    done with it fails.
    """
    if not files and not adapters:
        yield recipe
        return
    taken = {name.casefold() for name in recipe.digests}
    laid = {_unused(f"{ADAPTERS}/{name}", taken): digest for name, digest in adapters.items()}
    added = {**files, **laid}
    for name, digest in added.items():
        if not recipes.blobs.has(digest):
            raise Invalid(f"{name} is to be {digest}, which was not uploaded.", "Upload it first.", file=name)
    made = recipes.new_folder()
    folder = recipes.own(made)
    try:
        if recipe.folder:
            for path, _ in _sizes(recipes, recipe):
                _link(path, folder / path.relative_to(recipes.own(recipe.folder)))
        for name, digest in added.items():
            _link(recipes.blobs.path(digest), folder / name)
        where = recipe.where
        if where is not None and recipe.folder and Path(where.path) == recipes.own(recipe.folder):
            where = replace(where, path=str(folder))
        yield replace(
            recipe,
            folder=made,
            where=where,
            digests={**recipe.digests, **added},
            adapters=tuple(dict.fromkeys((*recipe.adapters, *laid))),
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _unused(name: str, taken: Container[str]) -> str:
    """*name*, or with a number before its last part: an adapter of a model does not go in the place of its base's."""
    folder, _, file = name.rpartition("/")
    further = (f"{folder}/{number}-{file}" for number in count(2))
    return next(free for free in chain((name,), further) if free.casefold() not in taken)


def _link(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except FileExistsError:  # never written over: it is another upload's bytes
            raise
        except OSError:  # a disk without links
            shutil.copyfile(source, target)
    except OSError as error:
        raise unwritable(error, target) from error


def _detected(library: Library, recipe: Recipe, folder: Path) -> Recipe:
    """*recipe* with what lies in its own *folder*. Raises UnknownFormat, InvalidModel, Invalid for several models."""
    names = tuple(name for name in recipe.digests if not name.startswith(f"{ADAPTERS}/"))
    reader = library.shelf.reader
    place = Place(path=folder, name=recipe.name, files=names)
    try:
        found = survey(reader, [Lead(source=SOURCE, place=place, required=True)])
    except UnknownFormat as unknown:
        raise UnknownFormat(f"no installed plugin recognises {', '.join(sorted(names))}.", unknown.hint) from None
    if len(found) > 1:
        told = ", ".join(entry.match.entry for entry in found)
        raise Invalid(f"{recipe.name} is to be made of files that are several models: {told}.", "Name those of one.")
    entry = found[0]
    wrong = [one for one in reader.findings(entry, entry.plugin, entry.match) if one.severity is Severity.CRITICAL]
    if wrong:
        raise InvalidModel(f"{recipe.name} cannot be made: {wrong[0].text}", findings=[one.text for one in wrong])
    return replace(recipe, where=replace(where_of(entry), files=names))


def _check_names(names: Iterable[str]) -> None:
    names = list(names)
    if len(names) > MOST_FILES:
        raise Invalid(f"{len(names)} files were named.", f"A model may have {MOST_FILES}.")
    for name in names:
        parts = PurePosixPath(name).parts
        if not parts or "/".join(parts) != name or len(parts) > 4 or not all(FILE.fullmatch(part) for part in parts):
            raise Invalid(
                f"{name[:200]!r} is no name for a file of a model.",
                "Give a relative name, such as model.gguf: no '..', nothing hidden, up to three folders.",
            )
        if parts[0] == ADAPTERS:
            raise Invalid(f"{name!r}: {ADAPTERS} is for adapters.", "Call the folder otherwise.")
    folded = [name.casefold() for name in names]
    for name in folded:
        if folded.count(name) > 1 or any(str(folder) in folded for folder in PurePosixPath(name).parents):
            raise Invalid(f"{name[:200]!r} is the name of several files, or of a folder too.", "Name each otherwise.")


def _sizes(recipes: Recipes, recipe: Recipe) -> Iterator[tuple[Path, int]]:
    """The recipe's own files."""
    if recipe.folder:
        for path in sorted(recipes.own(recipe.folder).rglob("*")):
            if path.is_file():
                yield path, path.stat().st_size


def _settle(library: Library, recipes: Recipes, gone: Recipe | None) -> int:
    """See what has changed, and delete what nothing needs any more: uploads that were those of *gone*, and hidden
    models; bytes that the latter freed.
    """
    with recipes.alone():
        for digest in gone.digests.values() if gone is not None else ():
            recipes.blobs.drop(digest)
        library.rejoin()
        marks = recipes.hidden()
        return _release(library, recipes, marks) if marks else 0


def _release(library: Library, recipes: Recipes, marks: Sequence[Mark]) -> int:
    needed = {place_of(one.where) for one in recipes.all() if one.where}
    bases = [one.base for one in library.entries() if isinstance(one, Derived) and one.base]
    unneeded = [
        entry
        for entry in library.hidden()
        if place_of(where_of(entry)) not in needed and not any(_is_same(base, entry) for base in bases)
    ]
    there, freed = (*library.entries(), *library.hidden()), 0
    for entry in unneeded if not recipes.troubles else ():  # a record that cannot be read may need it
        recipes.unhide(mark for mark in marks if is_marked(entry, mark))
        with suppress(NotOurs, BeingPulled):  # who pulls it wants it
            found = removal.considered(recipes.home, entry, there, force=True)
            removal.remove(recipes.home, found)
            freed += found.freed_bytes
    if unneeded:
        library.refresh()
    return freed


def _is_pulled(home: Path, entry: Entry) -> bool:
    """Whether pulls brought all files of *entry*. Raises NotOurs outside of *home*."""
    planned = removal.considered(home, entry, ())
    folder = planned.folder.resolve()
    top = home.resolve().joinpath(*folder.relative_to(home.resolve()).parts[:2])
    recorded = own.read_record(top).get("files", {})
    return all((folder / name).relative_to(top).as_posix() in recorded for name in planned.files)


def _listed(runtime: Runtime, name: str) -> list[str]:
    """The names under which the recipe *name* is listed: that, unless another model came by it."""
    made = (entry for entry in runtime.library.entries() if isinstance(entry, Derived))
    return [entry.name for entry in made if entry.recipe.name.casefold() == name.casefold()]


def _unload(runtime: Runtime, names: Iterable[str]) -> None:
    """Also what their last loads were told is forgotten."""
    for name in names:
        with suppress(ModelNotFound):  # it was not loaded
            runtime.unload(name)
