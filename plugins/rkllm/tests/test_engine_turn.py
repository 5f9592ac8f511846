"""One at a time, first come, first served; and the thread that a job has."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from anyform.contract.errors import Closed
from anyform.contract.events import Done, Event, Text
from anyform.contract.model import Stop
from anyform_rkllm.turn import Turn
from anyform_rkllm.work import Work

pytestmark = pytest.mark.engine


def test_first_come_first_served() -> None:
    turn, order = Turn(), []
    places = [turn.queue() for _ in range(5)]
    stop = Stop()

    def take(number: int) -> None:
        assert places[number].wait(stop)
        order.append(number)
        places[number].leave()

    threads = [threading.Thread(target=take, args=(number,)) for number in reversed(range(5))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]


def test_who_leaves_the_line_holds_nobody_up() -> None:
    turn = Turn()
    first, second, third = (turn.queue() for _ in range(3))
    stop = Stop()
    stop.set()
    assert not second.wait(stop)
    second.leave()
    second.leave()
    first.leave()
    assert third.wait(Stop())


def test_close_waits_for_who_runs_and_ends_it_until_it_does() -> None:
    turn = Turn()
    running, waiting = turn.queue(), turn.queue()
    ended: list[int] = []

    def end() -> None:
        ended.append(len(ended))
        if len(ended) == 3:
            running.leave()

    def wait() -> None:
        try:
            waiting.wait(Stop())
        except Closed:
            waiting.leave()

    thread = threading.Thread(target=wait)
    thread.start()
    turn.close(end)
    thread.join()
    assert len(ended) == 3
    with pytest.raises(Closed):
        turn.queue()
    turn.close(end)


def test_what_a_job_tells_comes_in_order() -> None:
    def do(work: Work) -> Done:
        for number in range(3):
            work.tell(Text(text=str(number)))
        return Done()

    events = list(Work(Turn(), Stop()).events(do))
    assert events == [Text(text="0"), Text(text="1"), Text(text="2"), Done()]


def test_what_a_job_raises_reaches_its_reader_and_frees_the_turn() -> None:
    turn = Turn()

    def fail(work: Work) -> Done:
        raise KeyError("x")

    with pytest.raises(KeyError):
        list(Work(turn, Stop()).events(fail))
    assert list(Work(turn, Stop()).events(lambda work: Done())) == [Done()]


def test_a_thread_that_cannot_start_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    turn = Turn()

    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    events = Work(turn, Stop()).events(lambda work: Done())
    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError):
            next(events)
    assert list(Work(turn, Stop()).events(lambda work: Done())) == [Done()]


def test_a_reader_who_leaves_cancels_and_waits() -> None:
    seen: list[bool] = []

    def do(work: Work) -> Done:
        work.tell(Text(text="a"))
        assert work.stop.wait(10)
        seen.append(work.cancelled)
        return Done()

    events: Any = Work(Turn(), Stop()).events(do)
    assert next(events) == Text(text="a")
    events.close()
    assert seen == [True]


def test_a_job_that_waits_runs_nothing_once_it_is_stopped() -> None:
    turn, stop, ran = Turn(), Stop(), []
    turn.queue()

    def do(work: Work) -> Done:
        ran.append(work.cancelled)
        return Done()

    told: list[Event] = []
    reader = threading.Thread(target=lambda: told.extend(Work(turn, stop).events(do)))
    reader.start()
    stop.set()
    reader.join(10)
    assert (told, ran) == ([Done()], [True])
