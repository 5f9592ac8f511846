"""anyform's own folder: `models/owner/repo/…`, a plain layout that can be moved, copied and filled by hand.

Beside a pulled repository's files lies a record, `.anyform.json`:

    {"repository": "owner/repo", "revision": "<commit>", "time": <when>,
     "files": {"<relative name>": {"size": <bytes>, "sha256": "<hex>", "mtime_ns": <of the file>, "complete": true}}}

Files that are still coming in lie in `.incomplete/` or end in `.part`; no detector ever sees them, nor a file whose
record does not call it complete.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from anyform.contract.errors import Invalid
from anyform.contract.hooks import Place

RECORD = ".anyform.json"
INCOMPLETE = ".incomplete"
PART = ".part"


class OwnFolder:
    """The models that anyform pulled, or that were put beside them."""

    name = "anyform"

    def __init__(self, home: Path) -> None:
        """*home*: the folder `models`; it may not exist yet."""
        self.home = home

    def find(self) -> Iterator[Place]:
        """Recorded repositories first, by name; then whatever else lies below."""
        recorded = []
        for owner in _folders(self.home):
            for folder in _folders(owner):
                record = read_record(folder)
                if record:
                    recorded.append(f"{owner.name}/{folder.name}")
                    yield from _complete(folder, record)
        if self.home.is_dir():
            yield Place(path=self.home, search=True, skip=tuple(recorded))


def repository_folder(home: Path, repository: str) -> Path:
    """The folder of `owner/repo` below *home*. Raises Invalid for a name that could lead outside of it."""
    parts = repository.split("/")
    if len(parts) != 2 or any(not part or part.startswith(".") or "\\" in part or ":" in part for part in parts):
        raise Invalid(f"{repository!r} is not the name of a repository.", "Write it as owner/repo.")
    return home / parts[0] / parts[1]


def read_record(folder: Path) -> dict[str, Any]:
    """The record in a repository's folder; empty when there is none or it cannot be read."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and isinstance(record.get("files"), dict) else {}


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Replace the record in one step. Raises OSError."""
    draft = folder / f"{RECORD}.{os.getpid()}{PART}"
    draft.write_text(json.dumps(record, indent=1, sort_keys=True), encoding="utf-8")
    draft.replace(folder / RECORD)


def _complete(folder: Path, record: Mapping[str, Any]) -> Iterator[Place]:
    """The place of a repository without its unfinished files; none where nothing else is there."""
    known: dict[str, Any] = {name: facts for name, facts in record["files"].items() if isinstance(facts, dict)}
    unfinished = {name for name, facts in known.items() if not facts.get("complete")}
    files = tuple(name for name in _files(folder, "") if name not in unfinished) if unfinished else ()
    if unfinished and not files:
        return
    yield Place(
        path=folder,
        name=f"{folder.parent.name}/{folder.name}",
        files=files,
        revision=str(record.get("revision", "")),
        digests=dict(_digests(folder, {name: facts for name, facts in known.items() if name not in unfinished})),
    )


def _digests(folder: Path, known: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The checksums of files that are still as they were when they were recorded."""
    for name, facts in known.items():
        with suppress(OSError):
            now = (folder / name).stat()
            same = (now.st_size, now.st_mtime_ns) == (facts.get("size"), facts.get("mtime_ns"))
            if same and isinstance(facts.get("sha256"), str):
                yield name, facts["sha256"]


def _files(folder: Path, prefix: str) -> Iterator[str]:
    with suppress(OSError), os.scandir(folder) as found:
        for item in sorted(found, key=lambda item: item.name):
            if item.name.startswith(".") or item.name.endswith(PART):
                continue
            if item.is_dir():
                yield from _files(Path(item.path), f"{prefix}{item.name}/")
            else:
                yield prefix + item.name


def _folders(folder: Path) -> list[Path]:
    with suppress(OSError), os.scandir(folder) as found:
        return sorted(Path(item.path) for item in found if item.is_dir() and not item.name.startswith("."))
    return []
