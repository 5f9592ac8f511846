"""Reads the header of a GGUF file: keys and tensor descriptions, never tokens or weights.

After the specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Every count and length is
checked against the file before anything is read or kept, so a hostile file costs neither memory nor time.
"""

from __future__ import annotations

import errno
import math
import mmap
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Final, TypeAlias
from weakref import WeakKeyDictionary

from anyform.contract.facts import ModelFiles
from anyform_gguf_llamacpp import familiar
from anyform_gguf_llamacpp.quantization import TENSOR_TYPES

MAGIC: Final = b"GGUF"
KNOWN_VERSIONS: Final = (2, 3)
ALIGNMENT: Final = 32

MAX_KEYS: Final = 65_536
MAX_TENSORS: Final = 65_536
MAX_DIMENSIONS: Final = 4
MAX_KEY_BYTES: Final = 65_535
MAX_NAME_BYTES: Final = 63
MAX_STRINGS: Final = 1 << 22
"""Strings walked over in one file; the largest vocabularies have about a million tokens."""
MAX_TEXT: Final = 1 << 20
"""Longer strings are passed over; the longest chat templates have some 20 kB."""
MAX_KEPT: Final = 8 << 20
"""Bytes of texts and arrays kept from one file."""
ELEMENT_COST: Final = 64
"""Bytes that a kept element of an array may take in Python."""
KEPT_ELEMENTS: Final = 1024
"""Arrays of numbers up to this length are kept (one value a layer), and of strings up to a sixteenth of it."""

TOKENIZER: Final = "tokenizer.ggml."
"""Arrays below this key are never kept, however short."""
LONGEST_TOKEN: Final = 1024
"""Bytes of a token that are looked at."""

FIRST = struct.Struct("<4sIQQ")
UINT32 = struct.Struct("<I")
UINT64 = struct.Struct("<Q")
ARRAY_HEAD = struct.Struct("<IQ")

BOOL, STRING, ARRAY = 7, 8, 9
LETTERS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""`struct` letter of each value type of fixed size."""
KIND_NAMES: Final = (
    "uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "bool", "string", "array", "uint64", "int64",
    "float64",
)  # fmt: skip
"""Names of the value types, by number."""
SCALARS: Final = {kind: struct.Struct("<" + letter) for kind, letter in LETTERS.items()}

Buffer: TypeAlias = bytes | mmap.mmap


class HeaderError(Exception):
    """The file breaks the format at a place where reading cannot go on. `code` as in the plugin's findings."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@dataclass(frozen=True, slots=True)
class Array:
    """An array that was passed over: where its elements lie, and how many of which type."""

    kind: int
    count: int
    offset: int
    size: int
    known: familiar.Known | None = field(default=None, compare=False, repr=False)
    """What other files with the very same strings taught; None for numbers, and for strings that are not kept."""


Value: TypeAlias = bool | int | float | str | tuple[bool | int | float | str, ...] | Array | None


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor's description; `shape` has the row length first, `offset` counts from the data's start."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def size(self) -> int | None:
        """Bytes of data; None for a type that is not known or rows that are not whole blocks."""
        known = TENSOR_TYPES.get(self.kind)
        row = self.shape[0] if self.shape else 1
        if known is None or row % known.block:
            return None
        return self.elements // known.block * known.size


@dataclass(slots=True)
class Header:
    """What was read. `trouble` is set where reading had to stop; everything before it is there."""

    size: int
    """The file's size in bytes."""
    version: int = 0
    keys: dict[str, Value] = field(default_factory=dict)
    """A string over MAX_TEXT is None; a long array is an `Array`."""
    kinds: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Value type of each key; for an array (ARRAY, element type)."""
    duplicates: list[str] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    tensor_count: int = 0
    key_count: int = 0
    end: int = 0
    """Where the header ends."""
    trouble: HeaderError | None = None

    @property
    def architecture(self) -> str:
        return self.text("general.architecture")

    @property
    def alignment(self) -> int:
        stated = self.integer("general.alignment")
        return stated if stated else ALIGNMENT

    @property
    def data_offset(self) -> int:
        """Where the tensors' data begins in the file."""
        return -(-self.end // self.alignment) * self.alignment

    def own(self, key: str) -> str:
        """The architecture's own key: `llama.block_count`."""
        return f"{self.architecture}.{key}"

    def text(self, key: str) -> str:
        value = self.keys.get(key)
        return value if isinstance(value, str) else ""

    def integer(self, key: str) -> int | None:
        value = self.keys.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def number(self, key: str) -> float | None:
        value = self.keys.get(key)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def count(self, key: str) -> int | None:
        """How many elements the array *key* has; None if it is none."""
        value = self.keys.get(key)
        if isinstance(value, Array):
            return value.count
        return len(value) if isinstance(value, tuple) else None


def read(path: Path) -> Header:
    """The header of a local file. Raises OSError; a malformed file gives a header with `trouble`."""
    with mapped(path) as buffer:
        return parse(buffer, len(buffer))


HEADS: Final = (1 << 16, 1 << 20, 1 << 22, 1 << 24)
"""Bytes read of a file that lies elsewhere, growing until its header is whole; vocabularies take megabytes."""


@contextmanager
def content(files: ModelFiles, name: str) -> Iterator[Buffer]:
    """The bytes of *name*, or of a file that does not lie on this machine as many as its header takes.

    Raises OSError. Parse it with the size that `files` states.
    """
    path = files.path / name
    if path.exists():
        with mapped(path) as buffer:
            yield buffer
        return
    head = _fetched(files, name)
    if not head and files.files.get(name, 0):
        raise FileNotFoundError(errno.ENOENT, "it is gone", str(path))
    yield head


@contextmanager
def opened(files: ModelFiles, name: str) -> Iterator[tuple[Header, Buffer]]:
    """The header of *name*, wherever it lies, and the bytes that it was read from; parsed once for the same *files*.

    Raises OSError.
    """
    kept = _parsed.setdefault(files, {})
    with content(files, name) as buffer:
        seen = len(buffer)
        if (name, seen) not in kept:
            kept[name, seen] = parse(buffer, max(seen, files.files.get(name, 0)))
        yield kept[name, seen], buffer


def header(files: ModelFiles, name: str) -> Header:
    """The header of *name*, wherever it lies. Raises OSError."""
    with opened(files, name) as (header, _):
        return header


_parsed: WeakKeyDictionary[ModelFiles, dict[tuple[str, int], Header]] = WeakKeyDictionary()
"""(name, bytes seen) -> header, for as long as somebody holds the listing: metadata and validation ask for the same."""


def _fetched(files: ModelFiles, name: str) -> bytes:
    size = files.files.get(name, 0)
    for length in HEADS:
        head = files.head(name, length)
        trouble = parse(head, size).trouble
        if trouble is None or trouble.code != "gguf.truncated" or len(head) >= size:
            break
    return head


@contextmanager
def mapped(path: Path) -> Iterator[Buffer]:
    """The file's bytes, read only where they are touched."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:  # which cannot be mapped
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
            yield mapping


def parse(buffer: Buffer, size: int) -> Header:
    """The header at the start of *buffer*, of a file of *size* bytes; the buffer may be only its beginning.

    A buffer that ends within the header gives `trouble` gguf.truncated, whatever *size* is.
    """
    header = Header(size=size)
    try:
        reader = _Reader(buffer, header)
        reader.start()
        reader.keys()
        reader.tensors()
        header.end = reader.place
    except HeaderError as trouble:
        header.trouble = trouble
    except (struct.error, OverflowError):
        text = f"the file ends within its header, after {len(buffer)} bytes. Copy or download it again."
        header.trouble = HeaderError("gguf.truncated", text)
    return header


def strings(buffer: Buffer, array: Array) -> Iterator[bytes]:
    """The elements of an array of strings that was read from *buffer*; of long ones the first LONGEST_TOKEN bytes."""
    place = array.offset
    for _ in repeat(None, array.count):
        (length,) = UINT64.unpack_from(buffer, place)
        place += 8
        yield buffer[place : place + min(length, LONGEST_TOKEN)]
        place += length


class _Reader:
    """Walks over a header, filling it."""

    def __init__(self, buffer: Buffer, header: Header) -> None:
        self.place = 0
        self._buffer = buffer
        self._header = header
        self._kept = 0
        self._walked = 0

    def start(self) -> None:
        header = self._header
        magic = self._buffer[:4]
        if magic != MAGIC:
            raise _wrong_magic(bytes(magic))
        if len(self._buffer) < FIRST.size:
            raise struct.error
        _, header.version, header.tensor_count, header.key_count = FIRST.unpack_from(self._buffer)
        self.place = FIRST.size
        _check_version(header.version)
        # The smallest key takes 13 bytes (length, type, one byte of value), the smallest tensor 24.
        self._check_count("keys", header.key_count, MAX_KEYS, 13)
        self._check_count("tensors", header.tensor_count, MAX_TENSORS, 24)

    def keys(self) -> None:
        header = self._header
        for _ in repeat(None, header.key_count):
            name = self._text(MAX_KEY_BYTES, "a key's name") or ""
            kind = self._take(UINT32)
            value, kinds = self._array(name) if kind == ARRAY else (self._scalar(name, kind), (kind,))
            if name in header.keys:
                header.duplicates.append(name)
                continue
            header.keys[name] = value
            header.kinds[name] = kinds

    def tensors(self) -> None:
        for _ in repeat(None, self._header.tensor_count):
            name = self._text(MAX_KEY_BYTES, "a tensor's name") or ""
            dimensions = self._take(UINT32)
            if dimensions > MAX_DIMENSIONS:
                text = f"tensor {name!r} has {dimensions} dimensions; ggml knows at most {MAX_DIMENSIONS}."
                raise HeaderError("gguf.bad_shape", text)
            *shape, kind, offset = struct.unpack_from(f"<{dimensions}QIQ", self._buffer, self.place)
            self.place += 8 * dimensions + 12
            self._header.tensors.append(Tensor(name, tuple(shape), kind, offset))

    def _take(self, layout: struct.Struct) -> int:
        (value,) = layout.unpack_from(self._buffer, self.place)
        self.place += layout.size
        return int(value)

    def _text(self, limit: int, what: str) -> str | None:
        """A string; None if it is longer than MAX_TEXT. *limit*: what the format allows."""
        length = self._take(UINT64)
        self._check_length(length, limit, what)
        start, self.place = self.place, self.place + length
        if length > MAX_TEXT:
            return None
        self._kept += length
        if self._kept > MAX_KEPT:
            raise HeaderError("gguf.count_too_large", f"the texts in the header take over {MAX_KEPT} bytes.")
        data = self._buffer[start : self.place]
        if len(data) < length:
            raise struct.error
        return data.decode("utf-8", "replace")

    def _scalar(self, name: str, kind: int) -> Value:
        if kind == STRING:
            return self._text(self._header.size, f"the value of {name!r}")
        layout = SCALARS.get(kind)
        if layout is None:
            raise HeaderError("gguf.bad_value_type", f"{name!r} has value type {kind}, which GGUF does not know.")
        value: Value
        (value,) = layout.unpack_from(self._buffer, self.place)
        self.place += layout.size
        return value

    def _array(self, name: str) -> tuple[Value, tuple[int, ...]]:
        kind, count = ARRAY_HEAD.unpack_from(self._buffer, self.place)
        self.place += ARRAY_HEAD.size
        start = self.place
        known: familiar.Known | None = None
        if kind == STRING:
            known = self._walk(name, count)
        elif kind in SCALARS:
            self._check_length(count * SCALARS[kind].size, self._header.size, f"the array {name!r}")
            self.place += count * SCALARS[kind].size
            if self.place > len(self._buffer):
                raise struct.error
        else:
            what = "arrays" if kind == ARRAY else f"value type {kind}"
            raise HeaderError("gguf.bad_value_type", f"{name!r} is an array of {what}, which llama.cpp does not read.")
        array = Array(kind, count, start, self.place - start, known)
        return (array if name.startswith(TOKENIZER) else self._small(array)), (ARRAY, kind)

    def _walk(self, name: str, count: int) -> familiar.Known | None:
        """Pass over *count* strings, reading nothing but their lengths; what is known of these very strings."""
        self._walked += count
        if count > (self._header.size - self.place) // 8 or self._walked > MAX_STRINGS:
            text = f"the array {name!r} says it has {count} strings, in a file of {self._header.size} bytes."
            raise HeaderError("gguf.count_too_large", text)
        known = familiar.find(self._buffer, self.place, count)
        if known is not None:
            self.place += len(known.data)
            return known
        place, buffer, unpack = self.place, self._buffer, UINT64.unpack_from
        for _ in repeat(None, count):
            place += 8 + unpack(buffer, place)[0]
        start, self.place = self.place, place
        if place > self._header.size:
            text = f"a string in the array {name!r} is longer than the rest of the file."
            raise HeaderError("gguf.length_too_large", text)
        if place > len(buffer):
            raise struct.error
        return familiar.keep(buffer, start, count, place - start)

    def _small(self, array: Array) -> Value:
        """The array's values where they are few; the array itself where they are many."""
        cost = array.size + ELEMENT_COST * array.count
        most = KEPT_ELEMENTS // 16 if array.kind == STRING else KEPT_ELEMENTS
        if array.count > most or self._kept + cost > MAX_KEPT // 2:  # the other half is left to texts
            return array
        self._kept += cost
        if array.kind == STRING:
            return tuple(text.decode("utf-8", "replace") for text in strings(self._buffer, array))
        return struct.unpack_from(f"<{array.count}{LETTERS[array.kind]}", self._buffer, array.offset)

    def _check_count(self, what: str, count: int, limit: int, least: int) -> None:
        if count > limit or count * least > self._header.size:
            text = f"the header says it has {count} {what}, in a file of {self._header.size} bytes."
            raise HeaderError("gguf.count_too_large", text)

    def _check_length(self, length: int, limit: int, what: str) -> None:
        if length > limit or length > self._header.size - self.place:
            text = f"{what} says it has {length} bytes, at byte {self.place} of {self._header.size}."
            raise HeaderError("gguf.length_too_large", text)


def _wrong_magic(magic: bytes) -> HeaderError:
    if len(magic) < len(MAGIC) and MAGIC.startswith(magic):
        return HeaderError("gguf.truncated", f"the file has only {len(magic)} bytes. Copy or download it again.")
    text = f"the file begins with {magic!r} instead of {MAGIC!r}: it is no GGUF, or an incomplete download."
    return HeaderError("gguf.wrong_magic", text)


def _check_version(version: int) -> None:
    if version & 0xFFFF == 0 and version:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        text = f"the file is big-endian (GGUF version {swapped}). Convert it with gguf's convert-endian script."
        raise HeaderError("gguf.big_endian", text)
    if version < KNOWN_VERSIONS[0]:
        text = f"the file has GGUF version {version}; llama.cpp reads version 2 and later. Convert the model again."
        raise HeaderError("gguf.old_version", text)


def type_words(kinds: tuple[int, ...]) -> str:
    """The type of a value, as `Header.kinds` has it, in words: uint32, an array of string."""
    name = KIND_NAMES[kinds[-1]]
    return f"an array of {name}" if kinds[0] == ARRAY else name


def groups(keys: Mapping[str, Value], prefix: str) -> dict[str, Value]:
    """All keys below *prefix*, without it."""
    return {key.removeprefix(prefix): value for key, value in keys.items() if key.startswith(prefix)}
