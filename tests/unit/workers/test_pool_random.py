"""Random steps on a fake device: its size is never exceeded, nothing is evicted in use, everyone is answered."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from tests.unit.workers.fleet import FakeModel, Fleet

from anyform.contract.errors import Fault
from anyform.contract.jobs import Complete
from anyform.contract.model import Stop

JOB = Complete(prompt="x")
SIZES = {"a": 3, "b": 4, "c": 5, "d": 8, "huge": 13}
NAMES = st.sampled_from(sorted(SIZES))
PINS = st.sampled_from([None, None, None, True, False])
KEEPS = st.sampled_from([None, None, 0, 10, -1])
AT_ONCE = 12
ENDS_S = 30.0


class Request(threading.Thread):
    """One request, from its lease to its last event."""

    def __init__(self, fleet: Fleet, name: str, pin: bool | None, keep_alive_s: float | None) -> None:
        super().__init__(daemon=True)
        self._fleet, self.model = fleet, name
        self._ask = fleet.ask(name, pin=pin, keep_alive_s=keep_alive_s)
        self.answered = False
        self.fault: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            with closing(self._fleet.pool.lease(self._ask, hold=True)) as lease:
                list(lease.generate(JOB, Stop()))
            self.answered = True
        except BaseException as error:
            self.fault = error


class Schedules(RuleBasedStateMachine):
    """Everything that can happen to a pool, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.fleet = Fleet(12, SIZES, idle_s=60.0, check_s=3600.0, wait_s=300.0)
        self.requests: list[Request] = []
        self.others: list[threading.Thread] = []

    def models(self, name: str) -> list[FakeModel]:
        return [model for model in self.fleet.made if model.name == name and model.alive()]

    @rule(name=NAMES, pin=PINS, keep=KEEPS)
    def request(self, name: str, pin: bool | None, keep: float | None) -> None:
        if sum(request.is_alive() for request in self.requests) < AT_ONCE:
            self.requests.append(Request(self.fleet, name, pin, keep))

    @rule(name=NAMES)
    def answers_take_long(self, name: str) -> None:
        for model in self.models(name):
            model.go_on.clear()

    @rule(name=NAMES)
    def answers_come(self, name: str) -> None:
        for model in self.fleet.made:
            if model.name == name:
                model.go_on.set()

    @rule(name=NAMES)
    def crash(self, name: str) -> None:
        for model in self.models(name):
            model.crash()

    @rule(name=NAMES, fails=st.booleans())
    def loads_fail(self, name: str, fails: bool) -> None:
        (self.fleet.failing.add if fails else self.fleet.failing.discard)(name)

    @rule(name=NAMES)
    def unload(self, name: str) -> None:
        self.others.append(threading.Thread(target=self.fleet.pool.unload, args=(name,), daemon=True))
        self.others[-1].start()

    @rule(seconds=st.sampled_from([0.5, 6.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.fleet.clock.now += seconds
        self.fleet.pool.sweep()

    @invariant()
    def the_device_is_never_exceeded(self) -> None:
        assert self.fleet.device.most <= self.fleet.device.size

    @invariant()
    def nothing_goes_while_it_is_used(self) -> None:
        assert [model.name for model in self.fleet.made if model.closed_in_use] == []

    def teardown(self) -> None:
        """However it came to this: once answers come and time passes, every request ends."""
        deadline = time.monotonic() + ENDS_S
        while any(thread.is_alive() for thread in (*self.requests, *self.others)):
            assert time.monotonic() < deadline, f"{[r.model for r in self.requests if r.is_alive()]} wait for ever"
            for model in self.fleet.made:
                model.go_on.set()
            self.fleet.clock.now += 5
            time.sleep(0.001)
        self.the_device_is_never_exceeded()
        self.nothing_goes_while_it_is_used()
        odd = [request.fault for request in self.requests if not (request.answered or isinstance(request.fault, Fault))]
        assert odd == []
        self.fleet.pool.close()
        assert self.fleet.device.used == {}


def _run(examples: int, steps: int) -> None:
    checked = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Schedules, settings=checked)  # type: ignore[no-untyped-call]


def test_a_thousand_steps() -> None:
    _run(20, 50)


@pytest.mark.full
def test_ten_thousand_steps() -> None:
    _run(100, 100)
