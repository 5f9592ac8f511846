"""Batches of texts: what goes together, what fails alone, what is cancelled; by an engine of a few lines."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from anyform.contract.errors import Closed, Fault
from anyform.contract.model import Stop

np = pytest.importorskip("numpy")

from anyform.text.encodeloop import EncodeLoop  # noqa: E402 - numpy may be absent
from anyform.text.lane import Lanes  # noqa: E402
from anyform.text.vectormodel import Input, VectorTicket  # noqa: E402

PATIENCE_S = 30
BAD, ENDLESS, DEADLY = 666, 667, 668


class Counting:
    """Gives each text its length and its first token; keeps what it got in each step."""

    def __init__(self) -> None:
        self.steps: list[list[int]] = []
        self.begun, self.go = threading.Event(), threading.Event()
        self.go.set()
        self.freed = 0
        self.most: int | None = None
        """Rows that it gives, however many are asked for."""
        self.meanwhile: Callable[[], None] = lambda: None

    def rows(self, inputs: Sequence[Input]) -> Any:
        self.begun.set()
        assert self.go.wait(PATIENCE_S)
        self.meanwhile()
        self.steps.append([len(one) for one in inputs])
        if any(BAD in one.tokens for one in inputs):
            raise RuntimeError(f"{BAD} is bad")
        if any(DEADLY in one.tokens for one in inputs):
            raise SystemExit("the engine ends everything")
        rows = [[len(one), np.inf if ENDLESS in one.tokens else one.tokens[0]] for one in inputs]
        return np.array(rows[: self.most], np.float32)

    def free(self) -> None:
        self.freed += 1


Made = Callable[..., tuple[EncodeLoop, Counting]]


@pytest.fixture
def made() -> Iterator[Made]:
    loops: list[tuple[EncodeLoop, Counting]] = []

    def make(batch: int = 100, threads: int = 1, **said: Any) -> tuple[EncodeLoop, Counting]:
        engine = Counting()
        lanes = Lanes(threads, 4 * batch)
        loop = EncodeLoop(engine, batch, lanes, lambda index, error: Fault(f"input {index}: {error}"), **said)
        loops.append((loop, engine))
        return loop, engine

    yield make
    for loop, engine in loops:
        engine.go.set()
        loop.close()
        loop.close()
        assert engine.freed == 1


def texts(*lengths: int) -> list[Input]:
    """Of tokens that tell their place."""
    return [Input([place] * length) for place, length in enumerate(lengths)]


def submit(loop: EncodeLoop, *inputs: Input, stop: Stop | None = None) -> VectorTicket:
    ticket = VectorTicket(inputs, stop or Stop())
    loop.submit(ticket)
    return ticket


def results(ticket: VectorTicket, count: int | None = None) -> dict[int, list[float]]:
    found = [ticket.results.get(timeout=PATIENCE_S) for _ in range(count or len(ticket.inputs))]
    return {one[0]: one[1].tolist() for one in found if isinstance(one, tuple)}


def held(loop: EncodeLoop, engine: Counting) -> VectorTicket:
    """A text that is being computed until `engine.go` is set."""
    engine.go.clear()
    first = submit(loop, Input([9]))
    assert engine.begun.wait(PATIENCE_S)
    return first


@pytest.mark.parametrize("threads", [1, 3])
def test_each_input_gets_its_own_row(threads: int, made: Made) -> None:
    loop, _ = made(threads=threads)
    tickets = [submit(loop, *texts(3, 30, 4, 29, 1)) for _ in range(5)]
    for ticket in tickets:
        assert results(ticket) == {0: [3, 0], 1: [30, 1], 2: [4, 2], 3: [29, 3], 4: [1, 4]}


def test_texts_of_about_one_length_go_together_whoever_sent_them(made: Made) -> None:
    loop, engine = made()
    first = held(loop, engine)
    one, other = submit(loop, *texts(10, 40)), submit(loop, *texts(11, 20, 9))
    engine.go.set()
    for ticket in (first, one, other):
        results(ticket)
    assert engine.steps == [[1], [10, 11, 9], [40], [20]]


def test_a_step_has_no_more_tokens_than_asked_for_and_a_longer_text_goes_alone(made: Made) -> None:
    loop, engine = made(batch=30)
    first = held(loop, engine)
    ticket = submit(loop, *texts(10, 10, 10, 10, 50, 50))
    engine.go.set()
    results(first)
    results(ticket)
    assert engine.steps == [[1], [10, 10, 10], [10], [50], [50]]


@pytest.mark.parametrize(
    ("said", "steps"),
    [
        ({"even": True}, [[5, 5], [6], [7]]),
        ({"together": 2}, [[5, 5], [6, 7]]),
        ({"padded": 40}, [[5, 6], [5, 7]]),
        ({}, [[5, 6, 5, 7]]),
    ],
)
def test_what_an_engine_asks_of_its_batches(said: dict[str, Any], steps: list[list[int]], made: Made) -> None:
    loop, engine = made(**said)
    first = held(loop, engine)
    ticket = submit(loop, *texts(5, 6, 5, 7))
    engine.go.set()
    results(first)
    results(ticket)
    assert engine.steps[1:] == steps


def test_what_one_text_does_the_others_did_not(made: Made) -> None:
    loop, engine = made()
    first = held(loop, engine)
    good, bad, endless = submit(loop, *texts(2, 2)), submit(loop, Input([BAD, 1])), submit(loop, Input([ENDLESS, 1]))
    engine.go.set()
    results(first)
    assert results(good) == {0: [2, 0], 1: [2, 1]}
    assert str(bad.results.get(timeout=PATIENCE_S)) == f"input 0: {BAD} is bad"
    assert str(endless.results.get(timeout=PATIENCE_S)) == "input 0: not all numbers are finite"
    assert sorted(map(len, engine.steps)) == [1, 1, 1, 1, 1, 4]


def test_what_is_cancelled_is_not_computed(made: Made) -> None:
    loop, engine = made()
    first, stop = held(loop, engine), Stop()
    stopped, left, kept = submit(loop, *texts(3, 3), stop=stop), submit(loop, *texts(3)), submit(loop, *texts(3))
    stop.set()
    left.failed = True  # nobody reads it any more
    engine.go.set()
    results(first)
    assert results(kept) == {0: [3, 0]}
    assert stopped.results.get(timeout=PATIENCE_S) is None
    assert engine.steps == [[1], [3]]


def test_closing_fails_what_waits(made: Made) -> None:
    loop, engine = made()
    first = held(loop, engine)
    waiting = submit(loop, *texts(50))
    engine.meanwhile = loop.close
    engine.go.set()
    assert results(first) == {0: [1, 9]}
    assert isinstance(waiting.results.get(timeout=PATIENCE_S), Closed)
    with pytest.raises(Closed):
        submit(loop, *texts(1))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("most", "answered"), [(1, {0: [2, 0], 1: [2, 1]}), (0, {})])
def test_an_engine_that_gives_too_few_rows_answers_each_or_fails_it(
    most: int, answered: dict[int, list[float]], threads: int, made: Made
) -> None:
    loop, engine = made(threads=threads)
    engine.most = most
    ticket = submit(loop, *texts(2, 2))
    if answered:
        assert results(ticket) == answered
    else:
        said = str(ticket.results.get(timeout=PATIENCE_S))
        assert said.startswith("input 0: ")
        assert "the model gives 0 rows for 1 inputs" in said
    engine.most = None
    assert results(submit(loop, *texts(3))) == {0: [3, 0]}, "the loop goes on"


def test_what_breaks_the_thread_is_told_those_who_were_computed_and_those_who_wait(made: Made) -> None:
    loop, engine = made()
    first = held(loop, engine)
    deadly, waiting = submit(loop, Input([DEADLY])), submit(loop, *texts(50))
    engine.go.set()
    results(first)
    for ticket in (deadly, waiting):
        assert "the engine ends everything" in str(ticket.results.get(timeout=PATIENCE_S))
    with pytest.raises(Fault, match="the engine ends everything"):
        submit(loop, *texts(1))


def test_what_fails_in_a_lane_before_the_engine_is_asked_is_told() -> None:
    def use(_: int) -> None:
        raise RuntimeError("no threads")

    engine = Counting()
    loop = EncodeLoop(engine, 100, Lanes(2, 100, use), lambda index, error: Fault(f"input {index}: {error}"))
    assert str(submit(loop, *texts(3)).results.get(timeout=PATIENCE_S)) == "input 0: no threads"
    assert str(submit(loop, *texts(3)).results.get(timeout=PATIENCE_S)) == "input 0: no threads"
    loop.close()
    assert engine.freed == 1
