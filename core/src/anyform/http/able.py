"""Who can do what a model cannot: the hint of a refusal names them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from anyform.contract.errors import Fault, ModelNotFound, Unsupported
from anyform.contract.jobs import EditImage, Image, VaryImage

if TYPE_CHECKING:
    from anyform.contract.facts import Metadata
    from anyform.kernel.entry import Entry
    from anyform.kernel.runtime import Runtime

SHOWN = 5
"""Models that are named."""
VERBS = {Image.task: "make pictures", EditImage.task: "edit pictures", VaryImage.task: "vary pictures"}
"""What models do, where the task's own name is no verb."""


def told(runtime: Runtime, refusal: Unsupported, task: str) -> Unsupported:
    """*refusal* of a model that does not do *task*, with the models here that do."""
    names, shown = _shown(runtime, task)
    none = f"None here can {VERBS[task]}." if task in VERBS else f"No model here does {task}."
    hint = f"Models here that do: {shown}." if names else none
    return Unsupported(refusal.message, hint, suggestions=refusal.suggestions, **refusal.details, able=names)


def missed(runtime: Runtime, absent: ModelNotFound, task: str) -> ModelNotFound:
    """*absent*, of a model that a request for *task* names; of tasks that few models do, with those here that do."""
    if task in VERBS:
        names, shown = _shown(runtime, task)
        told = f"Models here that {VERBS[task]}: {shown}." if names else f"None here can {VERBS[task]}."
        absent.hint = f"{absent.hint} {told}".lstrip()
    return absent


def _shown(runtime: Runtime, task: str) -> tuple[list[str], str]:
    """Some models that do *task*, and the same in words."""
    names = [entry.name for entry, _ in islice(doing(runtime, task), SHOWN + 1)]
    return names[:SHOWN], ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def doing(runtime: Runtime, task: str) -> Iterator[tuple[Entry, Metadata]]:
    """All models that do *task*. Reads those of which nothing is known yet."""
    for entry in runtime.library.entries():
        try:
            metadata = runtime.metadata(entry)
        except Fault:  # unreadable, which is told of where it is asked for
            continue
        if task in metadata.tasks:
            yield entry, metadata
