"""A small JSON file that remembers. Losing it costs time, never correctness; so an unreadable one counts as empty."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


class Memo:
    """Key -> JSON value in one file; without a file, in memory.

    Safe between threads; between processes the last writer of a key wins.
    """

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self._lock = threading.Lock()
        self._data: dict[str, Any] = self._read()

    def get(self, key: str) -> Any:
        with self._lock:
            return self._data.get(key)

    def items(self) -> list[tuple[str, Any]]:
        with self._lock:
            return sorted(self._data.items())

    def update(self, values: Mapping[str, Any]) -> None:
        """Remember *values*; writes only if something changed. A folder that cannot be written is no error."""
        with self._lock:
            if all(self._data.get(key) == value for key, value in values.items()):
                return
            self._data = {**self._read(), **self._data, **values}
            with suppress(OSError):
                self._write()

    def forget(self, key: str) -> None:
        with self._lock:
            self._data = {**self._read(), **self._data}
            self._data.pop(key, None)
            with suppress(OSError):
                self._write()

    def _read(self) -> dict[str, Any]:
        if self.file is None:
            return {}
        try:
            data = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}

    def _write(self) -> None:
        if self.file is None:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        draft = self.file.with_name(f"{self.file.name}.{os.getpid()}.part")
        draft.write_text(json.dumps(self._data, indent=1, sort_keys=True), encoding="utf-8")
        draft.replace(self.file)
