"""Recipes: models made of other ones, by a system prompt, defaults of requests, settings, a template. Kept as files.

A recipe is a small JSON file in `.recipes/` below anyform's own folder; models that were made of uploaded files have
these in `.recipes/files/`. The library lists each as a model of its own name (`anyform.sources.derived`), and the rules
of `anyform.rules` lay what it says over those of its base.

For dialects: `Server.recipes` is `anyform.sources.derivation.of(runtime)`, None where no home is known:

    recipes.create(Recipe(name="mario", base="llama3.2", system="You are Mario.", ...), files={}, adapters={}) -> Recipe
    recipes.copy("mario", "luigi"); recipes.delete("mario")
    recipes.get("mario:latest") -> Recipe | None; recipes.all()
    recipes.blobs.has(digest); with recipes.blobs.begin(digest) as draft: draft.write(chunk) ...; draft.commit()
    entry = runtime.find("mario"): a `Derived`, with entry.recipe and entry.base

All of it blocks. What is created, copied and deleted is seen at once, and told as news of the kind "library".
What a request may say of `Settings.options` is the dialect's to restrict, as for loads: paths are the operator's.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import MISSING, Field, asdict, field, fields, replace
from pathlib import Path
from typing import Any

from anyform.contract.errors import Invalid, ModelNotFound, Overloaded
from anyform.contract.facts import Settings, fact
from anyform.kernel.entry import Entry
from anyform.sources.blob import Blobs, unwritable
from anyform.sources.hubname import bare

FOLDER = ".recipes"
RECORD = ".recipe.json"
DRAFT = ".part"
HIDDEN = "hidden.json"
FILES = "files"
LATEST = ":latest"
LOCK = "recipes"
MOST = 1000
"""Recipes in one home."""
LARGEST_BYTES = 1 << 20
"""Of one recipe, as JSON."""
LONGEST = 255
"""Letters of a name."""
PATIENCE_S = 30.0
"""How long another process is waited for that changes the recipes."""
RACY_S = 0.05
"""A folder that was changed so lately may be changed again without its time telling."""

HOST = re.compile(r"\w[\w.:-]*", re.ASCII)
PART = re.compile(r"\w[\w.-]{0,79}", re.ASCII)


@fact
class Where:
    """Where a model's files lie."""

    path: str
    """The folder, absolute."""
    entry: str
    format: str = ""
    variant: str = ""
    files: tuple[str, ...] = ()


@fact
class Recipe:
    """What a model is made of, and what is said about it. All but the name may be left out."""

    name: str
    """[host/][namespace/]model[:tag], without `:latest`."""
    base: str = ""
    """The name of the model that it is made from; empty: it was made from files of its own."""
    where: Where | None = None
    """The files of that model, so that they are found when its name has gone; found at creation."""
    folder: str = ""
    """The name of the folder with its own files, in `.recipes/files`; empty: it has none."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Relative name -> "sha256:<hex>" of its own files."""
    system: str = ""
    request: Mapping[str, Any] = field(default_factory=dict)
    """What requests leave out, by the names of the HTTP interface: temperature, stop, max_tokens, ..."""
    settings: Settings = Settings()
    """Load-time settings."""
    messages: tuple[Mapping[str, Any], ...] = ()
    """What every conversation begins with: {"role", "content"}."""
    chat_template: str = ""
    """Jinja; empty: the model's own."""
    licenses: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    """Relative names, in its own folder, of adapters that the engine lays over the weights."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """JSON that a dialect keeps: the template as it was given, parameters as they were written, ..."""
    modified_s: float = 0.0
    """Seconds since the epoch."""

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@fact
class Mark:
    """A model whose name was deleted, while recipes need its files."""

    name: str
    where: Where
    stamp: str = ""
    """Sizes and times of its files, which go with the last recipe that needs them; others are another model."""


class Recipes:
    """The recipes of one home. Safe between threads and processes: files are replaced in one step, under a lock."""

    def __init__(self, home: Path) -> None:
        """*home*: anyform's own folder, `models`; it may not exist."""
        self.home = Path(os.path.abspath(home))
        self.folder = self.home / FOLDER
        self.blobs = Blobs(self.folder / "blobs")
        self.troubles: list[str] = []
        """Records that could not be read the last time, in words."""
        self._known: dict[Path, tuple[tuple[int, ...], Recipe]] = {}
        """What records said, by what tells whether they are the same files still."""
        self._lock = threading.RLock()
        self._depth = 0

    def all(self) -> list[Recipe]:
        """Every recipe, by name. What cannot be read is told in `troubles`."""
        troubles: list[str] = []
        found = [recipe for path in self._records() if (recipe := self._tried(path, troubles))]
        self.troubles = troubles
        return sorted(found, key=lambda recipe: recipe.name)

    def get(self, name: str) -> Recipe | None:
        """The recipe of that name, `:latest` and letter case aside; None if there is none."""
        try:
            path = self._path(canonical(name))
        except Invalid:
            return None
        return self._tried(path, [])

    def create(self, recipe: Recipe) -> Recipe:
        """Keep *recipe*, in the place of one of the same name; as it is kept. Whether its base is there is not asked.

        Raises Invalid, Overloaded, DiskFull.
        """
        recipe = replace(recipe, name=canonical(recipe.name), modified_s=recipe.modified_s or time.time())
        data = _written(self._relative(recipe))
        path = self._path(recipe.name)
        with self.alone():
            if not path.exists() and len(self._records()) >= MOST:
                raise Invalid(f"there are {MOST} created models already.", "Delete some of them.")
            self._write(path, data)
            self.sweep()
        return recipe

    def copy(self, source: str, new: str) -> Recipe:
        """The recipe *source* under another name too. Raises ModelNotFound, and as `create`."""
        with self.alone():
            found = self.get(source)
            if found is None:
                raise ModelNotFound(f"there is no created model {source!r}.", "`anyform list` shows all.", model=source)
            return self.create(replace(found, name=new, modified_s=0.0))

    def delete(self, name: str) -> bool:
        """Forget a recipe, and its own files unless another needs them; False if there was none.

        Raises Overloaded, DiskFull.
        """
        with self.alone():
            if self.get(name) is None:
                return False
            self._path(canonical(name)).unlink(missing_ok=True)
            self.sweep()
            return True

    def new_folder(self) -> str:
        """The name of a folder for a recipe's own files, made; it goes with the next change unless one names it.

        Raises DiskFull.
        """
        name = uuid.uuid4().hex
        try:
            self.own(name).mkdir(parents=True)
        except OSError as error:
            raise unwritable(error, self.own(name)) from error
        return name

    def own(self, folder: str) -> Path:
        """The folder of that name."""
        return self.folder / FILES / folder

    def sweep(self) -> None:
        """Delete what no recipe needs: folders of files and unfinished records at once, uploads once they are old.

        To be called while `alone`.
        """
        troubles: list[str] = []
        needed = {recipe.folder for path in self._records() if (recipe := self._tried(path, troubles))}
        with suppress(OSError):
            for draft in self.folder.glob(f".*{DRAFT}"):  # of those who were killed: who writes is alone
                draft.unlink()
            for folder in (self.folder / FILES).iterdir() if not troubles else ():
                if folder.name not in needed:
                    shutil.rmtree(folder, ignore_errors=True)
        self.blobs.sweep()

    def hidden(self) -> list[Mark]:
        """Models whose names were deleted."""
        said = (_read(self.folder / HIDDEN) or {}).get("hidden")
        marks = (_revived(Mark, one) for one in said) if isinstance(said, list) else ()
        return [replace(mark, where=self._absolute(mark.where)) for mark in marks if mark is not None]

    def hide(self, mark: Mark) -> None:
        """Have the model no longer listed. Raises Overloaded, DiskFull."""
        with self.alone():
            left = [one for one in self.hidden() if place_of(one.where) != place_of(mark.where)]
            self._keep([*left, mark])

    def unhide(self, marks: Iterable[Mark]) -> None:
        """Have these models listed again. Raises Overloaded, DiskFull."""
        places = {place_of(mark.where) for mark in marks}
        if places:
            with self.alone():
                self._keep([mark for mark in self.hidden() if place_of(mark.where) not in places])

    def brought(self, folder: Path, files: Iterable[str]) -> None:
        """*files* of *folder* were asked for anew: models that they make up are listed again. Raises as `unhide`."""
        there = {Path(os.path.abspath(folder)) / name for name in files}
        self.unhide(
            mark for mark in self.hidden() if there.issuperset(Path(mark.where.path) / n for n in mark.where.files)
        )

    def stamp(self) -> str:
        """What changes with every recipe that is made or deleted, here or by another process; empty: not to be told."""
        try:
            changed = self.folder.stat().st_mtime_ns
        except OSError:
            return "none"
        return str(changed) if abs(time.time() - changed / 1e9) > RACY_S else ""

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others from changing recipes. Raises Overloaded when another process does for long; DiskFull."""
        from anyform.sources import hublock

        began = time.monotonic()

        def wait() -> None:
            if time.monotonic() - began > PATIENCE_S:
                raise Overloaded("another anyform changes the created models.", "Try again.", retry_after_s=10)

        with self._lock:
            self._depth += 1
            try:
                with ExitStack() as held:
                    if self._depth == 1:
                        try:
                            held.enter_context(hublock.alone(self.home, LOCK, wait))
                        except OSError as error:
                            raise unwritable(error, self.folder) from error
                    yield
            finally:
                self._depth -= 1

    def _records(self) -> list[Path]:
        with suppress(OSError), os.scandir(self.folder) as found:
            return sorted(Path(item.path) for item in found if item.name.endswith(RECORD))
        return []

    def _path(self, name: str) -> Path:
        folded = name.casefold()
        plain, key = re.sub(r"[^a-z0-9._-]", "-", folded)[:80], hashlib.sha256(folded.encode()).hexdigest()[:16]
        return self.folder / f"{plain}.{key}{RECORD}"

    def _tried(self, path: Path, troubles: list[str]) -> Recipe | None:
        mark, known = _mark(path), self._known.get(path)
        if known is not None and known[0] == mark:
            return known[1]
        recipe = self._revived(path, troubles)
        if recipe is not None and mark == _mark(path):
            self._known[path] = (mark, recipe)
        return recipe

    def _revived(self, path: Path, troubles: list[str]) -> Recipe | None:
        said = _read(path)
        recipe: Recipe | None = _revived(Recipe, said)
        if recipe is None and said is not None:
            troubles.append(f"{path} cannot be read as a created model. Delete it, and create the model anew.")
        if recipe is None:
            return None
        return replace(recipe, where=self._absolute(recipe.where) if recipe.where else None)

    def _relative(self, recipe: Recipe) -> Recipe:
        return replace(recipe, where=self._below(recipe.where)) if recipe.where else recipe

    def _below(self, where: Where) -> Where:
        """With a path relative to the home where it lies in it, so that homes can be moved."""
        path = Path(where.path)
        inside = path.is_relative_to(self.home)
        return replace(where, path=path.relative_to(self.home).as_posix()) if inside else where

    def _absolute(self, where: Where) -> Where:
        return replace(where, path=os.path.normpath(self.home / where.path))

    def _keep(self, marks: Iterable[Mark]) -> None:
        said = [asdict(replace(mark, where=self._below(mark.where))) for mark in marks]
        self._write(self.folder / HIDDEN, json.dumps({"hidden": said}, indent=1).encode("ascii"))

    def _write(self, path: Path, data: bytes) -> None:
        """Replace *path* in one step: whoever is killed meanwhile leaves the one or the other."""
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}{DRAFT}")
        try:
            with draft.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError as error:
            raise unwritable(error, path) from error
        finally:
            draft.unlink(missing_ok=True)


def canonical(name: str) -> str:
    """*name* as recipes are kept under it: without `:latest` and a hub's address, which a look-up leaves out too.

    Raises Invalid for what is no name of a model.
    """
    name = bare(name)
    parts = name.split("/")
    model, colon, tag = parts[-1].partition(":")
    wrong = (
        len(name) > LONGEST
        or len(parts) > 3
        or not all(PART.fullmatch(part) for part in (*parts[-2:-1], model, *((tag,) if colon else ())))
        or not all(HOST.fullmatch(part) for part in parts[:-2])
    )
    if wrong:
        raise Invalid(
            f"{name[:LONGEST]!r} is no name for a model.",
            "Write it as model, model:tag or namespace/model:tag, each of letters, digits, '.', '_' and '-', up to 80.",
            model=name[:LONGEST],
        )
    return name[: -len(LATEST)] if name.casefold().endswith(LATEST) else name


def where_of(entry: Entry) -> Where:
    """Where the files of *entry* lie."""
    match = entry.match
    return Where(path=entry.path, entry=match.entry, format=match.format, variant=match.variant, files=match.files)


def place_of(where: Where) -> tuple[str, str, str]:
    """What tells the model there from all others, whatever these are called."""
    return where.path, where.entry, where.variant


def _written(recipe: Recipe) -> bytes:
    try:
        data = json.dumps(recipe.as_dict(), indent=1, allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as bad:
        raise Invalid(
            f"the model {recipe.name} cannot be kept: {bad}.", "Give JSON values, and not too deep."
        ) from None
    if len(data) > LARGEST_BYTES:
        raise Invalid(
            f"what is said of the model {recipe.name} takes {len(data)} bytes.", f"At most {LARGEST_BYTES} are kept."
        )
    return data


def _mark(path: Path) -> tuple[int, ...]:
    """Another for every file that is put in the place of *path*; empty: there is none."""
    try:
        stat = path.stat()
    except OSError:
        return ()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _read(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; empty where there is something else, None where there is no file."""
    try:
        if path.stat().st_size > LARGEST_BYTES:
            return {}
        said = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


_NESTED: Mapping[str, Any] = {"where": Where, "settings": Settings}


def _revived(cls: Any, said: Any) -> Any:
    """A fact out of JSON; None where that does not fit. Fields of later versions are passed over."""
    if not isinstance(said, dict):
        return None
    made: dict[str, Any] = {}
    for item in fields(cls):
        value = said.get(item.name)
        if value is None:
            continue
        if item.name in _NESTED:
            value = _revived(_NESTED[item.name], value)
        value = tuple(value) if isinstance(value, list) else value
        if not _fits(value, item):
            return None
        made[item.name] = value
    try:
        return cls(**made)
    except TypeError:
        return None


def _fits(value: Any, item: Field[Any]) -> bool:
    """Whether *value* is of the kind that the field has when nothing is said."""
    if item.name in _NESTED or item.default is None:
        return value is not None
    plain = "" if item.default is MISSING and item.default_factory is MISSING else item.default
    if item.default_factory is not MISSING:
        plain = item.default_factory()
    kind = (int, float) if isinstance(plain, float) else type(plain)
    return isinstance(value, kind)
