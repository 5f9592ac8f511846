"""Tensor data as GGUF stores it, from numpy arrays. No torch."""

from __future__ import annotations

from typing import Any

import numpy

from anyform.testing.gguf import F16, F32, Q8_0, Tensor

Q8_0_BLOCK = 32


def q8_0(values: Any) -> bytes:
    """Q8_0: for each 32 numbers of a row their scale in half precision, then 32 signed bytes.

    *values* is an array whose last axis is a multiple of 32. Rounds as ggml's quantize_row_q8_0_ref does: in float32,
    multiplying by the scale's inverse, halves away from zero.
    """
    blocks = numpy.ascontiguousarray(values, dtype="<f4").reshape(-1, Q8_0_BLOCK)
    scale = numpy.abs(blocks).max(axis=1, keepdims=True) / numpy.float32(127)
    inverse = numpy.divide(numpy.float32(1), scale, out=numpy.zeros_like(scale), where=scale != 0)
    exact = (blocks * inverse).astype(numpy.float64)
    whole = numpy.copysign(numpy.floor(numpy.abs(exact) + 0.5), exact).astype("i1")
    packed = numpy.empty(len(blocks), dtype=[("scale", "<f2"), ("values", "i1", Q8_0_BLOCK)])
    packed["scale"] = scale[:, 0]
    packed["values"] = whole
    return packed.tobytes()


def f16(values: Any) -> bytes:
    """Half precision, little-endian."""
    return numpy.ascontiguousarray(values, dtype="<f2").tobytes()


def f32(values: Any) -> bytes:
    """Single precision, little-endian."""
    return numpy.ascontiguousarray(values, dtype="<f4").tobytes()


_WRITERS = {F32: f32, F16: f16, Q8_0: q8_0}


def tensor(name: str, array: Any, kind: int) -> Tensor:
    """*array* under *name*, its data as the GGUF type *kind*. Vectors stay F32: llama.cpp computes with them in it."""
    kind = F32 if array.ndim == 1 else kind
    return Tensor(name, array.shape[::-1], kind, _WRITERS[kind](array))
