"""A folder for the time of a load. It may have gigabytes: what a process that was killed left, the next one removes."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

if sys.platform != "win32":
    import fcntl

PREFIX, LOCK = "anyform-whisper-", "lock"
"""How its name begins, and a file in it that is locked for as long as it is used."""


@contextmanager
def folder() -> Iterator[Path]:
    """One that only this user may read, among the temporary files. Raises OSError."""
    for lock in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{LOCK}"):
        _sweep(lock)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as made, _locked(Path(made)):
        yield Path(made)


@contextmanager
def _locked(made: Path) -> Iterator[None]:
    if sys.platform == "win32":
        yield
        return
    new = made / "new"
    with new.open("xb") as file:
        _hold(file)
        new.rename(made / LOCK)  # under its name only now, so that nobody finds it unlocked
        yield


def _hold(file: IO[bytes]) -> None:
    """Lock *file* until it is closed, or its process ends. Raises BlockingIOError where another one has."""
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sweep(lock: Path) -> None:
    """Remove the folder of *lock*, if it is this user's and nobody's any more."""
    if sys.platform == "win32" or lock.parent.is_symlink():
        return
    with suppress(OSError):  # it is used, another user's, or was removed meanwhile
        if lock.parent.stat().st_uid == os.getuid():
            with lock.open("rb+") as file:
                _hold(file)
                shutil.rmtree(lock.parent, ignore_errors=True)
