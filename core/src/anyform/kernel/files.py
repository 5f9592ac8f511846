"""A model's files on disk, listed once and read at most once for all detectors."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from anyform.contract.errors import ModelNotFound

MAX_FILES = 4096
MAX_JSON = 16 << 20
DEPTH = 4
"""Folders below a model's own that belong to it: onnx/, 1_Pooling/, language/region/name/quality/ of Piper's voices."""
UNSHOWN = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")
"""Control characters, and bytes that are no UTF-8."""


class FolderFiles:
    """`ModelFiles` of a folder, or of the folder around one file (whose siblings may be shards or companions)."""

    def __init__(self, path: Path, only: Sequence[str] = ()) -> None:
        """*only*: of the folder just these files; empty: all. Raises ModelNotFound if nothing lies at *path*."""
        if not path.exists():
            raise ModelNotFound(f"nothing lies at {path}.", "Check the spelling, or list models with `anyform list`.")
        self.target = path.name if path.is_file() else None
        """The one file that was named, or None for the whole folder."""
        self.path = path.parent if self.target else path
        self.only = tuple(only)
        """Of the folder just these files; empty: all."""
        self._heads: dict[str, bytes] = {}

    @cached_property
    def files(self) -> Mapping[str, int]:
        return {name: stat.st_size for name, stat in self._stats.items()}

    @cached_property
    def stamp(self) -> str:
        """What changes when a file is added, removed or written."""
        marks = (f"{name}:{stat.st_size}:{stat.st_mtime_ns}" for name, stat in self._stats.items())
        return hashlib.sha256("|".join(marks).encode("utf-8", "surrogateescape")).hexdigest()

    @cached_property
    def _stats(self) -> Mapping[str, os.stat_result]:
        seen = _named(self.path, self.only) if self.only else _walk(self.path, "", 0 if self.target else DEPTH)
        return dict(sorted(seen, key=lambda pair: pair[0]))

    def head(self, name: str, size: int = 4096) -> bytes:
        known = self._heads.get(name)
        if known is None or len(known) < min(size, self.files.get(name, 0)):
            known = self._heads[name] = self._read(name, size)
        return known[:size]

    def json(self, name: str) -> Mapping[str, Any]:
        if self.files.get(name, MAX_JSON + 1) > MAX_JSON:
            return {}
        try:
            data = json.loads(self._read(name, MAX_JSON))
        except (ValueError, RecursionError):
            return {}
        return data if isinstance(data, dict) else {}

    def _read(self, name: str, size: int) -> bytes:
        if name not in self.files:
            return b""
        try:
            with (self.path / name).open("rb") as file:
                return file.read(size)
        except OSError:
            return b""


def _named(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, os.stat_result]]:
    for name in names:
        with suppress(OSError):
            yield name, (folder / name).stat()


def _walk(folder: Path, prefix: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
    """Relative names, and what the disk says, of no more than MAX_FILES a folder; those that are hidden, or that no
    terminal and no JSON could show, are skipped.
    """
    try:
        with os.scandir(folder) as entries:
            for count, entry in enumerate(sorted(entries, key=lambda entry: entry.name)):
                if count >= MAX_FILES:
                    return
                if entry.name.startswith(".") or UNSHOWN.search(entry.name):
                    continue
                if entry.is_file():
                    yield prefix + entry.name, entry.stat()
                elif depth and entry.is_dir():
                    yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", depth - 1)
    except OSError:
        return
