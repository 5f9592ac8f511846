"""Reads safetensors files without torch, after https://huggingface.co/docs/safetensors (format section)."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy

from anyform.contract.errors import InvalidModel

_KINDS = {"F32": "<f4", "F16": "<f2"}


def read(path: Path) -> dict[str, Any]:
    """All tensors of a file, name -> array. Raises InvalidModel for a type other than F16 and F32."""
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    return {name: _array(name, entry, memoryview(data)[8 + size :]) for name, entry in header.items()}


def _array(name: str, entry: dict[str, Any], data: memoryview) -> Any:
    if entry["dtype"] not in _KINDS:
        raise InvalidModel(f"the tensor {name} is {entry['dtype']}.", f"Store it as one of {', '.join(_KINDS)}.")
    begin, end = entry["data_offsets"]
    return numpy.frombuffer(data[begin:end], _KINDS[entry["dtype"]]).reshape(entry["shape"])
