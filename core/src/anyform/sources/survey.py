"""From places to the models in them: asks the detectors, level by level and many folders at once. Loads nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from anyform.contract.errors import Fault
from anyform.contract.facts import FormatMatch, fact
from anyform.contract.hooks import Place
from anyform.kernel.entry import Entry, Spot
from anyform.kernel.files import UNSHOWN, FolderFiles
from anyform.sources import detect
from anyform.sources.naming import is_folders_own
from anyform.sources.reader import Reader, together

DEPTH = 4
"""How far below a models folder a model may lie (owner/repo/subfolder)."""


@fact
class Lead:
    """A place that a source named."""

    source: str
    place: Place
    required: bool = False
    """Whether it is a fault if nothing is recognised there."""
    below: int = 0
    """How far it lies below the folder that is searched."""


def survey(reader: Reader, leads: Sequence[Lead]) -> list[Entry]:
    """The models at *leads*, in their order. Raises UnknownFormat or ModelNotFound for one that is required."""
    found: dict[int, list[Entry]] = {number: [] for number in range(len(leads))}
    level = list(enumerate(leads))
    while level:
        answers = list(together(lambda numbered: _look(reader, numbered[1]), level))
        for (number, _), (entries, _) in zip(level, answers, strict=True):
            found[number] += entries
        level = [(number, lead) for (number, _), (_, more) in zip(level, answers, strict=True) for lead in more]
    return [entry for entries in found.values() for entry in entries]


def _look(reader: Reader, lead: Lead) -> tuple[list[Entry], list[Lead]]:
    """(models that lie at the place itself, places below it that are to be searched)"""
    place = replace(lead.place, path=Path(os.path.abspath(lead.place.path)))
    try:
        files = FolderFiles(place.path, place.files)
        found = reader.matches(files) if not place.search or _holds_files(files) else []
    except Fault:
        if lead.required:
            raise
        return [], []
    if place.search:
        found = [pair for pair in found if _lies_here(pair[1])]
        return list(_entries(files, found, place.name, lead)), list(_below(place, found, lead))
    if not found and lead.required:
        detect.refuse(reader.plugins, files)
    return list(_entries(files, found, place.name or place.path.name, lead)), []


def _below(place: Place, found: Sequence[detect.Found], lead: Lead) -> Iterator[Lead]:
    """The folders of *place* that no model in it owns."""
    owned = {part.partition("/")[0] for _, match in found for part in match.files if "/" in part}
    owned.update(place.skip)
    for child in _folders(place.path) if lead.below < DEPTH else ():
        if child.name not in owned and not UNSHOWN.search(child.name):
            skip = tuple(name.partition("/")[2] for name in place.skip if name.startswith(f"{child.name}/"))
            name = f"{place.name}/{child.name}" if place.name else child.name
            yield replace(lead, place=replace(place, path=child, name=name, skip=skip), below=lead.below + 1)


def _holds_files(files: FolderFiles) -> bool:
    """Whether files lie in the folder itself: a folder of folders is no model, and looking at all below costs time."""
    return any("/" not in name for name in files.files)


def _lies_here(match: FormatMatch) -> bool:
    """Whether a model belongs to the folder itself, and not to one below it that is a model folder of its own."""
    return any("/" not in part for part in (match.entry, *match.files))


def _entries(files: FolderFiles, found: Sequence[detect.Found], name: str, lead: Lead) -> Iterator[Entry]:
    """The models of one folder or file, which is called *name*; each under its form of the strongest evidence."""
    place = lead.place
    forms = _forms(found)
    bases = {base for base, _ in forms}
    for (base, _), pairs in forms.items():
        group = _group_name(name, base, len(bases) == 1)
        plugin, match = pairs[0]
        alone = files.target and not place.name
        single = files.path.name if is_folders_own(match) else Path(name).stem
        yield Entry(
            name=single if alone else group,
            path=str(files.path),
            plugin=plugin,
            match=match,
            others=tuple(pairs[1:]),
            groups=() if alone else (group,),
            aliases=place.aliases if len(forms) == 1 else (),
            size_bytes=sum(files.files.get(part, 0) for part in match.files),
            source=lead.source,
            places=(Spot(source=lead.source, path=str(files.path), entry=match.entry, revision=place.revision),),
            only=place.files,
            digests={part: place.digests[part] for part in match.files if part in place.digests},
            about=place.about,
        )


def _forms(found: Sequence[detect.Found]) -> dict[tuple[str, str], list[detect.Found]]:
    """What was found, by name and variant; what has the same of both is one model in several forms.

    A match without a name is the folder's own model. Where all that has a name has the same one, and is of other
    formats, that is the same model: the nameless without a variant is one more form of the variant that comes first.
    A match without a variant that points at the file of one before is a form of that one.
    """
    named = {match.name for _, match in found if match.name}
    formats = {match.format for _, match in found if match.name}
    own = named.pop() if len(named) == 1 else ""
    forms: dict[tuple[str, str], list[detect.Found]] = {}
    unnamed = []
    for plugin, match in found:
        joins = not match.name and match.format not in formats
        same = next((pairs for pairs in forms.values() if _is_form(match, pairs)), None)
        if same is not None:
            same.append((plugin, match))
        elif joins and own and not match.variant:
            unnamed.append((plugin, match))
        else:
            forms.setdefault((own if joins else match.name, match.variant), []).append((plugin, match))
    if unnamed:
        next(iter(forms.values())).extend(unnamed)
    return forms


def _is_form(match: FormatMatch, pairs: Sequence[detect.Found]) -> bool:
    """Whether another format sees the very weights of *match* in *pairs*."""
    seen = (one for _, one in pairs if one.entry != "." and not match.variant)
    return any((one.entry, one.name) == (match.entry, match.name) and one.format != match.format for one in seen)


def _folders(folder: Path) -> list[Path]:
    """The folders below, sorted; hidden ones are skipped, and one that cannot be read has none."""
    try:
        return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError:
        return []


def _group_name(folder: str, base: str, alone: bool) -> str:
    """A folder's name serves for its only model; several are told apart by their own names."""
    if not folder:
        return base or "model"
    return folder if alone or not base else f"{folder}/{base}"
