"""Quantizers that plugins bring: a model's file written anew with smaller numbers, in a process of its own.

A quantizer is a module under the entry points `anyform.quantizers`, named after the format that it reads and writes.
It is imported where something is to be quantized, and imports nothing heavy: what is heavy runs as its command.
"""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, cast

from anyform.contract.errors import Area, Category, Fault, PluginFault
from anyform.contract.facts import Severity
from anyform.contract.model import Stop
from anyform.sources.blob import PART, Blobs
from anyform.sources.hubfault import Cancelled

GROUP = "anyform.quantizers"
SHOWN = 300
"""Letters of what a quantizer said last that are told."""


class Quantizer(Protocol):
    """What a quantizer's module has."""

    READS: Sequence[str]
    """Quantizations of models that it makes smaller, such as F16."""
    MAKES: Sequence[str]
    """Those that it makes of them, such as Q4_K_M."""

    def command(self, source: Path, target: Path, kind: str) -> Sequence[str]:
        """What Python is told to write the model in the file *source* to *target* as *kind*."""


class QuantizingFailed(Fault):
    """What a quantizer runs ended badly."""

    code = "quantizing_failed"
    category, area, severity = Category.UNAVAILABLE, Area.FORMAT, Severity.WARNING


def quantizer(form: str) -> Quantizer | None:
    """What quantizes models of the format *form*; None: nothing that is installed. Raises PluginFault."""
    point = next(iter(entry_points(group=GROUP, name=form)), None)
    if point is None:
        return None
    try:
        return cast(Quantizer, point.load())
    except Exception as error:
        raise PluginFault(point.dist.name if point.dist else point.value, "quantize", error) from error


def quantized(maker: Quantizer, source: Path, kind: str, blobs: Blobs, stop: Stop) -> str:
    """The digest of a new blob: the model in the file *source* as *kind*. Blocks; *stop* ends it.

    Raises QuantizingFailed, DiskFull, Cancelled.
    """
    part = blobs.room(source.stat().st_size) / f"{uuid.uuid4().hex}{PART}"
    try:
        _run([sys.executable, *maker.command(source, part, kind)], stop)
        return blobs.adopt(part)
    finally:
        part.unlink(missing_ok=True)


def _run(command: Sequence[str], stop: Stop) -> None:
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as run:
        stop.when_set(run.kill)
        _, said = run.communicate()
    if stop.is_set():
        raise Cancelled("quantizing was stopped.")
    if run.returncode:
        last = said.decode("utf-8", "replace").strip().rpartition("\n")[2][-SHOWN:]
        raise QuantizingFailed(
            f"the model could not be quantized: {last or f'the program ended with {run.returncode}'}.",
            "Make it of an unquantized GGUF that is sound: `anyform validate` tells.",
        )
