"""The load options that all engines of speech have: what they are called, what they may be, and their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from anyform import option
from anyform.option import amount, whole


@dataclass(frozen=True, slots=True)
class Options:
    """What `Settings.options` may hold. None: decided at load."""

    threads: int | None = None
    """That compute one sentence. Default: as many as there are processors, at most 4."""
    letters: int = 100_000
    """Characters that one text may have."""
    sentence_pause: float = 0.25
    """Seconds between sentences, at speed 1; at speed 2 half of that."""
    clause_pause: float = 0.1
    """Seconds between the parts of a sentence that was too long for one piece, where it has a comma or the like."""
    paragraph_pause: float = 0.5
    """Seconds between paragraphs, which empty lines divide."""


CHECKS: Mapping[str, option.Check] = {
    "threads": whole(1, 256),
    "letters": whole(1),
    "sentence_pause": amount,
    "clause_pause": amount,
    "paragraph_pause": amount,
}
