"""A folder of this machine as `ModelFiles`: for models that a plan's own model leans on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

MOST_JSON_BYTES = 16 << 20
FOLDERS = ("", "1_Pooling", "2_Normalize", "additional_chat_templates")
"""What is looked into: the folder itself, and what belongs to a model below it."""


class Listing:
    """`ModelFiles` of *path*, which may not exist: then it is empty."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def files(self) -> Mapping[str, int]:
        found = {}
        for folder in FOLDERS:
            try:
                with os.scandir(self.path / folder) as entries:
                    plain = [(entry.name, entry.stat().st_size) for entry in entries if entry.is_file()]
            except OSError:
                continue
            found.update({f"{folder}/{name}" if folder else name: size for name, size in plain})
        return dict(sorted(found.items()))

    def head(self, name: str, size: int = 4096) -> bytes:
        if name not in self.files:
            return b""
        try:
            with (self.path / name).open("rb") as file:
                return file.read(size)
        except OSError:
            return b""

    def json(self, name: str) -> Mapping[str, Any]:
        if self.files.get(name, MOST_JSON_BYTES + 1) > MOST_JSON_BYTES:
            return {}
        try:
            said = json.loads(self.head(name, MOST_JSON_BYTES))
        except (ValueError, RecursionError):
            return {}
        return said if isinstance(said, dict) else {}
