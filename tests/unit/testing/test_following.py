"""A followed job: its events as they come, what it raises, and that it stops."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from anyform.contract.errors import Invalid
from anyform.contract.events import Done, Event, Finish, Progress
from anyform.contract.jobs import Complete, Job
from anyform.contract.model import Stop
from anyform.testing.following import Followed

JOB = Complete(prompt="a")


class Counting:
    """Counts until it is stopped, or to its limit, where it fails."""

    parallel = 1

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def generate(self, job: Job, stop: Stop) -> Iterator[Event]:
        for place in range(self.limit):
            yield Progress(stage="step", done=place, total=self.limit)
        if not stop.wait(10):
            raise Invalid(f"nobody stopped it at {self.limit}.")
        yield Done(finishes=(Finish(reason="cancelled"),))

    def close(self) -> None:
        """Nothing to free."""


def test_events_are_read_as_they_come() -> None:
    job = Followed(Counting(5), JOB)
    assert job.stage("step", 2) == Progress(stage="step", done=2, total=5)
    assert len(job.seen) == 3
    job.stop.set()
    assert job.done().finishes[0].reason == "cancelled"
    assert len(job.seen) == 6


def test_what_it_raises_is_raised_where_it_is_read() -> None:
    class Failing(Counting):
        def generate(self, job: Job, stop: Stop) -> Iterator[Event]:
            yield Progress(stage="step")
            raise Invalid("it is odd.")

    job = Followed(Failing(1), JOB)
    with pytest.raises(Invalid, match="odd"):
        job.stage("step", 1)
    assert job.seen == [Progress(stage="step")]
