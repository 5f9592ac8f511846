"""Lanes: how many calls run at once, and how many threads each of them is given."""

from __future__ import annotations

import threading

from anyform.text.lane import Lanes

PATIENCE_S = 30
GIVEN = threading.local()
"""`threads`: what the engine was told of the calling thread."""


class Gate:
    """A call that says when it has begun and with how many threads, and ends when it is told to."""

    def __init__(self) -> None:
        self.begun, self.end = threading.Event(), threading.Event()
        self.threads = 0
        self.thread: threading.Thread | None = None

    def __call__(self) -> None:
        self.threads, self.thread = getattr(GIVEN, "threads", 0), threading.current_thread()
        self.begun.set()
        self.end.wait(PATIENCE_S)


def opened(threads: int) -> Lanes:
    return Lanes(threads, 100, lambda count: setattr(GIVEN, "threads", count))


def test_one_lane_is_the_callers_own_thread() -> None:
    gate = Gate()
    gate.end.set()
    lanes = opened(1)
    lanes.wait()
    lanes.run(gate, 10, more=True)
    assert gate.thread is threading.current_thread()
    lanes.close()


def test_calls_share_the_threads_and_a_third_waits() -> None:
    lanes, first, second, third = opened(2), Gate(), Gate(), Gate()
    lanes.run(first, 10, more=False)
    assert first.begun.wait(PATIENCE_S)
    assert first.threads == 2, "what nothing waits beside gets all"
    lanes.wait()
    lanes.run(second, 10, more=False)
    assert second.begun.wait(PATIENCE_S)
    assert second.threads == 1

    def last() -> None:
        lanes.wait()
        lanes.run(third, 10, more=False)

    waiting = threading.Thread(target=last)
    waiting.start()
    assert not third.begun.is_set()
    first.end.set()
    assert third.begun.wait(PATIENCE_S)
    assert third.threads == 1
    second.end.set()
    third.end.set()
    waiting.join(PATIENCE_S)
    lanes.close()


def test_what_waits_already_gets_its_share_too() -> None:
    lanes, gate = opened(4), Gate()
    lanes.run(gate, 10, more=True)
    assert gate.begun.wait(PATIENCE_S)
    assert gate.threads == 2
    gate.end.set()
    lanes.close()


def test_what_has_many_tokens_is_alone_and_gets_all_threads() -> None:
    lanes, short, long, last = opened(4), Gate(), Gate(), Gate()
    lanes.run(short, 10, more=False)

    def rest() -> None:
        lanes.run(long, 500, more=True)
        lanes.run(last, 10, more=False)

    waiting = threading.Thread(target=rest)
    waiting.start()
    assert short.begun.wait(PATIENCE_S)
    assert not long.begun.is_set()
    short.end.set()
    assert long.begun.wait(PATIENCE_S)
    assert long.threads == 4
    assert not last.begun.is_set()
    long.end.set()
    assert last.begun.wait(PATIENCE_S)
    last.end.set()
    waiting.join(PATIENCE_S)
    lanes.close()


def test_closing_waits_for_what_runs() -> None:
    lanes, gate = opened(2), Gate()
    lanes.run(gate, 10, more=False)
    closing = threading.Thread(target=lanes.close)
    closing.start()
    assert gate.begun.wait(PATIENCE_S)
    assert closing.is_alive()
    gate.end.set()
    closing.join(PATIENCE_S)
    assert not closing.is_alive()


def test_an_engine_that_cannot_be_told_is_not() -> None:
    lanes, gate = Lanes(2, 100), Gate()
    gate.end.set()
    lanes.run(gate, 10, more=False)
    lanes.close()
    assert gate.threads == 0
    assert gate.thread is not threading.current_thread()
