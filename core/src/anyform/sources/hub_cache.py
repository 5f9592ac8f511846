"""The Hugging Face cache: `models--owner--repo/{refs,snapshots,blobs}`, where other programs keep what they downloaded.

The layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from anyform.contract.hooks import Place
from anyform.kernel.files import DEPTH

PREFIX = "models--"
SHA256 = re.compile(r"[0-9a-f]{64}")
"""What blobs of large files are called; those of small ones have a Git hash of 40 digits."""


class HubCache:
    """The snapshots of every model repository in the cache."""

    name = "huggingface"

    def __init__(self, cache: Path) -> None:
        """*cache*: the folder `hub`; it may not exist."""
        self.cache = cache

    def find(self) -> Iterator[Place]:
        """One place a snapshot: of each repository first the one that `main` means, then the latest."""
        for repository in _folders(self.cache):
            if repository.name.startswith(PREFIX):
                for snapshot in _snapshots(repository):
                    yield Place(
                        path=snapshot,
                        name=repository.name.removeprefix(PREFIX).replace("--", "/", 1),
                        revision=snapshot.name,
                        digests=dict(_digests(snapshot, "", DEPTH)),
                    )


def _snapshots(repository: Path) -> list[Path]:
    main = ""
    with suppress(OSError):
        main = (repository / "refs" / "main").read_text(encoding="utf-8").strip()
    return sorted(_folders(repository / "snapshots"), key=lambda path: (path.name != main, -_time(path), path.name))


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _folders(folder: Path) -> list[Path]:
    with suppress(OSError), os.scandir(folder) as found:
        return sorted(Path(item.path) for item in found if item.is_dir())
    return []


def _digests(folder: Path, prefix: str, depth: int) -> Iterator[tuple[str, str]]:
    """What the links of a snapshot tell: the blob of a large file is called by its SHA-256."""
    with suppress(OSError), os.scandir(folder) as found:
        for item in found:
            if item.is_symlink():
                blob = os.path.basename(os.readlink(item.path))
                if SHA256.fullmatch(blob):
                    yield prefix + item.name, blob
            elif depth and item.is_dir():
                yield from _digests(Path(item.path), f"{prefix}{item.name}/", depth - 1)
