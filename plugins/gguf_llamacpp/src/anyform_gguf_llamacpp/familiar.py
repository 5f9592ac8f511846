"""Vocabularies that were walked over before: thousands of models share a few, and comparing is quicker than walking.

A hit is the very same bytes, so whatever was found out about them holds; nothing is trusted that was not compared.
"""

from __future__ import annotations

import mmap
import threading
from dataclasses import dataclass, field
from typing import Final

LEAST: Final = 4096
"""Shorter arrays are walked as quickly."""
MOST_BYTES: Final = 32 << 20
"""Bytes kept in all; the oldest goes first."""
BEGINNING: Final = 256
"""Bytes by which an array that may be familiar is looked up."""


@dataclass(slots=True, eq=False)
class Known:
    """An array of strings, as bytes, and what was found out about it."""

    data: bytes
    twins: int | None = None
    """How many of its strings have the text of another; None: not looked for yet."""


@dataclass(slots=True)
class _Shelf:
    known: dict[tuple[int, bytes], list[Known]] = field(default_factory=dict)
    recent: list[tuple[tuple[int, bytes], Known]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


_shelf = _Shelf()


def find(buffer: bytes | mmap.mmap, place: int, count: int) -> Known | None:
    """The familiar array of *count* strings whose bytes lie at *place*, or None."""
    if count < LEAST:
        return None
    key = (count, bytes(buffer[place : place + BEGINNING]))
    with _shelf.lock:
        candidates = list(_shelf.known.get(key, ()))
    return next((one for one in candidates if buffer[place : place + len(one.data)] == one.data), None)


def keep(buffer: bytes | mmap.mmap, place: int, count: int, size: int) -> Known | None:
    """Remember an array that was walked over: *count* strings in *size* bytes at *place*. None: not worth keeping."""
    if count < LEAST or size > MOST_BYTES // 2 or place + size > len(buffer):
        return None
    key, known = (count, bytes(buffer[place : place + BEGINNING])), Known(bytes(buffer[place : place + size]))
    with _shelf.lock:
        alike = _shelf.known.setdefault(key, [])
        met = next((one for one in alike if one.data == known.data), None)
        if met is not None:  # another thread walked over the same one meanwhile
            return met
        alike.append(known)
        _shelf.recent.append((key, known))
        while sum(len(one.data) for _, one in _shelf.recent) > MOST_BYTES:
            oldest, gone = _shelf.recent.pop(0)
            _shelf.known[oldest] = [one for one in _shelf.known[oldest] if one is not gone]
    return known
