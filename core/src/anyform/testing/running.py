"""Runs jobs for the conformance kit, never longer than a limit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from anyform.contract.events import Blob, Event, Reasoning, Scores, Segment, Text, ToolCall, Vector
from anyform.contract.jobs import Job
from anyform.contract.model import LoadedModel, Stop

T = TypeVar("T")

THREADS = 4


@dataclass(frozen=True)
class Run:
    """One job's events, in order."""

    events: Sequence[Event]

    def output(self) -> list[tuple[Any, ...]]:
        """What was answered, without how it was cut into pieces: must not depend on time, place or neighbours."""
        texts: dict[tuple[str, int], str] = {}
        others: list[tuple[Any, ...]] = []
        for event in self.events:
            match event:
                case Text() | Reasoning():
                    kind = (type(event).__name__, event.index)
                    texts[kind] = texts.get(kind, "") + event.text
                case ToolCall():
                    kind = (f"{event.call} {event.name}", event.index)
                    texts[kind] = texts.get(kind, "") + event.arguments
                case Vector():
                    others.append(("Vector", event.index, event.dimensions))
                case Scores():
                    others.append(("Scores", event.index, len(event.values)))
                case Blob():
                    others.append(("Blob", event.index, event.media_type))
                case Segment():
                    others.append(("Segment", event.text))
        return [*sorted(texts.items()), *sorted(others)]


def run(model: LoadedModel, job: Job, stop: Stop | None = None, stop_after: int | None = None) -> Run:
    """All events of *job*; with *stop_after*, stop is set when that many have come."""
    stop = stop or Stop()
    events: list[Event] = []
    for event in model.generate(job, stop):
        events.append(event)
        if len(events) == stop_after:
            stop.set()
    return Run(events)


def meanwhile(model: LoadedModel, jobs: Sequence[Job]) -> list[list[list[tuple[Any, ...]]]]:
    """The outputs of *jobs* as each of several threads gets them, all at once."""
    barrier = threading.Barrier(THREADS)
    outputs: list[list[list[tuple[Any, ...]]]] = []

    def work() -> None:
        barrier.wait()
        outputs.append([run(model, job).output() for job in jobs])

    threads = [threading.Thread(target=work, daemon=True) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outputs) == THREADS, f"{THREADS - len(outputs)} of {THREADS} threads ended with an error."
    return outputs


def within(seconds: float, call: Callable[[], T], what: str) -> T:
    """What *call* returns or raises; an AssertionError if it takes longer than *seconds*."""
    outcome: list[tuple[bool, Any]] = []

    def work() -> None:
        try:
            outcome.append((True, call()))
        except BaseException as error:
            outcome.append((False, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    assert outcome, f"{what} did not end within {seconds:g} s."
    good, value = outcome[0]
    if not good:
        raise value
    returned: T = value
    return returned
