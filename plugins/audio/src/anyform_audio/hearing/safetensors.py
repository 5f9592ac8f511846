"""Reads the header of a safetensors file: names, types, shapes and places of tensors. Reads no weights.

The format: https://github.com/huggingface/safetensors#format. Eight bytes say how long the header is, a JSON object
follows, then the tensors without gaps.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from anyform.contract.facts import Finding, ModelFiles
from anyform_audio.finding import AGAIN, critical, warning

SUFFIX = ".safetensors"
READ_BYTES = 1 << 20
"""A longer header is not read; the largest Whisper's has 140 KiB."""
SIZES: Mapping[str, int] = {"F32": 4, "F16": 2, "BF16": 2}
"""Bytes of an element, of the types that can be converted."""
OTHERS: Mapping[str, int] = {"F64": 8, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1}
MOST_SHAPE = 8


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor as the header describes it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int
    """Bytes after the header."""


@dataclass(slots=True)
class Header:
    """What the header of one file says, and what is wrong with it."""

    tensors: list[Tensor] = field(default_factory=list)
    """In the order of their places."""
    troubles: list[Finding] = field(default_factory=list)
    read: bool = False


def header(files: ModelFiles, name: str) -> Header:
    """The header of *name*, and all that is wrong with the file by itself."""
    found, size = Header(), files.files.get(name, 0)
    start = files.head(name, 8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if size < 10 or 8 + length > size:
        text = f"{name} has {size} bytes, and its header alone would have {length}: it is cut off. {AGAIN}"
        found.troubles.append(critical("whisper.truncated", text))
    elif len(start) < 8:
        found.troubles.append(critical("whisper.unreadable", f"{name} cannot be read. Check its permissions."))
    elif length > READ_BYTES:
        text = f"{name} has a header of {length} bytes; only up to {READ_BYTES} are checked here."
        found.troubles.append(warning("whisper.header_unseen", text))
    else:
        try:
            found.tensors = _tensors(files.head(name, 8 + length)[8:])
            found.read = True
        except (ValueError, RecursionError) as error:
            said = "it is nested too deeply" if isinstance(error, RecursionError) else error
            text = f"the header of {name} is no JSON of tensors: {said}. {AGAIN}"
            found.troubles.append(critical("whisper.bad_header", text))
        found.troubles += _places(found.tensors, name, size - 8 - length) if found.read else ()
    return found


def _tensors(content: bytes) -> list[Tensor]:
    """Raises ValueError, RecursionError."""
    said = json.loads(content.decode("utf-8"), object_pairs_hook=_single)
    if not isinstance(said, dict):
        raise ValueError("it is no object")
    made = [_tensor(name, value) for name, value in said.items() if name != "__metadata__"]
    return sorted(made, key=lambda tensor: (tensor.begin, tensor.end))


def _single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it has a name twice")
    return found


def _tensor(name: str, value: Any) -> Tensor:
    known = value if isinstance(value, dict) else {}
    dtype, shape, place = known.get("dtype"), _numbers(known.get("shape")), _numbers(known.get("data_offsets"))
    if not isinstance(dtype, str) or shape is None or place is None or len(place) != 2:
        raise ValueError(f"{name[:100]!r} is not described by dtype, shape and data_offsets")
    return Tensor(name, dtype, shape, place[0], place[1])


def _numbers(value: Any) -> tuple[int, ...] | None:
    """A list of a few numbers; None: it is none."""
    few = isinstance(value, list) and len(value) <= MOST_SHAPE
    return tuple(value) if few and all(type(one) is int and 0 <= one < 1 << 63 for one in value) else None


def _places(tensors: list[Tensor], name: str, there: int) -> Iterator[Finding]:
    """Tensors follow each other without a gap, and fill the file."""
    place = 0
    for tensor in tensors:
        where = f"{name}: tensor {tensor.name[:100]!r}"
        each = {**SIZES, **OTHERS}.get(tensor.dtype)
        if each is None:
            yield critical("whisper.unknown_dtype", f"{where} has the type {tensor.dtype[:40]!r}. {AGAIN}")
        elif math.prod(tensor.shape) * each != tensor.end - tensor.begin:
            needs = math.prod(tensor.shape) * each
            text = f"{where} occupies {tensor.end - tensor.begin} bytes, and its shape needs {needs}. {AGAIN}"
            yield critical("whisper.bad_size", text)
        if tensor.begin != place:
            text = f"{where} begins at byte {tensor.begin}; the one before ends at {place}. {AGAIN}"
            yield critical("whisper.bad_place", text)
        place = max(place, tensor.end)
    if place != there:
        text = f"{name} has {there} bytes of tensors, and its header says {place}: it is cut off or damaged. {AGAIN}"
        yield critical("whisper.truncated" if place > there else "whisper.too_long", text)
