"""Tensors of safetensors files as arrays that lie in the files: https://github.com/huggingface/safetensors#format."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyform.contract.errors import LoadFailed

TYPES: Mapping[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
"""Of numbers that are read; numpy has no bfloat16, which is the upper half of a float32."""
PREFIX = "model."
MOST_HEADER_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class _Place:
    file: NDArray[np.uint8]
    kind: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Tensors:
    """Those of some files, by names without `model.` before them."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        """Raises LoadFailed for what is no safetensors file."""
        if not names:
            raise LoadFailed(f"there is no safetensors file in {folder}.", "Get the model again.")
        self._places: dict[str, _Place] = {}
        self.size_bytes = 0
        """Of all of them."""
        for name in names:
            try:
                self._add(folder / name)
            except (OSError, ValueError, TypeError, KeyError, struct.error, RecursionError) as error:
                raise LoadFailed(f"{name} cannot be read: {error}.", "Get the model again.") from error

    @property
    def names(self) -> list[str]:
        """In the order of the files."""
        return list(self._places)

    @property
    def grows(self) -> bool:
        """Whether numbers take more room here than in the files."""
        return any(place.kind == "BF16" for place in self._places.values())

    def get(self, name: str) -> NDArray[Any] | None:
        """The tensor called *name*; None: there is none. Raises ValueError for one of other numbers."""
        place = self._places.get(name)
        if place is None:
            return None
        if place.kind not in TYPES:
            raise ValueError(f"{name} is of the type {place.kind}")
        kind = TYPES[place.kind]
        if place.end - place.begin != math.prod(place.shape) * kind.itemsize or place.end > len(place.file):
            raise ValueError(f"{name} has {place.end - place.begin} bytes, and the shape {place.shape}")
        found: NDArray[Any] = place.file[place.begin : place.end].view(kind).reshape(place.shape)
        return (found.astype(np.uint32) << np.uint32(16)).view(np.float32) if place.kind == "BF16" else found

    def _add(self, path: Path) -> None:
        file = np.memmap(path, np.uint8, "r")
        (size,) = struct.unpack("<Q", bytes(file[:8]))
        if size > min(MOST_HEADER_BYTES, len(file) - 8):
            raise ValueError(f"its header has {size} bytes, the file {len(file)}")
        said = json.loads(bytes(file[8 : 8 + size]))
        for name, about in said.items():
            if name == "__metadata__":
                continue
            begin, end = (8 + size + int(place) for place in about["data_offsets"])
            self._places[name.removeprefix(PREFIX)] = _Place(file, about["dtype"], tuple(about["shape"]), begin, end)
            self.size_bytes += end - begin
