"""One file from a hub to a part file: goes on where an earlier try ended, and verifies what has come."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

from anyform.contract.errors import Fault
from anyform.contract.model import Stop
from anyform.kernel.units import size
from anyform.sources.hub import Hub, HubFile, Listing
from anyform.sources.hubfault import Corrupt, DiskFull, stopped

BLOCK = 1 << 20
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says of a disk that takes no more."""
Count = Callable[[int], None]


class Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class Sums:
    """The checksums of one file: SHA-256, and git's id where the hub knows the file by that."""

    def __init__(self, file: HubFile) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        # Git's id of a file: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
        self._blob: Hash | None = None if file.sha256 else hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)

    def update(self, data: bytes) -> None:
        self._sha256.update(data)
        if self._blob is not None:
            self._blob.update(data)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def agree(self) -> bool:
        """Whether they are what the hub says. True where it says nothing."""
        if self._blob is not None and len(self._file.blob) == 40:
            return self._blob.hexdigest() == self._file.blob
        return not self._file.sha256 or self._file.sha256 == self.sha256


class Download:
    """One file on its way. `fetch` may be called again after it failed, in this process or another."""

    def __init__(self, hub: Hub, listing: Listing, name: str, part: Path, count: Count) -> None:
        """*part*: the file that grows, named for the content. *count*: told the bytes that came; negative for lost."""
        self.hub, self.listing, self.file, self.part = hub, listing, listing.files[name], part
        self._count = count

    def fetch(self, stop: Stop) -> str:
        """The file's SHA-256, once *part* holds all of it. Raises Cancelled, Corrupt, DiskFull and what `Hub` does.

        Content that does not verify is thrown away and fetched once more.
        """
        try:
            for _ in range(2):
                sums = self._fetch(stop)
                if sums.agree:
                    return sums.sha256
                self._count(-self.file.size)
                self.part.unlink()
        except OSError as error:
            if isinstance(error, Fault):
                raise
            raise disk_fault(error, self.part) from error
        raise Corrupt(
            f"{self.file.name} of {self.listing.repository} came twice with a checksum that is not the hub's "
            f"({self.file.digest}).",
            "It was thrown away. Pull again later; if it stays so, tell the repository's owner.",
        )

    def _fetch(self, stop: Stop) -> Sums:
        """Append to *part* until it is whole, trying again for as long as that helps."""
        sums, attempt = Sums(self.file), 1
        with self.part.open("ab+") as file:
            done = self._reread(file, sums, stop)
            while done < self.file.size:
                before = done
                try:
                    with self.hub.opened(self.listing, self.file.name, done, stop=stop) as pieces:
                        for piece in pieces:
                            done += self._take(piece, done, file, sums)
                            _check(stop, self.listing)
                    if done == before:
                        raise _short(self.file, done, self.listing)
                except Fault as fault:
                    attempt = 2 if done > before else attempt + 1
                    self.hub.pause(fault, attempt, self.listing.repository, stop)
        return sums

    def _reread(self, file: BinaryIO, sums: Sums, stop: Stop) -> int:
        """Sum up what an earlier try left; how much it was."""
        file.seek(0)
        done = 0
        while done < self.file.size and (block := file.read(min(BLOCK, self.file.size - done))):
            sums.update(block)
            done += len(block)
            _check(stop, self.listing)
        file.truncate(done)
        return done

    def _take(self, piece: bytes, done: int, file: BinaryIO, sums: Sums) -> int:
        """Keep *piece*; how many bytes it had. Never more than the file has."""
        piece = piece[: self.file.size - done]
        try:
            file.write(piece)
            file.flush()
        except OSError as error:
            raise disk_fault(error, self.part) from error
        sums.update(piece)
        self._count(len(piece))
        return len(piece)


def kept(part: Path, most: int) -> int:
    """Bytes that an earlier try left in *part*."""
    try:
        return min(part.stat().st_size, most)
    except OSError:
        return 0


def disk_fault(error: OSError, path: Path) -> Fault:
    """What went wrong writing *path*."""
    if error.errno in FULL:
        return DiskFull(
            f"the disk is full: {path.parent} takes no more ({error.strerror}).",
            "Make room (`anyform du` shows what models take) and pull again: what has come is kept.",
        )
    return DiskFull(f"{path} cannot be written: {error.strerror or error}.", "Check the disk and its permissions.")


def short_of_space(folder: Path, needed: int, free: int, cached: bool = False) -> DiskFull:
    """*cached*: whether the Hugging Face cache holds all that is needed."""
    instead = "run it from the Hugging Face cache, which holds it" if cached else "pull a smaller variant"
    return DiskFull(
        f"the pull needs {size(needed)}; {folder} has {size(free)} free.",
        f"Make room (`anyform du` shows what models take), or {instead}.",
        needed_bytes=needed,
        free_bytes=free,
    )


def _check(stop: Stop, listing: Listing) -> None:
    if stop.is_set():
        raise stopped(listing.repository)


def _short(file: HubFile, done: int, listing: Listing) -> Corrupt:
    return Corrupt(
        f"{file.name} of {listing.repository} ended after {done} bytes of {file.size}.", "Pull again.", again=True
    )
