"""Which entries are the same bytes: seen twice, such a model is one entry with two places."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from anyform.kernel.entry import Entry

START = 4096
"""Bytes by which most files that are no copies of each other differ already: models say there what they are."""
EDGE = 64 << 10
"""Bytes at both ends of a file that are compared."""
SAMPLES, SAMPLE = 256, 512
"""How many stretches between them, of how many bytes: two trainings of one architecture differ in almost all."""

Sample = Callable[[Path], str]
"""Path -> a digest of some of the file's bytes, or "" if it cannot be read."""
Mark = tuple[object, ...]


def merged(found: Iterable[Entry], samples: Sequence[Sample]) -> list[Entry]:
    """*found*, with entries of the very same files as one: the first, with the names and places of all.

    Files are the same by inode; by SHA-256, where their sources know it; else by size and all *samples* of their
    bytes, the cheapest first. Copies within one source were made on purpose and stay apart.
    """
    kept: list[Entry] = []
    by_inode: dict[Mark, int] = {}
    by_size: dict[Mark, _Alike] = {}
    for entry in found:
        inodes, sizes = _stats(entry)
        alike = by_size.setdefault(sizes, _Alike(samples))
        number = by_inode.get(inodes)
        if number is None:
            number = alike.twin(entry)
        if number is None:
            number = len(kept)
            kept.append(entry)
            alike.add(number, entry)
        else:
            kept[number] = _joined(kept[number], entry)
        by_inode[inodes] = number
    return kept


class _Alike:
    """Entries whose files are alike as far as was looked. Bytes are looked at only where two sources have such."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        """*samples*: what was not compared yet."""
        self._samples = samples
        self._members: list[tuple[int, Entry]] = []
        self._by_digest: dict[Mark, list[tuple[int, Entry]]] = {}
        self._parts: dict[Mark, _Alike] = {}
        """The members by the next sample, as far as they were sampled."""
        self._sampled = 0

    def add(self, number: int, entry: Entry) -> None:
        self._members.append((number, entry))
        self._by_digest.setdefault(_digests(entry), []).append((number, entry))

    def twin(self, entry: Entry) -> int | None:
        """The number of a member from another source that holds the same bytes, or None."""
        digests = _digests(entry)
        for number, other in self._by_digest.get(digests, ()) if digests else ():
            if other.source != entry.source:
                return number
        rivals = (
            number
            for number, other in self._members
            if other.source != entry.source and not (digests and _digests(other))
        )
        first = next(rivals, None)
        return first if first is None or not self._samples else self._part(entry).twin(entry)

    def _part(self, entry: Entry) -> _Alike:
        """The members whose next sample is that of *entry*."""
        for number, other in self._members[self._sampled :]:
            self._sub(other).add(number, other)
        self._sampled = len(self._members)
        return self._sub(entry)

    def _sub(self, entry: Entry) -> _Alike:
        sample, *dearer = self._samples
        marks = sorted(sample(Path(entry.path) / name) for name in entry.match.files)
        # What cannot be read is like nothing else.
        mark = tuple(marks) if all(marks) and marks else (entry.path, entry.match.entry, entry.match.variant)
        return self._parts.setdefault(mark, _Alike(dearer))


def _digests(entry: Entry) -> Mark:
    """The SHA-256 of all its files; empty where one is not known."""
    known = sorted(entry.digests.get(name, "") for name in entry.match.files)
    return tuple(known) if all(known) else ()


def started(path: Path) -> str:
    """A digest of how a file begins."""
    try:
        with path.open("rb", buffering=0) as file:
            return hashlib.sha256(file.read(START)).hexdigest()
    except OSError:
        return ""


def sampled(path: Path) -> str:
    """A digest of a file's size, its ends, and stretches spread evenly between them."""
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.sha256(b"%d" % size)
            digest.update(file.read(EDGE))
            step = max(SAMPLE, (size - 2 * EDGE) // SAMPLES)
            for start in range(EDGE, size - EDGE, step):
                file.seek(start)
                digest.update(file.read(SAMPLE))
            file.seek(max(0, size - EDGE))
            digest.update(file.read(EDGE))
            return digest.hexdigest()
    except OSError:
        return ""


def _stats(entry: Entry) -> tuple[Mark, Mark]:
    """(what names its files' very bytes on this disk, what any copy of them has in common)."""
    stats = []
    for name in entry.match.files:
        try:
            stat = os.stat(os.path.join(entry.path, name))
        except OSError:
            return (entry.path, entry.match.entry, entry.match.format), (entry.path, entry.match.entry)
        stats.append((stat.st_dev, stat.st_ino, stat.st_size))
    kind = (entry.match.format, entry.match.entry == ".")
    return (*kind, *sorted(stats)), (*kind, *sorted(size for _, _, size in stats))


def _joined(first: Entry, other: Entry) -> Entry:
    spots = [spot for spot in other.places if spot not in first.places]
    names = other.aliases if other.groups else (other.name, *other.aliases)
    return replace(
        first,
        groups=tuple(dict.fromkeys((*first.groups, *other.groups))),
        aliases=tuple(dict.fromkeys((*first.aliases, *names))),
        places=(*first.places, *spots),
    )
