"""Takes files that the Hugging Face cache holds whole, instead of fetching them. The cache stays as it is.

What is taken is a copy of its own, never a hard link: through one, a file that is edited here would change in the
cache. Where the file system can share blocks until one of the two is written (Btrfs, XFS), the kernel does so, and
the copy costs no room.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path

from anyform.contract.model import Stop
from anyform.sources.hub import HubFile, Listing
from anyform.sources.hub_cache import PREFIX
from anyform.sources.hubdownload import FULL, Sums, disk_fault
from anyform.sources.hubfault import stopped

BLOCK = 8 << 20
BLOB = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
"""What the cache calls a content: its SHA-256, or git's id of a small file."""

log = logging.getLogger("anyform.hub")


def held(cache: Path | None, listing: Listing, name: str) -> Path | None:
    """The file of the cache that should be *name* of *listing*, by its content's name or its own, and its size.

    None where there is none, or nothing tells the content. Whether the bytes are right `copied` says.
    """
    file = listing.files[name]
    if cache is None or not BLOB.fullmatch(file.digest):
        return None
    found = _candidates(cache / f"{PREFIX}{listing.repository.replace('/', '--')}", file)
    return next((path for path in found if _size(path) == file.size), None)


def copied(source: Path, draft: Path, listing: Listing, name: str, count: Callable[[int], None], stop: Stop) -> str:
    """Copy *source* to *draft*; its SHA-256 once it is verified, "" where it cannot be read or holds other bytes.

    *count*: told the bytes that were copied; negative: thrown away. Raises Cancelled, DiskFull; leaves no bad draft.
    """
    copy = _Copy(listing, name, count, stop)
    good = False
    try:
        copy.run(source, draft)
        good = copy.is_right
        if not good:
            log.warning("%s is damaged in the Hugging Face cache: it is fetched.", name)
    except OSError as error:
        if error.errno in FULL:
            raise disk_fault(error, draft) from error
        log.warning("%s is not taken from the Hugging Face cache (%s): it is fetched.", name, error.strerror)
    finally:
        if not good:
            count(-copy.done)
            with suppress(OSError):
                draft.unlink()
    return copy.sums.sha256 if good else ""


class _Copy:
    """One file on its way; what arrived is summed up, not what was sent."""

    def __init__(self, listing: Listing, name: str, count: Callable[[int], None], stop: Stop) -> None:
        self._listing, self._file, self._count, self._stop = listing, listing.files[name], count, stop
        self.sums, self.done = Sums(self._file), 0

    @property
    def is_right(self) -> bool:
        return self.done == self._file.size and self.sums.agree

    def run(self, source: Path, draft: Path) -> None:
        """Raises OSError, Cancelled."""
        with source.open("rb", buffering=0) as given, draft.open("wb+", buffering=0) as taken:
            while self.done < self._file.size and (size := _copy_block(given, taken, self.done)):
                taken.seek(self.done)
                self.sums.update(taken.read(size))
                self.done += size
                self._count(size)
                if self._stop.is_set():
                    raise stopped(self._listing.repository)


def _candidates(repository: Path, file: HubFile) -> Iterator[Path]:
    """The blob of that content; then, as on systems without links, files of that name in the snapshots."""
    yield repository / "blobs" / file.digest
    with suppress(OSError):
        yield from (snapshot / file.name for snapshot in sorted((repository / "snapshots").iterdir()))


def _copy_block(given: FileIO, taken: FileIO, place: int) -> int:
    """Copy up to BLOCK bytes that begin at *place*; how many, 0 at the end. Raises OSError."""
    if sys.platform == "linux":
        with suppress(OSError):  # not between these file systems
            size = os.copy_file_range(given.fileno(), taken.fileno(), BLOCK, place, place)
            if size:  # some file systems copy nothing and say no more
                return size
    given.seek(place)
    taken.seek(place)
    data = memoryview(given.read(BLOCK))
    left = data
    while left:
        left = left[taken.write(left) :]
    return len(data)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
