"""The accelerators that ggml has found in this process."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

_KINDS = {"hip": "rocm", "mtl": "metal"}
"""ggml's names of its backends where `Device.kind` has others; the rest are the same in lower case."""
_GPU, _IGPU = 1, 2
"""ggml_backend_dev_type (ggml-backend.h)."""


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One device: its kind, its number among those of its kind, and ggml's handle."""

    kind: str
    index: int
    handle: int


def accelerators(llama: Any) -> list[Accelerator]:
    """What ggml can offload to, in its own order; empty for a CPU build."""
    if not llama.llama_supports_gpu_offload():
        return []
    library = llama._lib
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    count = _function(library, "ggml_backend_dev_count", size)
    get = _function(library, "ggml_backend_dev_get", pointer, size)
    kind_of = _function(library, "ggml_backend_dev_type", ctypes.c_int, pointer)
    registry = _function(library, "ggml_backend_dev_backend_reg", pointer, pointer)
    name_of = _function(library, "ggml_backend_reg_name", ctypes.c_char_p, pointer)
    found: list[Accelerator] = []
    for place in range(count()):
        handle = get(place)
        if kind_of(handle) not in (_GPU, _IGPU):
            continue
        name = name_of(registry(handle)).decode().lower()
        kind = _KINDS.get(name, name)
        found.append(Accelerator(kind, sum(other.kind == kind for other in found), handle))
    return found


def _function(library: Any, name: str, result: Any, *arguments: Any) -> Any:
    prototype: Any = ctypes.CFUNCTYPE(result, *arguments)
    return prototype((name, library))
