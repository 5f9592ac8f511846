"""Files that a client uploads before it makes a model of them, kept by their SHA-256 below anyform's own folder."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from anyform.contract.errors import Area, Category, Fault, Invalid
from anyform.contract.facts import Severity
from anyform.kernel.units import size
from anyform.sources.hubdownload import FULL
from anyform.sources.hubfault import DiskFull

DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
RESERVE = 256 << 20
"""Bytes of the disk that an upload leaves free."""
STEP = 16 << 20
"""Bytes between two looks at what is free."""
UNUSED_S = 24 * 3600.0
"""How long what nothing uses is kept: whoever uploads several files makes a model of them at the end."""
PART = ".part"


class Unwritable(Fault):
    """Anyform's own folder takes no file, though its disk may have room."""

    code = "unwritable"
    category, area, severity = Category.UNAVAILABLE, Area.STORAGE, Severity.CRITICAL


class Blobs:
    """The uploaded files of one folder. Safe between threads and processes."""

    def __init__(self, folder: Path) -> None:
        """*folder*: made with the first upload."""
        self.folder = folder

    def has(self, digest: str) -> bool:
        """Whether it is here; who asks that means to use it, so it is kept for a day more. Raises Invalid."""
        path = self.path(digest)
        with suppress(OSError):
            os.utime(path)
        return path.is_file()

    def path(self, digest: str) -> Path:
        """Where "sha256:<64 hex>" lies if it is here. Raises Invalid."""
        found = DIGEST.fullmatch(digest)
        if found is None:
            raise Invalid(
                f"{digest[:100]!r} is no digest.", "Write it as sha256: and 64 hexadecimal digits, lower case."
            )
        return self.folder / f"sha256-{found[1]}"

    def begin(self, digest: str, size_bytes: int = 0) -> Draft:
        """A file to write to, piece by piece; to be closed. *size_bytes*: how large it will be; 0: unknown.

        Raises Invalid, DiskFull.
        """
        path = self.path(digest)
        self.room(size_bytes)
        try:
            return Draft(path)
        except OSError as error:
            raise unwritable(error, path) from error

    def store(self, digest: str, chunks: Iterable[bytes], size_bytes: int = 0) -> Path:
        """Write *chunks*; where they lie then. Raises what `begin`, `Draft.write` and `Draft.commit` do."""
        with self.begin(digest, size_bytes) as draft:
            for chunk in chunks:
                draft.write(chunk)
            return draft.commit()

    def room(self, size_bytes: int) -> Path:
        """The folder, where a file of *size_bytes* is to be written for `adopt`. Raises DiskFull."""
        self.sweep()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _require_room(self.folder, size_bytes)
        except OSError as error:
            raise unwritable(error, self.folder) from error
        return self.folder

    def adopt(self, path: Path) -> str:
        """The digest of the file *path*, which is a blob from now on; it lies in the folder already."""
        with path.open("rb") as file:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        path.replace(self.path(digest))
        return digest

    def sweep(self, unused_s: float = UNUSED_S) -> None:
        """Delete what `unused` tells."""
        for path in self.unused(unused_s):
            with suppress(OSError):
                path.unlink()

    def unused(self, unused_s: float) -> list[Path]:
        """What no model uses, and what was not written to its end, and not touched for so long."""
        before = time.time() - unused_s
        found = []
        with suppress(OSError):
            for path in sorted(self.folder.iterdir()):
                with suppress(OSError):
                    stat = path.stat()
                    if stat.st_mtime < before and stat.st_nlink == 1:  # a model's files are links to them
                        found.append(path)
        return found

    def drop(self, digest: str) -> None:
        """Delete a blob unless a model uses it."""
        with suppress(OSError):
            path = self.path(digest)
            if path.stat().st_nlink == 1:
                path.unlink()


class Draft:
    """One upload. What is not committed goes when it is closed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PART}")
        self._file = self._part.open("xb")
        self._sum = hashlib.sha256()
        self._written = self._looked = 0

    def write(self, chunk: bytes) -> None:
        """Add *chunk*. Raises DiskFull."""
        if self._written + len(chunk) - self._looked > STEP:
            _require_room(self._path.parent, len(chunk))
            self._looked = self._written
        try:
            self._file.write(chunk)
        except OSError as error:
            raise unwritable(error, self._path) from error
        self._sum.update(chunk)
        self._written += len(chunk)

    def commit(self) -> Path:
        """Put it in its place; where that is. Raises Invalid where the bytes are not those of the digest, DiskFull."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise unwritable(error, self._path) from error
        self._file.close()
        found, wanted = self._sum.hexdigest(), self._path.name.removeprefix("sha256-")
        if found != wanted:
            self.close()
            raise Invalid(
                f"digest mismatch: {self._written} bytes with the SHA-256 {found} came for sha256:{wanted}.",
                "Send the file again, whole.",
            )
        try:
            self._part.replace(self._path)
        except OSError as error:
            raise unwritable(error, self._path) from error
        return self._path

    def close(self) -> None:
        """Idempotent."""
        self._file.close()
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def unwritable(error: OSError, path: Path) -> Fault:
    """The fault for a file below anyform's own folder that cannot be written. Clients read it: it tells no path."""
    said = f"{path.name} cannot be written to anyform's own folder: {error.strerror or type(error).__name__}."
    if error.errno in FULL:
        return DiskFull(said, "Make room: `anyform du` shows what models take.", cause=type(error).__name__)
    return Unwritable(said, "Mend the folder's permissions, or name another as `home`.", cause=type(error).__name__)


def _require_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed + RESERVE > free:
        raise DiskFull(
            f"an upload needs {size(needed)} more, and {size(RESERVE)} beside; the disk has {size(free)} free.",
            "Make room: `anyform du` shows what models take.",
            needed_bytes=needed,
            free_bytes=free,
        )
