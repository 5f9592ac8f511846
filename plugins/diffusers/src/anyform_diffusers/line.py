"""Where requests wait for the thread that paints: in the order in which they came, each told how many are before it."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable

from anyform.contract.errors import Fault, Overloaded
from anyform.contract.events import Progress
from anyform_diffusers.work import End, Work

_FIRST_GUESS_S = 5.0
"""How long a work takes, as long as none has been done."""
_LONGEST_S = 600


class Line:
    """Works in order, those that are painted included. Any thread may call it."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._works: list[Work] = []
        self._usual_s = _FIRST_GUESS_S
        self._lock = threading.RLock()  # a generator's end, and so `drop`, may come wherever memory is collected

    def enter(self, work: Work) -> None:
        """Put *work* at the end. Raises Overloaded."""
        with self._lock:
            waiting = sum(1 for one in self._works if not one.dropped)
            if waiting >= self._places:
                raise Overloaded(
                    f"{waiting} requests for pictures are computed or wait already, as many as may.",
                    "Try again later, or load the model with a larger option queue.",
                    retry_after_s=min(_LONGEST_S, max(1, math.ceil(self._usual_s))),
                )
            self._works.append(work)
            self._number()
            if work.stop.is_set():
                self.drop(work)

    def drop(self, work: Work) -> None:
        """Nobody wants *work* any more: it leaves at once, unless it is painted just now."""
        with self._lock:
            work.dropped = True
            if not work.painting:
                self.end(work)

    def end(self, work: Work, fault: Fault | None = None) -> None:
        """*work* leaves, with its last message. Once; later calls do nothing."""
        with self._lock:
            if work.ended:
                return
            work.ended = True
            if work in self._works:
                self._works.remove(work)
            if not work.dropped:
                self._usual_s = work.paint_s or self._usual_s
            work.messages.put(fault or End(cancelled=work.dropped))
            self._number()

    def first(self) -> Work | None:
        """The one that is next; None: nobody waits."""
        with self._lock:
            return self._works[0] if self._works else None

    def all(self) -> list[Work]:
        """Every work, in order."""
        with self._lock:
            return list(self._works)

    def batch(self, first: Work, most: int) -> list[tuple[Work, int]]:
        """The next pictures of *first* and of works of its shape, up to *most*: of which how many.

        They count as painted from now on, until `rest`. None where *first* has gone meanwhile.
        """
        with self._lock:
            if first.ended:
                return []
            others = [one for one in self._works if one is not first and not one.alone and one.shape == first.shape]
            left, taken = most, list[tuple[Work, int]]()
            for work in [first] if first.alone else [first, *others]:
                count = min(left, 1 if work.alone else len(work.seeds) - work.painted)
                if count:
                    taken.append((work, count))
                    left -= count
                    work.painting = True
            self._number()
            return taken

    def rest(self, works: Iterable[Work]) -> None:
        """*works* are not painted any more; those that are over leave."""
        with self._lock:
            for work in works:
                work.painting = False
            self.sweep(works)

    def sweep(self, works: Iterable[Work]) -> None:
        """Of *works*, those that are over leave."""
        with self._lock:
            for work in works:
                if work.over:
                    self.end(work)

    def _number(self) -> None:
        """Tell those before whom fewer are than they know."""
        for place, work in enumerate(list(self._works)):
            ahead = 0 if work.painting else place
            if not work.dropped and (work.ahead < 0 or ahead < work.ahead):
                work.ahead = ahead
                work.messages.put(Progress(stage="queue", total=ahead))
