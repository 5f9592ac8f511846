"""The pool with fake models and no sleeps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from anyform.contract.errors import Closed, LoadFailed
from anyform.contract.events import Done, Event
from anyform.contract.facts import Evidence, FormatMatch, Metadata, Plan, Settings
from anyform.contract.jobs import Complete
from anyform.contract.model import Stop
from anyform.kernel.residence import Admit, Ask, Held
from anyform.kernel.router import Decision
from anyform.workers.pool import Pool

JOB = Complete(prompt="x")
MATCH = FormatMatch(format="f", entry="m", files=("m",), evidence=Evidence.MAGIC, why="w")


class Fake:
    parallel = 2

    def __init__(self) -> None:
        self.closed = 0
        self.dead = False
        self.go_on = threading.Event()
        self.go_on.set()

    def alive(self) -> bool:
        return not self.dead

    def generate(self, job: Any, stop: Stop) -> Iterator[Event]:
        self.go_on.wait(10)
        yield Done()

    def close(self) -> None:
        self.closed += 1


def held(context: int = 8) -> Held:
    settings = Settings(context=context)
    plan = Plan(plugin="p", backend="b", model="m", path="/", match=MATCH, metadata=Metadata(), settings=settings)
    return Held(plan=plan, asked=settings, decision=Decision(model="m", task=None, plan=plan, verdicts=()))


def asking(serves: Callable[[Held], bool], load: Callable[[], tuple[Any, Held]], needs: int = 0) -> Ask:
    def admitted(admit: Admit) -> tuple[Any, Held]:
        admit({"cpu": needs} if needs else {})
        return load()

    return Ask(name="m", serves=serves, load=admitted)


def always(_: Held) -> bool:
    return True


def never(_: Held) -> bool:
    return False


def test_many_callers_load_once() -> None:
    pool, fake, loads = Pool(), Fake(), []
    gate, arrived = threading.Event(), threading.Barrier(8)

    def load() -> tuple[Any, Held]:
        loads.append(1)
        gate.wait(10)
        return fake, held()

    def call() -> None:
        arrived.wait(10)
        list(pool.lease(asking(always, load)).generate(JOB, Stop()))

    threads = [threading.Thread(target=call) for _ in range(7)]
    for thread in threads:
        thread.start()
    arrived.wait(10)
    gate.set()
    for thread in threads:
        thread.join(10)
    assert len(loads) == 1
    assert [(at.model, at.users) for at in pool.residents()] == [(fake, 0)]


def test_a_failed_load_is_shared_and_the_next_call_tries_again() -> None:
    pool, waiting, fail = Pool(), threading.Event(), threading.Event()
    faults: list[BaseException] = []

    def broken() -> tuple[Any, Held]:
        waiting.set()
        fail.wait(10)
        raise LoadFailed("no")

    def call() -> None:
        with pytest.raises(LoadFailed) as caught:
            pool.lease(asking(always, broken))
        faults.append(caught.value)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    waiting.wait(10)
    fail.set()
    for thread in threads:
        thread.join(10)
    assert len(faults) == 3
    assert pool.lease(asking(always, lambda: (Fake(), held()))) is not None


def test_a_dead_model_is_replaced() -> None:
    pool, first, second = Pool(), Fake(), Fake()
    pool.lease(asking(always, lambda: (first, held())))
    first.dead = True
    assert pool.residents() == []
    pool.lease(asking(always, lambda: (second, held())))
    assert pool.residents()[0].model is second
    assert first.closed == 1


def test_one_that_does_not_serve_is_replaced_once_idle() -> None:
    pool, first, second = Pool(), Fake(), Fake()
    first.go_on.clear()
    lease = pool.lease(asking(always, lambda: (first, held())))
    user = threading.Thread(target=lambda: list(lease.generate(JOB, Stop())))
    user.start()
    while not pool.residents()[0].users:
        pass
    other = threading.Thread(
        target=lambda: pool.lease(asking(lambda h: h.plan.settings.context == 16, lambda: (second, held(16))))
    )
    other.start()
    assert first.closed == 0
    first.go_on.set()
    user.join(10)
    other.join(10)
    assert first.closed == 1
    assert pool.residents()[0].model is second


def test_unload_waits_for_requests_and_says_whether_there_was_one() -> None:
    pool, fake = Pool(), Fake()
    assert pool.unload("m") is False
    pool.lease(asking(always, lambda: (fake, held())))
    assert pool.unload("m") is True
    assert fake.closed == 1
    assert pool.residents() == []


def test_close_closes_everything_and_refuses_more() -> None:
    pool, fake = Pool(), Fake()
    pool.lease(asking(always, lambda: (fake, held())))
    pool.close()
    pool.close()
    assert fake.closed == 1
    with pytest.raises(Closed):
        pool.lease(asking(always, lambda: (fake, held())))


def test_a_load_that_ends_after_close_is_closed_too() -> None:
    pool, fake = Pool(), Fake()

    def load() -> tuple[Any, Held]:
        pool.close()
        return fake, held()

    with pytest.raises(Closed):
        pool.lease(asking(always, load))
    assert fake.closed == 1
