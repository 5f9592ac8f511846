"""Reads what lies in clear in a .rkllm file: the first numbers, lengths and types of its directory, and its end.

Public studies agree that it is laid out as a GGUF of version 3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md)
whose texts are masked: those are stepped over and never read. Nothing is allocated by a number that a file states.
"""

from __future__ import annotations

import math
import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import FileIO
from itertools import pairwise
from pathlib import Path
from typing import Final

from anyform.contract.facts import ModelFiles

MAGIC: Final = bytes.fromhex("daeeb336")
"""How a file begins, as one public study says; a hint, since none other does."""
VERSIONS: Final = (2, 3)
FIRST_KEY: Final = len("general.architecture")
"""Characters of the first key's name, in all files that were looked at."""
FIRST = struct.Struct("<4sIQQ")
UINT32, UINT64, ARRAY_HEAD = struct.Struct("<I"), struct.Struct("<Q"), struct.Struct("<IQ")
HEAD_BYTES: Final = FIRST.size + UINT64.size
ALIGNMENT: Final = 32

MAX_KEYS: Final = 65_536
MAX_TENSORS: Final = 65_536
MAX_DIMENSIONS: Final = 4
MAX_STRINGS: Final = 1 << 21
"""Texts stepped over in one file; the largest vocabularies have some 300,000 tokens and as many merges."""
MAX_ELEMENTS: Final = 1 << 50
MAX_DIRECTORY: Final = 1 << 28
"""Bytes of a file that are walked; a directory with its vocabulary has some 10 MB."""
BLOCK: Final = 1 << 18
"""Bytes that are in memory at once."""
TAIL_BYTES: Final = 64
TEXT = re.compile(rb"[\t\n\r\x20-\x7e]+")
TRAILER = re.compile(rb"rkllm-toolkit version: ?([\x21-\x7e]{1,32})[\s\0]*\Z")
VERSION = re.compile(r"\d{1,4}\.\d{1,4}\.\d{1,4}(b\d{1,4})?")

TENSORS: Final = tuple(struct.Struct(f"<{dimensions}QIQ") for dimensions in range(MAX_DIMENSIONS + 1))
"""Shape, type and offset of a tensor, by its dimensions."""
STRING, ARRAY = 8, 9
SIZES: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of each type of value that has a fixed size."""
FLOATS: Final = {0: 4, 1: 2}
"""Bytes of a number of the tensor types float32 and float16."""


class _StrangeError(Exception):
    """The directory cannot be walked; the argument says why."""


class _CutError(Exception):
    """The file ends within its directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """What the clear numbers of a directory tell."""

    end: int
    """Where it ends in the file."""
    vocabulary: int | None
    """Tokens, by the lengths of arrays; None: there is none of texts."""
    elements: int
    """Numbers of all tensors."""
    needed: int
    """Bytes that the file must have at least, for its last tensor to be whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What was read of a file of *size* bytes."""

    size: int
    magic: bytes = b""
    version: int = 0
    tensors: int = 0
    keys: int = 0
    first_key: int = 0
    """Characters of the first key's name."""
    directory: Directory | None = None
    trouble: str = ""
    """Why there is no directory, in a clause; empty also where it was not looked at."""
    cut: bool = False
    """Whether the file ends within its directory."""
    local: bool = False
    """Whether the whole file could be looked at, so that an absent trailer means something."""
    trailer: str | None = None
    """What the file's end says of the toolkit, which may be `unknown`; None: nothing."""

    text: bool = False
    """Whether it begins with nothing but printable ASCII, as no model does."""

    @property
    def known(self) -> bool:
        """Whether the first numbers are those of an RKLLM file."""
        counts = 0 < self.keys <= MAX_KEYS and self.tensors <= MAX_TENSORS
        return self.version in VERSIONS and counts and self.first_key == FIRST_KEY

    @property
    def toolkit(self) -> str:
        """The version of the toolkit; empty where the end does not say one."""
        return self.trailer if self.trailer and VERSION.fullmatch(self.trailer) else ""


def head(files: ModelFiles, name: str) -> Header:
    """The first numbers, wherever the file lies."""
    return _first(files.head(name, HEAD_BYTES), files.files.get(name, 0))


def read(files: ModelFiles, name: str) -> Header:
    """Everything that is in clear, of a file on this machine; of another the first numbers. Raises OSError."""
    path = files.path / name
    try:
        about = path.stat()
    except FileNotFoundError:
        return head(files, name)
    return _read(str(path), about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=64)
def _read(path: str, size: int, mtime_ns: int) -> Header:
    """Remembered for as long as the file has that size and time: metadata and validation ask for the same."""
    with Path(path).open("rb", buffering=0) as file:
        first = _first(file.read(HEAD_BYTES) or b"", size)
        trailer = _trailer(file, size)
        directory, trouble, cut = None, "", False
        if first.known:
            try:
                directory = _Walk(file, size).directory(first)
            except _StrangeError as error:
                trouble = str(error)
            except _CutError:
                trouble, cut = "the file ends within it", True
    return Header(
        size=size, magic=first.magic, version=first.version, tensors=first.tensors, keys=first.keys,
        first_key=first.first_key, text=first.text, directory=directory, trouble=trouble, cut=cut, local=True,
        trailer=trailer,
    )  # fmt: skip


def _first(data: bytes, size: int) -> Header:
    if len(data) < HEAD_BYTES:
        return Header(size=size, magic=data[:4])
    magic, version, tensors, keys = FIRST.unpack_from(data)
    (length,) = UINT64.unpack_from(data, FIRST.size)
    text = TEXT.fullmatch(data) is not None
    return Header(size=size, magic=magic, version=version, tensors=tensors, keys=keys, first_key=length, text=text)


def _trailer(file: FileIO, size: int) -> str | None:
    file.seek(max(0, size - TAIL_BYTES), os.SEEK_SET)
    found = TRAILER.search(file.read(TAIL_BYTES) or b"")
    return found[1].decode("ascii") if found else None


class _Walk:
    """One way through a directory, in blocks of the file."""

    def __init__(self, file: FileIO, size: int) -> None:
        self._file, self._size = file, size
        self._place = FIRST.size
        self._block, self._start = b"", 0
        self._strings = 0
        self._lengths: dict[bool, list[int]] = {True: [], False: []}
        """Of arrays: of texts (True), and of numbers."""

    def directory(self, first: Header) -> Directory:
        """Raises _StrangeError, and _CutError where the file ends too soon."""
        # The smallest key takes 13 bytes (length, type, one byte of value), the smallest tensor 24.
        if first.keys * 13 + first.tensors * 24 > self._size:
            raise _CutError
        for _ in range(first.keys):
            self._key()
        tensors = [self._tensor() for _ in range(first.tensors)]
        if self._place > self._size:
            raise _CutError
        return Directory(
            end=self._place,
            vocabulary=self._vocabulary(),
            elements=sum(elements for _, _, elements in tensors),
            needed=self._place + _extent(tensors),
        )

    def _vocabulary(self) -> int | None:
        """Tokens have an array of their kinds beside them, merges have not; a vocabulary may have more of these."""
        texts, numbers = self._lengths[True], self._lengths[False]
        return max([length for length in texts if length in numbers] or texts, default=0) or None

    def _key(self) -> None:
        """Step over a key and its value."""
        self._text("a key's name", 65_535)
        (kind,) = self._take(UINT32)
        if kind != ARRAY:
            self._value(kind)
            return
        kind, count = self._take(ARRAY_HEAD)
        self._lengths[kind == STRING].append(count)
        if kind == STRING:
            self._texts(count)
        else:
            self._skip(self._fixed(kind) * count)

    def _value(self, kind: int) -> None:
        if kind == STRING:
            self._text("a text", self._size)
        else:
            self._skip(self._fixed(kind))

    def _fixed(self, kind: int) -> int:
        if kind not in SIZES:
            raise _StrangeError(f"it has a value of type {kind}, which is not known")
        return SIZES[kind]

    def _tensor(self) -> tuple[int, int, int]:
        """(offset, type, numbers) of a tensor."""
        self._text("a tensor's name", 65_535)
        (dimensions,) = self._take(UINT32)
        if dimensions > MAX_DIMENSIONS:
            raise _StrangeError(f"it has a tensor of {dimensions} dimensions")
        *shape, kind, offset = self._take(TENSORS[dimensions])
        elements = math.prod(shape)
        if elements > MAX_ELEMENTS:
            raise _StrangeError(f"it has a tensor of {elements:.1e} numbers")
        return offset, kind, elements

    def _text(self, what: str, most: int) -> None:
        (length,) = self._take(UINT64)
        if length > most and most < self._size:
            raise _StrangeError(f"{what} in it has {length} characters")
        self._skip(length)

    def _texts(self, count: int) -> None:
        """Step over *count* texts, looking at nothing but their lengths."""
        self._strings += count
        if count * 8 > self._size - self._place:
            raise _CutError
        if self._strings > MAX_STRINGS:
            raise _StrangeError(f"it has {self._strings} texts")
        left, unpack = count, UINT64.unpack_from
        while left:
            self._reach(UINT64.size)
            block, place = self._block, self._place - self._start
            last = len(block) - UINT64.size
            while left and place <= last:
                place += UINT64.size + unpack(block, place)[0]
                left -= 1
            self._place = self._start + place
            if self._place > self._size:
                raise _CutError

    def _take(self, layout: struct.Struct) -> Sequence[int]:
        self._reach(layout.size)
        values = layout.unpack_from(self._block, self._place - self._start)
        self._place += layout.size
        return values

    def _skip(self, count: int) -> None:
        self._place += count
        if self._place > self._size:
            raise _CutError

    def _reach(self, count: int) -> None:
        """Have the next *count* bytes, which are few, in the block. Raises _CutError where the file has fewer."""
        if self._start <= self._place and self._place + count <= self._start + len(self._block):
            return
        if self._place + count > self._size:
            raise _CutError
        if self._place > MAX_DIRECTORY:
            raise _StrangeError(f"it has over {MAX_DIRECTORY >> 20} MiB")
        self._file.seek(self._place)
        self._block, self._start = self._file.read(BLOCK) or b"", self._place
        if len(self._block) < count:
            raise _CutError


def _extent(tensors: Sequence[tuple[int, int, int]]) -> int:
    """Bytes from the directory's end to that of the last tensor, at the least.

    How many bytes a number takes in the types of the NPU is not public, so it is learnt from the distances between
    the other tensors of the same type, less the padding that may lie between.
    """
    placed = sorted(tensors)
    if not placed:
        return 0
    offset, kind, elements = placed[-1]
    exact: list[int] = []
    shares: list[float] = []
    for (start, other, count), (end, _, _) in pairwise(placed):
        least = end - start - ALIGNMENT + 1
        if other == kind and count and least > 0:
            exact += [least] if count == elements else []
            shares.append(least / count)
    if kind in FLOATS:
        return offset + elements * FLOATS[kind]
    return offset + (min(exact) if exact else int(min(shares, default=0) * elements))
