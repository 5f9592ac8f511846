"""Finds Rockchip's librkllmrt.so and reads of its file what it is, without loading it."""

from __future__ import annotations

import platform
import re
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from anyform_rkllm.info import LIBRARY
from anyform_rkllm.npu import matching, read

FOLDERS = ("usr/lib", "usr/lib64", "lib", "usr/lib/aarch64-linux-gnu", "usr/local/lib", "opt/lib")
"""Where it is looked for; then in the folders that the linker's own configuration names."""
LINKER = ("etc/ld.so.conf", "etc/ld.so.conf.d/*.conf")
LINKER_BYTES = 64 << 10
MOST_BYTES = 256 << 20
"""Of the file that are searched; Rockchip's has a few MB."""
BLOCK_BYTES = 1 << 20
VERSION = re.compile(rb"RKLLM SDK \(version:\s{0,4}([\w.+-]{1,32})(?=[\s|)])")
FUNCTION = re.compile(rb"rkllm_([A-Za-z]\w{2,40})\0")
"""A function of the library, as tables of symbols name it."""
MOST_FUNCTIONS = 256
MARKER = b"anyform_rkllm_stand_in"
OVERLAP = 128
"""Bytes of a block that the next begins with: none of the above is longer."""
MACHINES = {3: "i686", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
"""ELF's e_machine. https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html and the supplements for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A library, as its file tells."""

    path: str
    version: str = ""
    """Such as 1.2.3 or 1.2.1b1, as it calls itself; empty: it says none."""
    machine: str = ""
    """Such as aarch64; empty: the file is no shared library of Linux."""
    bits: int = 0
    stand_in: bool = False
    """Whether it is what the tests build in place of Rockchip's."""
    functions: frozenset[str] = frozenset()
    """Of the library's functions those that it names, without their prefix."""


def find(root: Path, setting: Path | None = None) -> Library | None:
    """The library that *setting* names, else the first in the usual places below *root* that this machine can load,
    else the first; None where there is none.
    """
    paths = [setting] if setting else [folder / LIBRARY for folder in folders(root)]
    found = [library for path in paths if (library := look(path)) is not None]
    return next((one for one in found if (one.machine, one.bits) == host()), next(iter(found), None))


def folders(root: Path) -> list[Path]:
    """Where a library is looked for."""
    return list(dict.fromkeys([*(root / name for name in FOLDERS), *_linked(root)]))


def host() -> tuple[str, int]:
    """(machine, bits) of this Python, as `Library` has them."""
    machine = platform.machine().lower()
    return {"arm64": "aarch64", "amd64": "x86_64"}.get(machine, machine), 64 if sys.maxsize > 2**32 else 32


def look(path: Path) -> Library | None:
    """What the file at *path* is; None where none can be read."""
    try:
        about = path.stat()
        return _look(str(path), about.st_size, about.st_mtime_ns) if path.is_file() else None
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=32)
def _look(path: str, size: int, mtime_ns: int) -> Library:
    """Remembered for as long as the file has that size and time. Raises OSError."""
    with open(path, "rb") as file:
        machine, bits = _elf(file.read(20))
        if not machine:
            return Library(path=path)
        version, marked, functions = _texts(file)
    return Library(path=path, version=version, machine=machine, bits=bits, stand_in=marked, functions=functions)


def _texts(file: BinaryIO) -> tuple[str, bool, frozenset[str]]:
    """(version, whether it is the stand-in, functions). In blocks: a mapped file that is replaced meanwhile ends the
    process.
    """
    version, marked, kept = "", False, b""
    functions: set[str] = set()
    for _ in range(MOST_BYTES // BLOCK_BYTES):
        block = file.read(BLOCK_BYTES)
        if not block:
            break
        data = kept + block
        found = None if version else VERSION.search(data)
        version = found.group(1).decode("ascii", "replace") if found else version
        room = MOST_FUNCTIONS - len(functions)
        functions.update(name.group(1).decode("ascii") for name in islice(FUNCTION.finditer(data), room))
        marked, kept = marked or MARKER in data, data[-OVERLAP:]
    return version, marked, frozenset(functions)


def _elf(head: bytes) -> tuple[str, int]:
    """(machine, bits) of an ELF header's first 20 bytes; ("", 0) for what is none."""
    if len(head) < 20 or head[:4] != b"\x7fELF" or head[4] not in (1, 2) or head[5] not in (1, 2):
        return "", 0
    (machine,) = struct.unpack_from("<H" if head[5] == 1 else ">H", head, 18)
    return MACHINES.get(machine, f"ELF machine {machine}"), 32 * head[4]


def _linked(root: Path) -> Iterator[Path]:
    """Folders that /etc/ld.so.conf and the files that it usually includes name. See ldconfig(8)."""
    for pattern in LINKER:
        for path in matching(root, pattern):
            for line in read(path, LINKER_BYTES).decode("utf-8", "replace").splitlines():
                folder = line.partition("#")[0].strip()
                if folder.startswith("/") and "\0" not in folder:
                    yield root / folder.lstrip("/")
