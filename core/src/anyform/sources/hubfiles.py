"""A repository's files as plugins see them: sizes from the listing, heads by ranged reads within a budget."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from anyform.contract.errors import Fault
from anyform.kernel.files import DEPTH
from anyform.sources.hub import Hub, Listing

BUDGET = 16 << 20
"""Bytes that one look may fetch."""
LEAST = 4096
"""Fewer are not asked for: a request costs more than the bytes."""
AT_ONCE = 8
SIBLINGS = 64
"""Files of one kind whose heads are fetched together, since a detector will ask for each."""


class RemoteFiles:
    """`ModelFiles` of a listing. What cannot be fetched reads as empty, and `trouble` says why."""

    def __init__(self, hub: Hub, listing: Listing, path: Path, budget: int = BUDGET) -> None:
        """*path*: where the files would lie here; nothing is read from it."""
        self.path, self.listing = path, listing
        self.left = budget
        """Bytes that may still be fetched."""
        self.trouble: Fault | None = None
        self._hub = hub
        self._heads: dict[str, bytes] = {}

    @cached_property
    def files(self) -> Mapping[str, int]:
        """As a folder on disk shows them: nothing hidden, nothing deeper than a model's own folders."""
        return {name: file.size for name, file in self.listing.files.items() if _is_shown(name)}

    def head(self, name: str, size: int = LEAST) -> bytes:
        if self._lacks(name, size):
            self._fetch_all([name, *self._alike(name, size)] if size <= LEAST else [name], max(size, LEAST))
        return self._heads.get(name, b"")[:size]

    def json(self, name: str) -> Mapping[str, Any]:
        size = self.files.get(name, 0)
        text = self.head(name, size) if 0 < size <= self.left + len(self._heads.get(name, b"")) else b""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            return {}
        return data if isinstance(data, dict) else {}

    def check(self) -> None:
        """Raise what kept a head from being read."""
        if self.trouble is not None:
            raise self.trouble

    def _lacks(self, name: str, size: int) -> bool:
        return len(self._heads.get(name, b"")) < min(size, self.files.get(name, 0))

    def _alike(self, name: str, size: int) -> list[str]:
        suffix = PurePosixPath(name).suffix
        alike = [other for other in self.files if other != name and PurePosixPath(other).suffix == suffix]
        return [other for other in alike if suffix and self._lacks(other, size)][:SIBLINGS]

    def _fetch_all(self, names: list[str], size: int) -> None:
        wanted = []
        for name in names:
            start = len(self._heads.get(name, b""))
            end = min(size, self.files[name], start + self.left)
            if end > start:
                self.left -= end - start
                wanted.append((name, start, end))
        with ThreadPoolExecutor(AT_ONCE, "anyform-look") as threads:
            for (name, _, _), data in zip(wanted, threads.map(self._fetch, wanted), strict=True):
                self._heads[name] = self._heads.get(name, b"") + data

    def _fetch(self, part: tuple[str, int, int]) -> bytes:
        if self.trouble is not None:
            return b""
        try:
            return self._hub.read(self.listing, *part)
        except Fault as fault:
            self.trouble = fault
            return b""


def _is_shown(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return len(parts) <= DEPTH + 1 and not any(part.startswith(".") for part in parts)
