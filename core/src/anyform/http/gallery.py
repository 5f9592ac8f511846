"""Pictures whose answer is a URL: kept for a while, in a folder of limited size, and served under names nobody guesses.

A file's age is all that is known of it, so a server that starts anew goes on with what it finds.
"""

from __future__ import annotations

import os
import re
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from stat import S_ISREG
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from anyform.contract.errors import Area, Category, Fault
from anyform.contract.facts import Severity

if TYPE_CHECKING:
    from anyform.http.bridge import Threads
    from anyform.http.config import HttpConfig

PATH = "/v1/images/files/"
SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}
TYPES = {suffix: media_type for media_type, suffix in SUFFIXES.items()}
RANDOM_BYTES = 24
NAME = re.compile(r"[A-Za-z0-9_-]{32}\.(?:png|jpg|webp)", re.ASCII)
"""Of a picture of ours: in a folder of the user's, no other file is touched."""
UNFINISHED = ".part"
_HOST = re.compile(r"[A-Za-z0-9._-]+(?::\d{1,5})?|\[[0-9A-Fa-f:.]+\](?::\d{1,5})?", re.ASCII)


class PictureGone(Fault):
    """No picture of that name, or none any more."""

    code = "picture_not_found"
    category, area, severity = Category.NOT_FOUND, Area.REQUEST, Severity.INFO


class PictureNotKept(Fault):
    """A picture that was made, and could not be written where it would be fetched from."""

    code = "picture_not_kept"
    category, area = Category.UNAVAILABLE, Area.STORAGE
    lasting = True


class Kept(NamedTuple):
    """A file of the folder."""

    path: Path
    bytes: int
    since_s: float


class Found(NamedTuple):
    """A picture that was asked for."""

    data: bytes
    media_type: str
    left_s: int
    """How long it will be there."""


class Gallery:
    """The folder. Blocks on the disk: not for the event loop. Any thread may call it."""

    def __init__(self, config: HttpConfig) -> None:
        self.limit_bytes, self.keep_s = config.images_bytes, config.images_keep_s
        self._named = config.images_folder
        self._own: Path | None = None
        """A folder that goes with the server."""
        self._lock = threading.Lock()

    def keep(self, pictures: Sequence[tuple[bytes, str]]) -> list[str]:
        """The names of *pictures* (file, media type), each written whole or not at all. Raises PictureNotKept."""
        total = sum(len(data) for data, _ in pictures)
        if total > self.limit_bytes:
            _refuse(f"it takes {total} bytes and the server keeps {self.limit_bytes}", "images_bytes")
        with self._lock:
            try:
                folder = self._made()
                self._make_room(folder, total)
                return [_write(folder, data, SUFFIXES[media_type]) for data, media_type in pictures]
            except OSError as error:
                _refuse(f"writing it failed: {error.strerror or error}", "images_folder", error)

    def get(self, name: str) -> Found:
        """The picture called *name*. Raises PictureGone."""
        folder = self._folder
        if folder is not None and NAME.fullmatch(name):
            with suppress(OSError):
                found = _read(folder / name)
                left_s = found.since_s + self.keep_s - time.time()
                if left_s > 0:
                    return Found(found.data, TYPES[Path(name).suffix], int(left_s))
                self.sweep()
        raise PictureGone(
            f"There is no picture {name[:60]!r} here.",
            f"One is kept for {self.keep_s} seconds, while there is room. Ask for b64_json to have it in the answer.",
        )

    def sweep(self) -> None:
        """Remove what is too old."""
        with self._lock, suppress(OSError):
            if self._folder is not None:
                self._make_room(self._folder, 0)

    def close(self) -> None:
        """Remove what is too old, and a folder that goes with the server."""
        self.sweep()
        with self._lock:
            own, self._own = self._own, None
        if own is not None:
            rmtree(own, ignore_errors=True)

    @property
    def _folder(self) -> Path | None:
        """Where they are; None: nowhere yet."""
        return Path(self._named) if self._named else self._own

    def _made(self) -> Path:
        if self._folder is None:
            self._own = Path(tempfile.mkdtemp(prefix="anyform-images-"))
        folder = self._folder
        assert folder is not None
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _make_room(self, folder: Path, wanted: int) -> None:
        """Remove what is too old, then the oldest until *wanted* more bytes are within the limit.

        What cannot be removed stays: as long as there is room nevertheless, it is in nobody's way. Raises OSError.
        """
        trouble: OSError | None = None
        there = sorted(_ours(folder), key=lambda kept: kept.since_s)
        spare = self.limit_bytes - wanted - sum(kept.bytes for kept in there)
        oldest_s = time.time() - self.keep_s
        for kept in there:
            if kept.since_s > oldest_s and (spare >= 0 or kept.path.name.endswith(UNFINISHED)):
                continue  # what is not finished may be what another server writes just now
            try:
                kept.path.unlink(missing_ok=True)
            except OSError as error:  # on Windows, while it is being read; a folder of that name
                trouble = error
            else:
                spare += kept.bytes
        if trouble is not None and spare < 0:
            raise trouble


def _refuse(why: str, setting: str, cause: OSError | None = None) -> NoReturn:
    raise PictureNotKept(
        f"The picture was made, but cannot be kept: {why}.",
        f"Ask for response_format b64_json; or see to {setting} of the server.",
    ) from cause


def _ours(folder: Path) -> Iterator[Kept]:
    """The pictures in *folder*, and what a server that died left of one."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if NAME.fullmatch(entry.name.removesuffix(UNFINISHED)):
                with suppress(FileNotFoundError):  # another server removed it
                    at = entry.stat(follow_symlinks=False)
                    yield Kept(Path(entry.path), at.st_size, at.st_mtime)


def _write(folder: Path, data: bytes, suffix: str) -> str:
    name = secrets.token_urlsafe(RANDOM_BYTES) + suffix
    part = folder / (name + UNFINISHED)
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600), "wb") as file:
            file.write(data)
        os.replace(part, folder / name)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    return name


class _File(NamedTuple):
    data: bytes
    since_s: float


def _read(path: Path) -> _File:
    with open(os.open(path, os.O_RDONLY | _NO_LINK | _BINARY), "rb") as file:
        at = os.fstat(file.fileno())
        if not S_ISREG(at.st_mode):
            raise FileNotFoundError
        return _File(file.read(), at.st_mtime)


_BINARY: int = getattr(os, "O_BINARY", 0)
_NO_LINK: int = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def origin(scope: Scope) -> str:
    """Where the client of a request reaches this server: the scheme, and the name and port of its Host header.

    Without one that is sound, the address that it connected to.
    """
    said = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "").strip()
    if not _HOST.fullmatch(said):
        host, port = scope.get("server") or ("localhost", None)
        said = f"[{host}]" if ":" in host else str(host)
        said += f":{port}" if port else ""
    return f"{scope.get('scheme', 'http')}://{said}"


class Files:
    """The resource."""

    def __init__(self, gallery: Gallery, threads: Threads) -> None:
        self._gallery, self._threads = gallery, threads

    async def one(self, request: Request) -> Response:
        found = await self._threads.quick(self._gallery.get, str(request.path_params["name"]))
        headers = {
            "cache-control": f"private, max-age={found.left_s}, immutable",
            "x-content-type-options": "nosniff",
            "content-security-policy": "default-src 'none'",
        }
        return Response(found.data, headers=headers, media_type=found.media_type)
