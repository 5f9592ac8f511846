"""Who can do what a model cannot: the hint of a refusal names them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from anyform.contract.errors import Fault, Unsupported

if TYPE_CHECKING:
    from anyform.kernel.runtime import Runtime

SHOWN = 5
"""Models that are named."""


def told(runtime: Runtime, refusal: Unsupported, task: str) -> Unsupported:
    """*refusal* of a model that does not do *task*, with the models here that do."""
    names = list(islice(_able(runtime, task), SHOWN + 1))
    shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    hint = f"Models here that do: {shown}." if names else f"No model here does {task}."
    return Unsupported(refusal.message, hint, suggestions=refusal.suggestions, **refusal.details, able=names[:SHOWN])


def _able(runtime: Runtime, task: str) -> Iterator[str]:
    for entry in runtime.library.entries():
        try:
            if task in runtime.metadata(entry).tasks:
                yield entry.name
        except Fault:  # unreadable, which is told of where it is asked for
            continue
