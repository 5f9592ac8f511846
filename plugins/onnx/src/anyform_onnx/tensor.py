"""Reads the numbers of a small .safetensors file: those of modules that follow a graph.

The format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from anyform.contract.errors import LoadFailed
from anyform.text.vectormodel import Floats

_MOST_HEADER = 1 << 20
_MOST_BYTES = 2 << 30
_LENGTH = 8
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def read(path: Path) -> dict[str, Floats]:
    """Its tensors by name, in single precision. Raises LoadFailed."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_BYTES} bytes, which no module behind a graph needs")
        content = memoryview(path.read_bytes())
        size = int.from_bytes(content[:_LENGTH], "little")
        if not 0 < size <= _MOST_HEADER:
            raise ValueError(f"its header is said to have {size} bytes")
        header = json.loads(bytes(content[_LENGTH : _LENGTH + size]))
        tensors = {name: said for name, said in header.items() if name != "__metadata__"}
        _check_apart(said["data_offsets"] for said in tensors.values())
        return {name: _tensor(said, content[_LENGTH + size :]) for name, said in tensors.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LoadFailed(
            f"{path.name} in {path.parent.name} cannot be read: {type(error).__name__}: {error}.", "Get it again."
        ) from error


def _check_apart(places: Iterable[Any]) -> None:
    """Raise ValueError where two tensors share bytes: a small file could take any memory by that."""
    last = 0
    for begin, end in sorted(tuple(place) for place in places):
        if begin < last:
            raise ValueError(f"a tensor begins at {begin}, before the one ahead of it ends, at {last}")
        last = max(last, end)


def _tensor(said: Any, data: memoryview) -> Floats:
    kind, shape, (begin, end) = said["dtype"], said["shape"], said["data_offsets"]
    plain = np.dtype(_TYPES[kind])
    if not 0 <= begin <= end <= len(data) or end - begin != math.prod(shape) * plain.itemsize:
        raise ValueError(f"a tensor of shape {shape} is said to be at {begin} to {end} of {len(data)} bytes")
    found = np.frombuffer(data[begin:end], plain).reshape(shape)
    if kind == "BF16":  # the upper half of a float32
        return (found.astype(np.uint32) << 16).view(np.float32)
    return found.astype(np.float32)
