"""The queue for a model: order, limits, and those who leave."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from anyform.contract.errors import Overloaded
from anyform.http.gate import Gate


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 5))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Visit:
    """One request for a model, held until `leave` is set."""

    def __init__(self, gate: Gate, parallel: int = 1, model: str = "m") -> None:
        self.runs = False
        self.leave = asyncio.Event()
        self.task = asyncio.create_task(self._go(gate, parallel, model))

    async def _go(self, gate: Gate, parallel: int, model: str) -> None:
        with gate.place(model) as place:
            await place.turn(parallel)
            self.runs = True
            await self.leave.wait()


def test_as_many_run_as_the_model_takes_and_the_others_in_their_order() -> None:
    async def work() -> None:
        gate = Gate(queue=10)
        visits = [Visit(gate, parallel=2) for _ in range(5)]
        await settle()
        assert [visit.runs for visit in visits] == [True, True, False, False, False]
        visits[1].leave.set()
        await settle()
        assert [visit.runs for visit in visits] == [True, True, True, False, False]
        for visit in visits:
            visit.leave.set()
        await asyncio.gather(*(visit.task for visit in visits))

    run(work())


def test_a_full_queue_refuses_at_once_and_says_when_to_return() -> None:
    async def work() -> None:
        gate = Gate(queue=2)
        visits = [Visit(gate) for _ in range(3)]
        await settle()
        refused = Visit(gate)
        await settle()
        fault = refused.task.exception()
        assert isinstance(fault, Overloaded)
        assert fault.details["retry_after_s"] >= 1
        assert "queue lets" in str(fault)
        other = Visit(gate, model="another")
        await settle()
        assert other.runs
        visits[0].leave.set()
        await settle()
        late = Visit(gate)
        await settle()
        assert not late.task.done()
        for visit in (*visits, other, late):
            visit.leave.set()
        await asyncio.gather(*(visit.task for visit in (*visits, other, late)))

    run(work())


@pytest.mark.parametrize("when", ["waiting", "just admitted", "running"])
def test_who_hangs_up_leaves_its_place_to_the_next(when: str) -> None:
    async def work() -> None:
        gate = Gate(queue=10)
        first, second, third = (Visit(gate) for _ in range(3))
        await settle()
        if when == "running":
            first.task.cancel()
            second.leave.set()
        elif when == "just admitted":
            first.leave.set()
            await asyncio.sleep(0)
            second.task.cancel()
        else:
            second.task.cancel()
            first.leave.set()
        await settle()
        assert third.runs
        for visit in (first, second, third):
            visit.leave.set()
        await asyncio.gather(first.task, second.task, third.task, return_exceptions=True)
        last = Visit(gate)
        await settle()
        assert last.runs
        last.leave.set()
        await last.task

    run(work())


def test_nothing_leaks_when_many_come_and_go() -> None:
    async def work() -> None:
        gate = Gate(queue=100)
        for _ in range(50):
            visits = [Visit(gate, parallel=3) for _ in range(6)]
            for visit in visits[::2]:
                visit.leave.set()
            await asyncio.sleep(0)
            for visit in visits[1::2]:
                visit.task.cancel()
            await asyncio.gather(*(visit.task for visit in visits), return_exceptions=True)
        visits = [Visit(gate, parallel=3) for _ in range(4)]
        await settle()
        assert [visit.runs for visit in visits] == [True, True, True, False]
        for visit in visits:
            visit.leave.set()
        await asyncio.gather(*(visit.task for visit in visits))

    run(work())


def test_several_jobs_of_one_request_take_only_what_is_free() -> None:
    async def work() -> None:
        gate = Gate(queue=10)
        with gate.place("m") as place:
            await place.turn(4)
            assert place.more(10) == 3
            assert place.more(1) == 0
        with gate.place("m") as place:
            await place.turn(4)
            assert place.more(2) == 2

    run(work())


def test_a_larger_model_admits_those_who_wait() -> None:
    async def work() -> None:
        gate = Gate(queue=10)
        small = [Visit(gate, parallel=1) for _ in range(3)]
        await settle()
        large = Visit(gate, parallel=4)
        await settle()
        assert [visit.runs for visit in (*small, large)] == [True] * 4
        for visit in (*small, large):
            visit.leave.set()
        await asyncio.gather(*(visit.task for visit in (*small, large)))

    run(work())


def test_a_model_is_opened_by_one_request_at_a_time() -> None:
    async def work() -> None:
        gate = Gate(queue=10)
        opening = Opening()
        requests = [asyncio.create_task(opening.request(gate)) for _ in range(3)]
        await settle()
        assert opening.began == 1
        opening.done.set()
        await asyncio.gather(*requests)
        assert opening.began == 3

    run(work())


def test_an_opening_goes_on_without_the_request_that_began_it() -> None:
    async def work() -> None:
        gate = Gate(queue=10)
        opening = Opening()
        first = asyncio.create_task(opening.request(gate))
        await settle()
        second = asyncio.create_task(opening.request(gate))
        first.cancel()
        await settle()
        assert (first.cancelled(), opening.began) == (True, 1)
        opening.done.set()
        assert await second == 2

    run(work())


class Opening:
    """Counts how often a model was begun to be opened; none is open before `done` is set."""

    def __init__(self) -> None:
        self.began = 0
        self.done = asyncio.Event()

    async def request(self, gate: Gate) -> int:
        with gate.place("m") as place:
            return await place.open(self._open)

    async def _open(self) -> int:
        self.began += 1
        await self.done.wait()
        return self.began
