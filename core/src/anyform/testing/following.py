"""One job that runs beside a test, whose events the test sees as they come: what waits, what moves up, what stops."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

from anyform.contract.events import Done, Event, Progress
from anyform.contract.jobs import Job
from anyform.contract.model import LoadedModel, Stop

LIMIT_S = 60.0
"""Nothing that a test waits for takes as long; queue.Empty then ends it."""


class Followed:
    """*job*, from now on in a thread of its own."""

    def __init__(self, model: LoadedModel, job: Job) -> None:
        self.stop = Stop()
        self.seen: list[Event] = []
        """What has been read of it."""
        self._coming: SimpleQueue[Event | Exception] = SimpleQueue()
        threading.Thread(target=self._run, args=(model, job), daemon=True).start()

    def _run(self, model: LoadedModel, job: Job) -> None:
        try:
            for event in model.generate(job, self.stop):
                self._coming.put(event)
        except Exception as error:
            self._coming.put(error)

    def until(self, wanted: Callable[[Event], bool]) -> Event:
        """The next event that is *wanted*. Raises what the job does."""
        while True:
            event = self._coming.get(timeout=LIMIT_S)
            if isinstance(event, Exception):
                raise event
            self.seen.append(event)
            if wanted(event):
                return event

    def stage(self, stage: str, done: int = 0, total: int | None = None) -> Event:
        """The next Progress of *stage* that is so far, or *total* of which nothing is known."""
        return self.until(
            lambda event: (
                isinstance(event, Progress)
                and (event.stage, event.done) == (stage, done)
                and total in (None, event.total)
            )
        )

    def done(self) -> Done:
        """The last event."""
        last = self.until(lambda event: isinstance(event, Done))
        assert isinstance(last, Done)
        return last
