"""Reads the headers of safetensors files: names, types, shapes and places of tensors. Reads no weights.

The format: https://github.com/huggingface/safetensors#format. Eight bytes say how long the header is, a JSON object
follows, then the tensors without gaps.
"""

from __future__ import annotations

import json
import re
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

from anyform.contract.facts import Finding, ModelFiles
from anyform.finding import Family
from anyform.pretrained.companion import AGAIN

PLAIN = Family("")
LENGTH = struct.Struct("<Q")
MOST_HEADER_BYTES = 100_000_000
"""The library refuses a longer header (MAX_HEADER_SIZE)."""
READ_HEADER_BYTES = 8 << 20
"""A longer one is not read here; the largest known models have under 2 MiB a file."""
MOST_ELEMENTS = (1 << 63) - 1

DTYPE_BITS: Mapping[str, int] = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
"""Bits of an element by type (safetensors' Dtype)."""

METADATA = "__metadata__"
"""What is no tensor in the header: texts by name."""
MOST_TEXTS, MOST_TEXT = 200, 1000
"""Of these texts so many are kept, of so many characters each: trainers write all that their pictures show there."""
MOST_DESCRIPTION = 4096
"""Characters in which a tensor is described."""
BLANK = " \t\r\n"
_B = r"[ \t\r\n]*+"
_CHARACTERS = r'[^"\\\x00-\x1f]*+'
_STRING = rf'"{_CHARACTERS}(?:\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{{4}}){_CHARACTERS})*+"'
_PAIR = rf"{_STRING}{_B}:{_B}{_STRING}{_B}"
PAIR = re.compile(rf"(?P<name>{_STRING}){_B}:{_B}(?P<text>{_STRING})")
OPENING = re.compile(rf"\{{{_B}(\}}?)")
ENTRY = re.compile(
    rf"{_B}(?P<name>{_STRING}){_B}:{_B}"
    rf"(?:(?P<texts>null|\{{{_B}(?:{_PAIR}(?:,{_B}{_PAIR})*+)?\}})|(?P<value>\{{[^{{}}]*+\}}))"
    rf"{_B}(?P<sign>[,}}])"
)
"""A name with texts by name, or with an object that holds no other."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor as the header describes it; nothing of it is checked."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int
    """Bytes after the header."""

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        product = 1
        for length in self.shape:
            product *= length
        return product

    @property
    def size(self) -> int:
        """Bytes that it occupies."""
        return self.end - self.begin


@dataclass(slots=True)
class Header:
    """What the header of one file says, and what is wrong with it."""

    size: int
    """Bytes of the file."""
    data_offset: int = 0
    tensors: list[Tensor] = field(default_factory=list)
    """In the order of their places."""
    texts: dict[str, str] = field(default_factory=dict)
    """What the file says of itself, by name: MOST_TEXTS that are short."""
    troubles: list[Finding] = field(default_factory=list)
    """Their codes are of no family yet."""
    read: bool = False
    """Whether the tensors are all there is; False where the header could not or need not be read."""


def header(files: ModelFiles, name: str) -> Header:
    """The header of *name*, read once for the same *files*."""
    kept = _read.setdefault(files, {})
    if name not in kept:
        kept[name] = _header(files, name)
    return kept[name]


_read: WeakKeyDictionary[ModelFiles, dict[str, Header]] = WeakKeyDictionary()
"""For as long as somebody holds the listing: metadata and validation ask for the same."""


def _header(files: ModelFiles, name: str) -> Header:
    found = Header(size=files.files.get(name, 0))
    start = files.head(name, LENGTH.size)
    if len(start) < LENGTH.size:
        text = f"{name} has {found.size} bytes, and a safetensors file has at least 10. {AGAIN}"
        if found.size > len(start):
            text = f"{name} cannot be read. Check its permissions."
        found.troubles.append(PLAIN.critical("truncated" if found.size < LENGTH.size else "unreadable", text))
        return found
    (length,) = LENGTH.unpack(start)
    found.data_offset = LENGTH.size + length
    trouble = _length_trouble(found, name, length)
    if trouble is not None:
        found.troubles.append(trouble)
        return found
    content = files.head(name, found.data_offset)[LENGTH.size :]
    if len(content) < length:
        text = f"of the header of {name} {len(content)} of {length} bytes could be read; the rest is not checked."
        found.troubles.append(PLAIN.warning("header_unseen", text))
        return found
    try:
        _parse(found, content, name)
    except (ValueError, RecursionError) as error:
        found.tensors = []
        text = f"the header of {name} is no JSON of tensors: {error}. {AGAIN}"
        found.troubles.append(PLAIN.critical("bad_header", text))
    return found


def _length_trouble(found: Header, name: str, length: int) -> Finding | None:
    if length > MOST_HEADER_BYTES:
        text = f"{name} says that its header has {length} bytes; {MOST_HEADER_BYTES} are allowed. {AGAIN}"
        return PLAIN.critical("header_too_large", text)
    if found.data_offset > found.size:
        text = f"{name} has {found.size} bytes, and its header alone says {found.data_offset}: it is cut off. {AGAIN}"
        return PLAIN.critical("truncated", text)
    if length > READ_HEADER_BYTES:
        text = f"{name} has a header of {length} bytes; only up to {READ_HEADER_BYTES} are checked here."
        return PLAIN.warning("header_unseen", text)
    return None


def _parse(found: Header, content: bytes, name: str) -> None:
    """Fill *found* from the header's JSON, one tensor at a time, so that memory stays bounded. Raises ValueError."""
    seen: set[str] = set()
    for key, value in _entries(content.decode("utf-8")):
        if key in seen:
            text = f"{name} has the tensor {_short(key)} twice. {AGAIN}"
            found.troubles.append(PLAIN.critical("duplicate_tensor", text))
        seen.add(key)
        if key == METADATA:
            found.texts = _texts(value)
        else:
            found.tensors.append(_tensor(key, value))
    found.tensors.sort(key=lambda tensor: (tensor.begin, tensor.end))
    found.read = True


def _entries(text: str) -> Iterator[tuple[str, str]]:
    """(name, JSON of its value) of what the header lists. Raises ValueError where it is no such list."""
    opened = OPENING.match(text)
    if opened is None:
        raise ValueError(f"it begins with {text[:8]!r}")
    place, sign = opened.end(), opened[1]
    while sign != "}":
        entry = ENTRY.match(text, place)
        if entry is None:
            raise ValueError(f"at character {place} stands {text[place : place + 30]!r}, which describes no tensor")
        key = str(json.loads(entry["name"]))
        if (key == METADATA) != (entry["texts"] is not None):
            raise ValueError(f"{_short(key)} is not what the format says")
        texts = entry["texts"] or ""
        whole = json.dumps(json.loads(texts), ensure_ascii=False) if "\\u" in texts else ""
        f"{key}{whole}".encode()  # a ValueError for halves of characters
        yield key, entry["value"] or texts
        place, sign = entry.end(), entry["sign"]
    if text[place:].strip(BLANK):
        raise ValueError(f"after its end stands {text[place : place + 30].strip(BLANK)!r}")


def _texts(value: str) -> dict[str, str]:
    found = {}
    for pair in islice(PAIR.finditer(value), MOST_TEXTS):
        if pair.end("text") - pair.start("text") <= MOST_TEXT:
            found[str(json.loads(pair["name"]))] = str(json.loads(pair["text"]))
    return found


def _tensor(name: str, value: str) -> Tensor:
    if len(value) <= MOST_DESCRIPTION:
        known = json.loads(value)
        dtype, shape, place = known.get("dtype"), known.get("shape"), known.get("data_offsets")
        if isinstance(dtype, str) and _are_numbers(shape) and _are_numbers(place) and len(place) == 2:
            return Tensor(name, sys.intern(dtype), tuple(shape), place[0], place[1])
    raise ValueError(f"{_short(name)} is not described by dtype, shape and data_offsets")


def _are_numbers(value: Any) -> Any:
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= MOST_ELEMENTS for item in value)


def _short(name: str) -> str:
    return repr(name if len(name) <= 100 else f"{name[:100]}…")


def check(found: Header, name: str, family: Family) -> Iterator[Finding]:
    """What is wrong with one file by itself, as findings of *family*: the library refuses each of these."""
    yield from map(family.adopted, found.troubles)
    if not found.read:
        return
    place = 0
    for tensor in found.tensors:
        where = f"{name}: tensor {_short(tensor.name)}"
        bits = DTYPE_BITS.get(tensor.dtype)
        if bits is None:
            text = f"{where} has the type {_short(tensor.dtype)}. Known are {', '.join(DTYPE_BITS)}."
            yield family.critical("unknown_dtype", text)
        elif tensor.elements > MOST_ELEMENTS or tensor.elements * bits != tensor.size * 8:
            needed = -(-tensor.elements * bits // 8)
            text = f"{where} occupies {tensor.size} bytes; {tensor.dtype} of shape {_shape(tensor)} needs {needed}."
            yield family.critical("bad_size", f"{text} {AGAIN}")
        if tensor.begin < place:
            yield family.critical("overlap", f"{where} begins at byte {tensor.begin}, within another one. {AGAIN}")
        elif tensor.begin > place:
            yield family.critical(
                "gap", f"{where} begins at byte {tensor.begin}; the one before ends at {place}. {AGAIN}"
            )
        place = max(place, tensor.end)
    there = found.size - found.data_offset
    if place > there:
        text = f"{name} has {there} bytes of tensors, and its header says {place}: it is cut off. {AGAIN}"
        yield family.critical("truncated", text)
    elif place < there:
        text = f"{name} has {there} bytes after its header, which describes {place}. {AGAIN}"
        yield family.critical("too_long", text)


def _shape(tensor: Tensor) -> str:
    lengths = [str(length) for length in tensor.shape[:8]]
    return f"[{', '.join(lengths)}{', …' if len(tensor.shape) > 8 else ''}]"
