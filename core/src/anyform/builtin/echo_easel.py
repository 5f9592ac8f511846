"""How echo paints: one job at a time, step by step, the others in a queue; what is painted is in echo_picture."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from anyform.builtin.echo_picture import PNG, Sketch, sketched
from anyform.contract.events import Blob, Done, Event, Finish, Progress
from anyform.contract.jobs import EditImage, Image, VaryImage
from anyform.contract.model import Stop

_LOOK_S = 0.02


class Easel:
    """Paints one job at a time; the others wait in the order in which they came. Used by several threads."""

    def __init__(self, step: Callable[[Stop], None], cancelled: Callable[[Stop], bool]) -> None:
        """*step*: takes as long as one does; *cancelled*: whether to end; what either raises ends the job."""
        self._step = step
        self._cancelled = cancelled
        self._queue: list[object] = []
        self._moved = threading.Condition()

    def paint(self, job: Image | EditImage | VaryImage, stop: Stop) -> Iterator[Event]:
        """The events that `Image` promises. Raises Invalid and Unsupported before the first of them."""
        sketch = sketched(job)
        finished = 0
        began = time.monotonic()
        for event in self._in_turn(sketch, stop):
            finished += isinstance(event, Blob) and "partial" not in event.extra
            yield event
        left = len(sketch.seeds) - finished
        yield Done(
            finishes=(*(Finish(),) * finished, *(Finish(reason="cancelled"),) * left),
            generate_s=time.monotonic() - began,
        )

    def _in_turn(self, sketch: Sketch, stop: Stop) -> Iterator[Event]:
        ticket = object()
        with self._moved:
            self._queue.append(ticket)
        try:
            yield from self._wait(ticket, stop)
            yield from self._pictures(sketch, stop)
        finally:
            with self._moved:
                self._queue.remove(ticket)
                self._moved.notify_all()

    def _wait(self, ticket: object, stop: Stop) -> Iterator[Event]:
        """Says how many are ahead until none is, or the job is cancelled."""
        told = None
        while told != 0 and not self._cancelled(stop):
            with self._moved:
                ahead = self._queue.index(ticket)
                if ahead == told:
                    self._moved.wait(_LOOK_S)
                    ahead = self._queue.index(ticket)
            if ahead != told:
                yield Progress(stage="queue", total=ahead)
            told = ahead

    def _pictures(self, sketch: Sketch, stop: Stop) -> Iterator[Event]:
        total, done = sketch.steps * len(sketch.seeds), 0
        shown = [sketch.steps * (at + 1) // (sketch.partials + 1) for at in range(sketch.partials)]
        for index, seed in enumerate(sketch.seeds):
            partial = 0
            for own in range(1, sketch.steps + 1):
                if self._cancelled(stop):
                    return
                self._step(stop)
                if self._cancelled(stop):
                    return
                done += 1
                yield Progress(stage="step", done=done, total=total)
                if own in shown and own < sketch.steps:
                    extra = {**sketch.extra(seed), "partial": partial}
                    yield Blob(data=sketch.painted(seed, own), media_type=PNG, index=index, extra=extra)
                    partial += 1
            whole = sketch.painted(seed, sketch.steps)
            yield Blob(data=whole, media_type=PNG, index=index, extra=sketch.extra(seed))
