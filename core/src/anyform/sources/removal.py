"""Deletes what was pulled: one model with what only it needs, what is incomplete, or everything."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from anyform.contract.errors import Area, Category, Fault
from anyform.contract.facts import FormatMatch, Severity, fact
from anyform.kernel.entry import Entry
from anyform.sources import folder as own
from anyform.sources import hublock
from anyform.sources.recipe import FOLDER, Recipes

OTHERS = {"ollama": "ollama rm"}
"""Stores whose own records would name files that are gone; and the command that keeps both in step."""

UPLOADS = f"{FOLDER}/blobs"
"""What stands for a repository where uploads are left over."""
UNTOUCHED_S = 3600.0
"""How long an upload that no model uses is let be: one may still be made of it."""

LINKED = "huggingface"
"""The store whose files are links to their contents."""


class NotOurs(Fault):
    """Files that anyform did not put where they are."""

    code = "not_ours"
    category, area, severity = Category.REFUSED, Area.STORAGE, Severity.INFO


@fact
class Removal:
    """What goes, and what stays."""

    model: str
    folder: Path
    files: tuple[str, ...]
    """Relative to `folder`."""
    shared: tuple[str, ...] = ()
    """Files of the model that others need too; they stay."""
    freed_bytes: int = 0
    linked: bool = False
    """Whether the files are links into a store that keeps their contents apart, which go too."""
    recipe: bool = False
    """Whether it is a created model: then its record goes, and the files that were uploaded for it alone."""
    hidden: bool = False
    """Whether only its name goes, since created models need its files; these go with the last of them."""


@fact
class Form:
    """One form of a model: some have several of the same name and variant in one folder."""

    format: str
    files: tuple[str, ...]
    size_bytes: int


def forms(entry: Entry) -> tuple[Form, ...]:
    """The forms of *entry*, the one that it is listed under first."""
    found: dict[str, set[str]] = {}
    for match in _matches(entry):
        found.setdefault(match.format, set()).update(_names(match))
    return tuple(
        Form(format=kind, files=tuple(sorted(names)), size_bytes=sum(_size(Path(entry.path) / name) for name in names))
        for kind, names in found.items()
    )


def considered(
    home: Path, entry: Entry, entries: Iterable[Entry], force: bool = False, form: Form | None = None
) -> Removal:
    """What removing *entry* would delete, of all *entries*; of several forms just *form*, or None for all.

    Raises NotOurs outside of *home* unless it is forced.
    """
    folder = _folder(home, entry)
    if not _is_inside(folder, home):
        _refuse(entry, force)
    wanted = form.files if form else _files(entry)
    needed = {path for other in entries if other.name != entry.name for path in paths(other)}
    kept = [other for other in forms(entry) if form and other.format != form.format]
    needed |= {(folder / name).resolve() for other in kept for name in other.files}
    files = tuple(name for name in wanted if (folder / name).resolve() not in needed)
    return Removal(
        model=entry.name,
        folder=folder,
        files=files,
        shared=tuple(name for name in wanted if name not in files),
        freed_bytes=sum(_size(folder / name) for name in files),
        linked=entry.source == LINKED,
    )


def remove(home: Path, removal: Removal) -> None:
    """Delete. Raises BeingPulled, OSError."""
    repository, folder = _repository(home, removal.folder), removal.folder.resolve()
    if repository is None:
        _delete((folder / name for name in removal.files), removal.linked)
        return
    top = home.resolve() / repository
    with hublock.at_once(home, repository):
        _delete(folder / name for name in removal.files)
        _forget(top, {(folder / name).relative_to(top).as_posix() for name in removal.files})
        _tidy(home, top)


@fact
class Leftovers:
    """What `clean` would delete of one repository."""

    repository: str
    files: tuple[Path, ...]
    size_bytes: int


def needed(home: Path) -> dict[str, list[str]]:
    """Repositories that created models are made from -> the names of these."""
    found: dict[str, list[str]] = {}
    for recipe in Recipes(home).all():
        place = _repository(home, Path(recipe.where.path)) if recipe.base and recipe.where else None
        for name in {place or "", recipe.base.partition(":")[0]} - {""}:
            found.setdefault(name, []).append(recipe.name)
    return found


def leftovers(home: Path, everything: bool = False, kept: Container[str] = ()) -> Iterator[Leftovers]:
    """Files of pulls and uploads that did not end; with *everything* all that was pulled too, but for the repositories
    in *kept*, and never what a person put there.
    """
    if unused := tuple(Recipes(home).blobs.unused(UNTOUCHED_S)):
        yield Leftovers(repository=UPLOADS, files=unused, size_bytes=sum(map(_size, unused)))
    for top in sorted(path for path in home.glob("*/*") if path.is_dir() and not path.parent.name.startswith(".")):
        files = [*(top / own.INCOMPLETE).glob("*"), *top.glob(f"*{own.PART}"), *top.glob(f".*{own.PART}")]
        name = top.relative_to(home).as_posix()
        if everything and name not in kept:
            files += [top / name for name in own.read_record(top).get("files", {}) if _is_inside(top / name, top)]
        found = tuple(path for path in files if path.is_file())
        if found:
            yield Leftovers(repository=name, files=found, size_bytes=sum(map(_size, found)))


def clean(home: Path, leftover: Leftovers) -> None:
    """Delete. Raises BeingPulled, OSError."""
    if leftover.repository == UPLOADS:
        _delete(leftover.files)
        return
    top = home / leftover.repository
    with hublock.at_once(home, leftover.repository):
        _delete(leftover.files)
        _forget(top, {path.relative_to(top).as_posix() for path in leftover.files})
        _tidy(home, top)


def _folder(home: Path, entry: Entry) -> Path:
    """Where the model lies: of several places our own."""
    ours = [Path(spot.path) for spot in entry.places if spot.entry == entry.match.entry]
    return next((path for path in ours if _is_inside(path, home)), Path(entry.path))


def _refuse(entry: Entry, force: bool) -> None:
    if entry.source in OTHERS:
        raise NotOurs(f"{entry.name} is {entry.source}'s, which keeps records of it.", f"Use `{OTHERS[entry.source]}`.")
    if not force:
        raise NotOurs(
            f"{entry.name} lies in {entry.path}, not in anyform's own folder.", "Delete it all the same with --force."
        )


def _files(entry: Entry) -> tuple[str, ...]:
    return tuple(sorted({name for match in _matches(entry) for name in _names(match)}))


def _matches(entry: Entry) -> list[FormatMatch]:
    return [entry.match, *(match for _, match in entry.others)]


def _names(match: FormatMatch) -> set[str]:
    return {name for name in (match.entry, *match.files) if name != "."}


def paths(entry: Entry) -> Iterator[Path]:
    """Everything that *entry* needs, wherever it lies."""
    for folder in {entry.path, *(spot.path for spot in entry.places)}:
        for name in _files(entry):
            yield (Path(folder) / name).resolve()


def _repository(home: Path, folder: Path) -> str | None:
    """owner/repo that *folder* belongs to; None outside of our own folder's layout."""
    if not _is_inside(folder, home):
        return None
    parts = folder.resolve().relative_to(home.resolve()).parts
    return "/".join(parts[:2]) if len(parts) >= 2 else None


def _delete(paths: Iterable[Path], linked: bool = False) -> None:
    for path in paths:
        content = path.resolve() if linked and path.is_symlink() else None
        path.unlink(missing_ok=True)
        if content is not None:
            content.unlink(missing_ok=True)


def _forget(top: Path, names: set[str]) -> None:
    """Take *names* out of the record."""
    record: dict[str, Any] = own.read_record(top)
    if record and names & record["files"].keys():
        left = {name: facts for name, facts in record["files"].items() if name not in names}
        own.write_record(top, {**record, "files": left})


def _tidy(home: Path, top: Path) -> None:
    """Remove folders that are empty now, and a record that records nothing."""
    if top.is_dir() and not own.read_record(top).get("files"):
        (top / own.RECORD).unlink(missing_ok=True)
    for folder in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True):
        with suppress(OSError):
            folder.rmdir()
    for folder in (top, top.parent):
        if folder != home:
            with suppress(OSError):
                folder.rmdir()


def _is_inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve()) and path.resolve() != folder.resolve()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
