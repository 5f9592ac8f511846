"""One request: what is heard, how it is to be written down, and what its reader is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue

from anyform.contract.errors import Fault
from anyform.contract.events import Progress, Segment
from anyform.contract.model import Stop
from anyform.sound.decode import Floats

PROGRESS = "audio"
"""The stage whose Progress counts seconds."""


@dataclass(slots=True, eq=False)
class Hearing:
    """Written by its own thread until it is submitted, then by the one that hears it."""

    sound: Floats
    duration_s: float
    task: str
    stop: Stop
    language: str = ""
    """A code; empty: to be found out."""
    probability: float = 1.0
    """Of the language that was found out."""
    prompt: Sequence[int] = ()
    temperatures: Sequence[float] = (0.0,)
    words: bool = False
    vad: bool = False
    speech: Sequence[Mapping[str, int]] = ()
    """With vad: where speech is, in samples."""
    told: SimpleQueue[Segment | Progress | Fault | None] = field(default_factory=SimpleQueue)
    """What its reader gets; None: it is over."""
    dropped: bool = False
    """Set by the reader: it wants no more."""
    cancelled: bool = False
    prompt_tokens: int = 0
    tokens: int = 0
    """That were generated, also those that were thrown away."""

    @property
    def unwanted(self) -> bool:
        """Whether nobody wants any more of it."""
        return self.dropped or self.stop.is_set()

    def cancel(self) -> None:
        """It ends before it is done."""
        self.cancelled = True
        self.told.put(None)

    def progress(self, done_s: float) -> Progress:
        """That *done_s* seconds of the sound are heard."""
        return Progress(stage=PROGRESS, done=int(min(done_s, self.duration_s)), total=int(self.duration_s))
