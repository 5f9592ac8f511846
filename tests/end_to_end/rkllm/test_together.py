"""Many clients of one model, in line; clients that hang up; and a library that fails, dies or says nothing."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from itertools import islice

import pytest

from .house import LIMIT_S, BrokenError, Served, together

pytestmark = pytest.mark.engine

ENDLESS = "!slow 20 !count 100000"


@pytest.mark.parametrize("clients", [4, 8])
def test_each_gets_what_it_gets_alone(served: Served, clients: int) -> None:
    """The library refuses a second run beside the first, so that two at once would be an error."""
    texts = [f"!slow 1 !say number {place} of {clients}" for place in range(clients)]
    alone = [served.said(text) for text in texts]
    assert together([partial(served.said, text) for text in texts]) == alone


def test_who_came_first_is_served_first(served: Served) -> None:
    """Each takes its place once the one before has its own, and hangs up with its first token: then the next begins."""
    order: list[int] = []

    def ask(place: int) -> None:
        with served.stream(ENDLESS) as answer:
            next(answer)
            order.append(place)

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(4)]
    with served.stream(ENDLESS) as first:
        next(first)
        for place, thread in enumerate(threads):
            thread.start()
            served.until(place + 2)
    for thread in threads:
        thread.join(LIMIT_S)
    assert order == [0, 1, 2, 3]


def test_who_hangs_up_in_the_line_leaves_it(served: Served) -> None:
    pid = served.loaded()["pid"]
    with served.stream(ENDLESS) as first:
        next(first)
        with served.begun(ENDLESS):
            served.until(2)
        served.until(1)
    assert served.said("!say free") == "free"
    assert served.loaded()["pid"] == pid


def test_who_hangs_up_in_the_middle_ends_the_run(served: Served) -> None:
    """It would take 40 minutes."""
    pid = served.loaded()["pid"]
    with served.stream("!slow 25 !count 20000") as answer:
        assert len(list(islice(answer, 3))) == 3
    assert served.said("!say next") == "next"
    assert served.loaded()["pid"] == pid


def test_an_error_of_the_library_costs_its_request_alone(served: Served) -> None:
    pid = served.loaded()["pid"]
    answer = served.ask("!error")
    assert answer.status_code >= 500
    assert answer.json()["error"]["message"]
    assert served.said("!say after it") == "after it"
    assert served.loaded()["pid"] == pid


def test_an_error_in_a_stream_is_its_last_event(served: Served) -> None:
    with served.stream("!error") as answer, pytest.raises(BrokenError, match="the library ended the run"):
        list(answer)


def test_a_crash_costs_its_request_and_a_restart(served: Served) -> None:
    served.said("!say hello", "other")
    before, other = served.loaded()["pid"], served.loaded("other")["pid"]
    answer = served.ask("!crash")
    assert answer.status_code >= 500
    assert "ended" in answer.json()["error"]["message"] or "crash" in answer.json()["error"]["message"]
    assert served.said("!say again") == "again"
    assert served.loaded()["pid"] != before
    assert served.loaded("other")["pid"] == other


def test_a_worker_that_is_killed_is_begun_anew(served: Served) -> None:
    served.said("!say hello")
    before = served.loaded()["pid"]
    with served.stream(ENDLESS) as answer:
        next(answer)
        os.kill(before, signal.SIGKILL)
        with pytest.raises(BrokenError, match="SIGKILL"):
            list(answer)
    assert served.said("!say again") == "again"
    assert served.loaded()["pid"] != before


def test_a_library_that_says_nothing_is_ended(serve: Callable[..., Served]) -> None:
    served = serve(stuck_s=3)
    served.said("!say hello")
    before = served.loaded()["pid"]
    answer = served.ask("!hang")
    assert answer.status_code >= 500
    assert answer.json()["error"]["message"]
    assert served.said("!say again") == "again"
    assert served.loaded()["pid"] != before


def test_a_library_that_says_nothing_lets_go_when_its_client_does(served: Served) -> None:
    pid = served.loaded()["pid"]
    with served.stream("!hang") as answer:
        next(answer)
    assert served.said("!say again") == "again"
    assert served.loaded()["pid"] == pid
