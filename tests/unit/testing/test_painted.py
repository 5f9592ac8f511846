"""The kit's check of jobs that paint: what echo yields passes, and each broken promise is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from anyform.builtin import echo
from anyform.builtin.echo_engine import EchoModel
from anyform.contract.events import Blob, Done, Event, Finish, Progress
from anyform.contract.jobs import Image
from anyform.contract.model import Stop
from anyform.testing.painted import check_painted

JOB = Image(prompt="a red fox", seed=7, n=2, partials=1)


def events() -> list[Event]:
    return list(EchoModel("e", echo.TASKS, 100, 2, {}).generate(JOB, Stop()))


def changed(kind: type[Event], change: Callable[[Event], Event | None], at: int = 0) -> list[Event]:
    """The events, of which the one of *kind* that is in place *at* among its own is changed, or left out."""
    found, seen = [], 0
    for event in events():
        if isinstance(event, kind):
            seen += 1
        new = change(event) if isinstance(event, kind) and seen == at + 1 else event
        found += [] if new is None else [new]
    return found


def other(**fields: object) -> Callable[[Event], Event]:
    return lambda event: replace(event, **fields)  # type: ignore[arg-type]


def told(**more: object) -> Callable[[Event], Event]:
    return lambda event: replace(event, extra={**event.extra, **more})  # type: ignore[union-attr, call-arg]


def gone(event: Event) -> None:
    return None


def test_what_echo_paints_is_as_promised() -> None:
    check_painted(JOB, events())


BROKEN = {
    "no queue": (changed(Progress, gone), "the first event of image is Progress"),
    "another first": (changed(Progress, other(stage="prompt")), "stage='queue'"),
    "a step twice": (changed(Progress, other(done=1), 2), "Count them up"),
    "a step less": (changed(Progress, gone, 8), "Count them up"),
    "another total": (changed(Progress, other(total=9), 3), "Count them up"),
    "no steps": ([event for event in events() if getattr(event, "stage", "") != "step"], "tells no steps"),
    "a picture less": (changed(Blob, gone, 3), r"finished pictures \[0\] for n=2"),
    "in another order": (changed(Blob, other(index=1), 1), r"finished pictures \[1, 1\]"),
    "no facts": (changed(Blob, other(extra={"seed": 7}), 1), "lacks width, height, steps, scheduler"),
    "another seed": (changed(Blob, told(seed=7), 3), "picture 1 of seed 7 has seed 7"),
    "another form": (changed(Blob, other(media_type="image/webp"), 0), "called image/webp begins with"),
    "states from 1": (changed(Blob, told(partial=1)), r"called \[1\]. Count from 0"),
    "a state more": (changed(Blob, lambda event: told(partial=1)(other(index=0)(event)), 2), "partials is 1"),
    "one finish": (changed(Done, other(finishes=(Finish(),))), "1 finishes for 2 pictures"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_broken_promise_is_told(name: str) -> None:
    seen, message = BROKEN[name]
    with pytest.raises(AssertionError, match=message):
        check_painted(JOB, seen)
