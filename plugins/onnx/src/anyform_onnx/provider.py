"""Execution providers: which of those that the installed onnxruntime has are used, in which order, and for what."""

from __future__ import annotations

from collections.abc import Sequence

SUFFIX = "ExecutionProvider"
DEVICES = {"CUDA": "cuda"}
"""Providers that stand for a device of anyform's, without SUFFIX."""


def devices(available: Sequence[str]) -> tuple[str, ...]:
    """Kinds of devices that *available* providers can compute on; the CPU always."""
    names = [name.removesuffix(SUFFIX) for name in available]
    return ("cpu", *dict.fromkeys(DEVICES[name] for name in names if name in DEVICES))
