"""Which weights llama.cpp keeps a second time on this CPU, in an order that its kernels read faster."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
AVX2 = frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"})
AVX512 = AVX2 | {"Q2_K"}
DOTPROD = frozenset({"Q1_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "MXFP4"})
AMX = frozenset({"F16", "Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"})


@cache
def repacked() -> frozenset[str]:
    """The types on this machine; a CPU that tells nothing is taken for a common one of its kind."""
    try:
        said = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", CPUINFO.read_text(encoding="utf-8"), re.M)
    except OSError:
        said = None
    return types(said[1].split() if said else (), platform.machine())


def types(flags: Iterable[str], machine: str) -> frozenset[str]:
    """Tensor types, by the CPU's instruction sets as Linux calls them.

    From llama.cpp's ggml-cpu/repack.cpp (ggml_repack_get_optimal_repack_type) and ggml-cpu/amx/amx.cpp (supports_op).
    """
    known = set(flags)
    if machine.lower() in ("arm64", "aarch64"):
        return DOTPROD if "asimddp" in known or not known else frozenset()
    if machine.lower() not in ("x86_64", "amd64"):
        return frozenset()
    found = AVX512 if "avx512f" in known else AVX2 if "avx2" in known or not known else frozenset()
    return found | AMX if {"amx_int8", "avx512_vnni"} <= known else found
