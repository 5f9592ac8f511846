"""Names and the places behind them. Reads directory listings and detectors' answers; loads nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from anyform.contract.errors import Invalid, ModelNotFound
from anyform.contract.facts import FormatMatch, fact
from anyform.kernel import detect
from anyform.kernel.files import FolderFiles
from anyform.kernel.plugins import Plugins

DEPTH = 4
"""How far below a models folder a model may lie (owner/repo/subfolder)."""

REFRESH_S = 1.0
"""How often at most an unknown name makes the library look at the disk again."""


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
    aliases: tuple[str, ...] = ()
    """Other names that mean this one, such as the bare name of the preferred variant."""
    size_bytes: int = 0


class Library:
    """All models under the given paths and folders, found when first asked for; `refresh` looks again."""

    def __init__(
        self,
        plugins: Plugins,
        paths: Sequence[Path] = (),
        folders: Sequence[Path] = (),
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        """*paths*: files or folders that are models. *folders*: searched for models.

        Raises ModelNotFound for an absent one, Invalid for a file among the folders.
        """
        for place in (*paths, *folders):
            if not place.exists():
                raise ModelNotFound(f"nothing lies at {place}.", "Check the spelling of the path.")
        for folder in folders:
            if not folder.is_dir():
                raise Invalid(
                    f"{folder} is a file, not a folder of models.", "Name the file itself instead of --models."
                )
        self.plugins, self.paths, self.folders = plugins, tuple(paths), tuple(folders)
        self.aliases = dict(aliases or {})
        """The user's own names: alias -> a name, or an alias that this library gives by itself."""
        self._names: dict[str, Entry] = {}
        self._entries: tuple[Entry, ...] | None = None
        self._missed = -REFRESH_S

    def entries(self) -> tuple[Entry, ...]:
        """All entries, sorted by name."""
        if self._entries is None:
            self.refresh()
        return self._entries or ()

    def refresh(self) -> None:
        """Look at the disk again."""
        names: dict[str, Entry] = {}
        found: list[Entry] = []
        for entry in self._look():
            if entry.name in names and names[entry.name].path == entry.path:
                continue
            entry = _renamed(entry, _free(entry.name, names))
            found.append(entry)
            names[entry.name] = entry
        for entry in found:
            for alias in entry.aliases:
                names.setdefault(alias, entry)
        for alias, name in self.aliases.items():
            if name in names:
                names.setdefault(alias, names[name])
        stems = Counter(PurePosixPath(entry.match.entry).stem for entry in found)
        for entry in found:
            stem = PurePosixPath(entry.match.entry).stem  # what the user sees in the folder
            if stems[stem] == 1:
                names.setdefault(stem, entry)
        self._names, self._entries = names, tuple(sorted(found, key=lambda entry: entry.name))

    def find(self, name: str) -> Entry:
        """The entry called *name*; a missing `:latest` or letter case is forgiven. Raises ModelNotFound."""
        self.entries()
        for wanted in (name, name.removesuffix(":latest")):
            if wanted in self._names:
                return self._names[wanted]
        folded = {known.casefold(): entry for known, entry in self._names.items()}
        if name.casefold() in folded:
            return folded[name.casefold()]
        if time.monotonic() - self._missed > REFRESH_S:
            self._missed = time.monotonic()
            self.refresh()
            if name in self._names:
                return self._names[name]
        raise ModelNotFound(f"there is no model {name!r}.", self._nearest(name), model=name)

    def _nearest(self, name: str) -> str:
        if not self._names:
            return "The library is empty: name a model file or folder, or a folder of models with --models."
        near = get_close_matches(name, self._names, n=3, cutoff=0.5) or sorted(self._names)[:5]
        return f"{'Nearest' if len(near) < len(self._names) else 'There is'}: {', '.join(near)}."

    def _look(self) -> Iterator[Entry]:
        for path in self.paths:
            files = FolderFiles(path.resolve())
            found = detect.require(self.plugins, files)
            yield from _entries(files, found, path.resolve().stem if files.target else path.resolve().name)
        for root in self.folders:
            yield from self._below(root.resolve(), "", DEPTH)

    def _below(self, folder: Path, name: str, depth: int) -> Iterator[Entry]:
        """Models in *folder*, called *name* ("" for the root), then those in folders that none of them owns."""
        files = FolderFiles(folder)
        found = [pair for pair in detect.matches(self.plugins, files) if _lies_here(pair[1])]
        yield from _entries(files, found, name)
        owned = {part.partition("/")[0] for _, match in found for part in match.files if "/" in part}
        if depth:
            for child in _folders(folder):
                if child.name not in owned:
                    yield from self._below(child, f"{name}/{child.name}" if name else child.name, depth - 1)


def _lies_here(match: FormatMatch) -> bool:
    """Whether a model belongs to the folder itself, and not to one below it that is a model folder of its own."""
    return any("/" not in part for part in (match.entry, *match.files))


def _entries(files: FolderFiles, found: Sequence[detect.Found], name: str) -> Iterator[Entry]:
    """The models of one folder or file, which is called *name*."""
    groups: dict[tuple[str, str], list[detect.Found]] = {}
    for plugin, match in found:
        groups.setdefault((match.name, match.variant), []).append((plugin, match))
    alone = len({base for base, _ in groups}) == 1
    for (base, variant), pairs in groups.items():
        group = _group_name(name, base, alone)
        orders = [pairs_of[0][1].order for (other, _), pairs_of in groups.items() if other == base]
        several = len(orders) > 1
        plugin, match = pairs[0]
        yield Entry(
            name=f"{group}:{variant}" if several and variant else group,
            path=str(files.path),
            plugin=plugin,
            match=match,
            others=tuple(pairs[1:]),
            aliases=() if files.target else _aliases(group, variant, several, match.order == min(orders)),
            size_bytes=sum(files.files.get(part, 0) for part in match.files),
        )


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
    return folder if alone else f"{folder}/{base}"


def _aliases(group: str, variant: str, several: bool, preferred: bool) -> tuple[str, ...]:
    if several:
        return (group,) if preferred else ()
    return (f"{group}:{variant}",) if variant else ()


def _free(name: str, taken: Iterable[str]) -> str:
    """*name*, or name-2, name-3 ... when another place has it already."""
    known = set(taken)
    number, candidate = 1, name
    while candidate in known:
        number += 1
        candidate = f"{name}-{number}"
    return candidate


def _renamed(entry: Entry, name: str) -> Entry:
    from dataclasses import replace

    return entry if name == entry.name else replace(entry, name=name, aliases=())
