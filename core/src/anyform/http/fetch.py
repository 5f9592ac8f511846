"""What a request names instead of sending it: pictures and sounds at URLs and in folders, as the settings allow."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from anyform.contract.errors import TooLarge
from anyform.http.config import HttpConfig
from anyform.http.fields import wrong
from anyform.http.media import File, Wanted, refuse, too_large
from anyform.http.web import Web

if TYPE_CHECKING:
    from anyform.http.bridge import Threads

EACH = 32
"""Files that one request may have fetched."""
AT_ONCE = 16
"""Files that the server fetches at the same time."""
HTTP = ("http:", "https:")


class Fetcher:
    """Looks up what requests name. All of one request may come to as much as a body may have."""

    def __init__(self, config: HttpConfig, threads: Threads, web: Web | None = None) -> None:
        """*web*: instead of the one that *config* describes."""
        self._limit, self._all = config.media_bytes, config.body_bytes
        self._folders = tuple(Path(os.path.abspath(folder)) for folder in config.media_folders)
        self._web = web or (Web(config.fetch_hosts, config.fetch_s) if config.fetch else None)
        self._threads = threads
        self._turns = asyncio.Semaphore(AT_ONCE)

    def judge(self, reference: str, wanted: Wanted) -> None:
        """See `Judge`."""
        if not reference.lower().startswith(HTTP):
            self._located(reference, wanted)
        elif self._web is None:
            refuse(reference, wanted.param, "have fetch set in [server]")
        else:
            self._web.judge(reference, wanted.param)

    def is_path(self, text: str) -> bool:
        """See `Judge`."""
        return any(text.startswith(f"{folder}{os.sep}") for folder in self._folders)

    async def bring(self, wanted: Mapping[str, Wanted]) -> dict[str, File]:
        """What `wanted` of a request's Media names. Raises Invalid, TooLarge."""
        if len(wanted) > EACH:
            param, kind = list(wanted.values())[EACH]
            wrong(param, f"the request names more than {EACH} {kind.noun}s to fetch", "Send some as data: URLs.")
        budget = _Budget(self._all)
        tasks = [asyncio.ensure_future(self._one(name, asked, budget)) for name, asked in wanted.items()]
        try:
            return dict(zip(wanted, await asyncio.gather(*tasks), strict=True))
        finally:
            for task in tasks:
                task.cancel()

    async def _one(self, reference: str, wanted: Wanted, budget: _Budget) -> File:
        param, kind = wanted
        async with self._turns:
            if self._web is not None and reference.lower().startswith(HTTP):
                return await self._web.get(reference, param, self._limit, lambda size: budget.take(size, param), kind)
            data = await self._threads.quick(self._read, reference, wanted)
            budget.take(len(data), param)
            return File(data)

    def _located(self, reference: str, wanted: Wanted) -> Path:
        """The file that is meant, within the allowed folders as far as its name says."""
        path = Path(_path(reference, wanted.param))
        if not self._folders:
            refuse(reference, wanted.param, "have its folder among media_folders in [server]")
        if ".." in path.parts or not any(path.is_relative_to(folder) for folder in self._folders):
            _outside(reference, wanted)
        return path

    def _read(self, reference: str, wanted: Wanted) -> bytes:
        """The bytes of the file, once it is known to lie in an allowed folder whatever its links say."""
        try:
            real = self._located(reference, wanted).resolve(strict=True)
            if not any(real.is_relative_to(folder.resolve()) for folder in self._folders):
                _outside(reference, wanted)
            file = open(real, "rb", opener=_opened)  # noqa: SIM115 - it is closed below
        except (OSError, RuntimeError, ValueError):  # absent, not to be read, or a circle of links
            _outside(reference, wanted)
        with file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                _outside(reference, wanted)
            data = file.read(self._limit + 1)
        if len(data) > self._limit:
            too_large(wanted.param, self._limit)
        return data or wrong(wanted.param, "the file is empty")


class _Budget:
    """Bytes that may still come for one request."""

    def __init__(self, limit: int) -> None:
        self._limit = self._left = limit

    def take(self, size: int, param: str) -> None:
        self._left -= size
        if self._left < 0:
            raise TooLarge(
                f"what the request names has more than {self._limit} bytes in all.",
                "Name fewer, or smaller ones; or raise the server's body_bytes.",
                param=param,
                limit=self._limit,
            )


def _opened(path: str, flags: int) -> int:
    """Follows no link that was put there since, and waits for no pipe."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _path(reference: str, param: str) -> str:
    """The path of a `file:` URL (RFC 8089), or a path as it is."""
    if reference[:5].lower() != "file:":
        if not os.path.isabs(reference):
            refuse(reference, param)
        return reference
    parts = urlsplit(reference)
    if parts.netloc.lower() not in ("", "localhost") or "\0" in unquote(reference):
        wrong(param, f"'{reference[:60]}' names no file of this machine")
    return url2pathname(parts.path)


def _outside(reference: str, wanted: Wanted) -> NoReturn:
    wrong(
        wanted.param,
        f"there is no {wanted.kind.noun} '{reference[:200]}' in the allowed folders",
        "media_folders in [server] says which.",
    )
