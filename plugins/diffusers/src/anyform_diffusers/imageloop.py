"""The one thread that paints: requests in the order in which they came, those of one shape together where they may."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from anyform.contract.errors import Fault
from anyform.text.enginethread import EngineThread
from anyform_diffusers.line import Line
from anyform_diffusers.work import Painted, Work

if TYPE_CHECKING:
    from anyform_diffusers.painter import Painter


class Ended(Exception):  # noqa: N818 - pictures that nobody waits for are ended by it, which is no error
    """Nobody wants these pictures any more."""


class ImageLoop(EngineThread[Work]):
    """Paints what stands in its line; what is submitted only wakes its thread."""

    def __init__(self, painter: Painter, together: int, places: int) -> None:
        """*together*: most pictures that are painted at once. *places*: most works in line, the painted included."""
        self._painter = painter
        self._together = together
        self._line = Line(places)
        super().__init__()

    def enter(self, work: Work) -> None:
        """Put *work* in line; it leaves when its request is stopped. Raises Overloaded, Closed, or what broke this."""
        self.check()
        self._line.enter(work)
        try:
            self.submit(work)
        except Fault:
            self.drop(work)
            raise
        work.stop.when_set(lambda: self.drop(work))

    def drop(self, work: Work) -> None:
        """Nobody wants *work* any more: it ends at once, or with the block of a network that is computed now.

        For any thread.
        """
        self._line.drop(work)

    def _take(self, work: Work) -> None:
        """It stands in line already."""

    def _busy(self) -> bool:
        return self._line.first() is not None

    def _fail(self, fault: Fault) -> None:
        for work in self._line.all():
            self._line.end(work, fault)

    def _free(self) -> None:
        self._painter.free()

    def _step(self) -> None:
        """Paint the next picture, or the next ones together."""
        first = self._line.first()
        if first is None:
            return  # nobody waits any more
        most = self._painter.together(first.wish, self._together) if self._together > 1 else 1
        batch = self._line.batch(first, most)
        works = [work for work, _ in batch]
        rows = [(work, work.painted + more) for work, count in batch for more in range(count)]
        try:
            pictures = self._painted(works, rows) if rows else []
        except Ended:
            self._line.rest(works)
        except Exception as error:  # engines raise whatever they like: it costs those works alone
            self._lost(works, len(rows), error)
        else:
            for (work, place), picture in zip(rows, pictures, strict=True):
                work.painted += 1
                work.messages.put(Painted(place, picture))
            self._line.rest(works)

    def _painted(self, works: Sequence[Work], rows: Sequence[tuple[Work, int]]) -> list[Any]:
        """A picture for each of *rows*: a work, and which of its pictures. Raises Ended, and what the engine does."""
        run_before = [work.steps_run for work in works]
        counts = [sum(1 for one, _ in rows if one is work) for work in works]

        def step(done: int, latents: Any) -> None:
            for work, before, count in zip(works, run_before, counts, strict=True):
                work.steps_run = before + done * count
                work.advance(work.painted * work.steps + done * count)
            self._line.sweep(works)
            if self._closing or all(work.ended for work in works):
                raise Ended
            self._show(rows, done, latents)

        def block() -> None:
            if self._closing or all(work.dropped for work in works):
                raise Ended

        wishes, seeds = [work.wish for work, _ in rows], [work.seeds[place] for work, place in rows]
        began_s = time.perf_counter()
        try:
            return self._painter.paint(wishes, seeds, step, block)
        finally:
            for work in works:
                work.paint_s += time.perf_counter() - began_s

    def _show(self, rows: Sequence[tuple[Work, int]], done: int, latents: Any) -> None:
        """The unfinished pictures that are wanted after step *done*."""
        found = [(row, work.shown_after(done)) for row, (work, _) in enumerate(rows)]
        wanted = [(row, partial) for row, partial in found if partial is not None]
        if not wanted:
            return
        shown = self._painter.preview(rows[wanted[0][0]][0].wish, latents[[row for row, _ in wanted]])
        for (row, partial), picture in zip(wanted, shown, strict=True):
            work, place = rows[row]
            work.messages.put(Painted(place, picture, partial))

    def _lost(self, works: Sequence[Work], rows: int, error: Exception) -> None:
        """End the work that *error* is of; of several pictures, have each painted by itself: one may be to blame."""
        _let_go(error)
        for work in works:
            if rows > 1:
                work.alone = True
            elif not work.dropped:
                self._line.end(work, _fault(error))
        self._line.rest(works)


def _let_go(error: BaseException | None) -> None:
    """Free what the engine's functions held when they failed: who is told of *error* would hold it as long."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _fault(error: Exception) -> Fault:
    if isinstance(error, Fault):
        return error
    said = " ".join(str(error).split())[:500]
    return Fault(f"the engine failed: {type(error).__name__}: {said}.", "Ask again; if it stays so, load it anew.")
