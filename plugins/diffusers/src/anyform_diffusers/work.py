"""One request as the loop that paints sees it, and what the loop tells the thread that waits for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeAlias

from anyform.contract.errors import Fault
from anyform.contract.events import Progress
from anyform.contract.model import Stop
from anyform_diffusers.wish import Wish


@dataclass(frozen=True, slots=True)
class Painted:
    """Picture *place* of a request, as a PIL.Image."""

    place: int
    picture: Any
    partial: int | None = None
    """Which of its unfinished states; None: it is finished."""


@dataclass(frozen=True, slots=True)
class End:
    """Nothing more comes; *cancelled*: since nobody wants more."""

    cancelled: bool


Message: TypeAlias = Progress | Painted | End | Fault


@dataclass(slots=True, eq=False)
class Work:
    """Made by the request's own thread; then the loop's and its line's."""

    wish: Wish
    seeds: tuple[int, ...]
    """One a picture."""
    steps: int
    """That each picture takes."""
    partials: int
    """How many unfinished states of each picture are wanted."""
    stop: Stop
    messages: SimpleQueue[Message] = field(default_factory=SimpleQueue)
    ahead: int = -1
    """How many works it was told last that are before it; -1: nothing was told."""
    painting: bool = False
    alone: bool = False
    """Whether each of its pictures is to be painted by itself."""
    dropped: bool = False
    """Nobody wants it any more."""
    ended: bool = False
    """Its last message was sent."""
    painted: int = 0
    """Pictures that are finished: the first so many."""
    steps_run: int = 0
    """Steps that were computed for it, also those in vain."""
    paint_s: float = 0.0
    _done: int = 0

    @property
    def shape(self) -> tuple[Any, ...]:
        """What works have in common that can be painted together."""
        wish = self.wish
        mode = (wish.picture is None, wish.mask is None, not wish.negative)
        return wish.width, wish.height, wish.steps, wish.guidance, wish.strength, wish.scheduler, wish.loras, mode

    @property
    def over(self) -> bool:
        """Whether there is nothing left to do."""
        return self.dropped or self.painted == len(self.seeds)

    def advance(self, steps: int) -> None:
        """Tell that *steps* are done of the steps of all pictures, if they are more than before."""
        if steps > self._done and not self.dropped:
            self._done = steps
            self.messages.put(Progress(stage="step", done=steps, total=self.steps * len(self.seeds)))

    def shown_after(self, step: int) -> int | None:
        """Which of a picture's unfinished states is wanted after *step*; they are evenly spaced. None: none of them."""
        if step >= self.steps or self.dropped:
            return None
        after = sorted({self.steps * (place + 1) // (self.partials + 1) for place in range(self.partials)} - {0})
        return after.index(step) if step in after else None
