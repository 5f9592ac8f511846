"""Shared libraries of Linux that tests compile from C++: once for all processes that want one, and kept for later."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

if sys.platform != "win32":
    import fcntl

FLAGS = ("-std=c++17", "-O0", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread")
COMPILERS = ("g++", "clang++", "c++")
LIMIT_S = 120


def compiler() -> str:
    """The path of a C++ compiler; empty: there is none, or this is not Linux."""
    if sys.platform != "linux":
        return ""
    return next((path for name in COMPILERS if (path := shutil.which(name))), "")


def shared_library(
    source: Path,
    name: str,
    defines: Mapping[str, int] | None = None,
    *,
    flags: Sequence[str] = FLAGS,
    cache: Path | None = None,
) -> Path:
    """A library of that *name*, compiled from *source*, for which all files beside it count.

    *cache*: where libraries are kept, by what they are made of. Raises LookupError where there is no compiler,
    RuntimeError with the compiler's words where it fails.
    """
    if not (tool := compiler()):
        raise LookupError(f"there is no C++ compiler of Linux; looked for {', '.join(COMPILERS)}")
    command = [tool, *flags, *(f"-D{key}={value}" for key, value in (defines or {}).items())]
    folder = _own(cache or Path(tempfile.gettempdir()) / f"anyform-compiled-{os.getuid()}") / _digest(source, command)
    folder.mkdir(exist_ok=True)
    made = folder / name
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go by the system if we die
        if not made.exists():
            _compile([*command, str(source)], made)
    return made


def _compile(command: Sequence[str], made: Path) -> None:
    part = made.with_name(f"{made.name}.{os.getpid()}")
    ended = subprocess.run(
        [*command, "-o", str(part)], capture_output=True, text=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL
    )
    if ended.returncode != 0:
        part.unlink(missing_ok=True)
        raise RuntimeError(f"{' '.join(command)} failed ({ended.returncode}):\n{ended.stderr}")
    part.replace(made)


def _digest(source: Path, command: Sequence[str]) -> str:
    found = sha256("\0".join([_version(command[0]), *command]).encode())
    for path in sorted(one for one in source.parent.iterdir() if one.is_file()):
        data = path.read_bytes()
        found.update(f"\0{path.name}\0{len(data)}\0".encode() + data)
    return found.hexdigest()[:32]


@lru_cache
def _version(tool: str) -> str:
    return subprocess.run([tool, "--version"], capture_output=True, text=True, timeout=LIMIT_S).stdout


def _own(folder: Path) -> Path:
    """A folder that only we can write, since what is in it gets loaded. Raises PermissionError for another."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    about = folder.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o022:
        raise PermissionError(f"{folder} can be written by others: remove it")
    return folder
