"""Who is loaded, evicted and unloaded when: a fake device of a set size, a clock that stands still, real threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.workers.fleet import Fleet

from anyform.contract.errors import Closed, LoadFailed, OutOfMemory, Overloaded, WorkerDied
from anyform.contract.jobs import Complete
from anyform.contract.model import Stop

JOB = Complete(prompt="x")


@pytest.fixture
def fleet() -> Iterator[Callable[..., Fleet]]:
    made: list[Fleet] = []

    def make(size: int, sizes: dict[str, int], **lifecycle: Any) -> Fleet:
        made.append(Fleet(size, sizes, **{"idle_s": 60.0, "check_s": 3600.0, **lifecycle}))
        return made[-1]

    yield make
    for one in made:
        one.pool.close()


def ask(fleet: Fleet, name: str, **more: Any) -> None:
    with closing(fleet.pool.lease(fleet.ask(name, **more), hold=True)) as lease:
        list(lease.generate(JOB, Stop()))


class Caller(threading.Thread):
    """One request in a thread; keeps what it met."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        super().__init__(daemon=True)
        self._fleet, self._model = fleet, name
        self.fault: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            ask(self._fleet, self._model)
        except BaseException as error:
            self.fault = error

    def ended(self) -> bool:
        self.join(20)
        return not self.is_alive()


def crash(fleet: Fleet) -> None:
    """The last model dies, and that is seen, and ten seconds pass."""
    fleet.made[-1].crash()
    assert fleet.there() == []
    fleet.clock.now += 10


def until(true: Callable[[], bool]) -> None:
    """Wait for other threads, not for time to pass."""
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.002)


def test_what_fits_is_loaded_beside_the_others(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 4, "b": 6})
    ask(made, "a")
    ask(made, "b")
    assert made.there() == ["a", "b"]
    assert made.device.most == 10


def test_the_least_recently_used_goes_and_its_room_is_back_before_the_next_load(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 5, "b": 5, "c": 5})
    for name in "ab":
        made.clock.now += 1
        ask(made, name)
    ask(made, "a")
    made.clock.now += 1
    ask(made, "b")
    made.clock.now += 1
    ask(made, "c")
    assert made.unloaded() == [("a", "evicted")]
    assert made.there() == ["b", "c"]
    assert made.device.most == 10


def test_a_pinned_model_stays_and_what_then_never_fits_is_refused_with_numbers(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10 << 30, {"a": 6 << 30, "b": 6 << 30})
    ask(made, "a", pin=True)
    with pytest.raises(OutOfMemory, match=r"b needs 6\.0 GiB on fake:0, which has room for 4\.0 GiB beside .*\(a\)"):
        ask(made, "b")
    ask(made, "a", pin=False)
    ask(made, "b")
    assert made.there() == ["b"]


def test_a_model_in_use_is_never_evicted_and_the_other_waits(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 6, "b": 6})
    ask(made, "a")
    made.made[0].go_on.clear()
    using = Caller(made, "a")
    until(lambda: made.made[0].running == 1)
    other = Caller(made, "b")
    until(lambda: any(item.kind == "waiting" for item in made.told))
    assert (made.there(), made.loads()) == (["a"], ["a"])
    made.made[0].go_on.set()
    assert using.ended()
    assert other.ended()
    assert (using.fault, other.fault, made.loads()) == (None, None, ["a", "b"])
    assert not made.made[0].closed_in_use


def test_a_held_lease_counts_as_use(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 6, "b": 6})
    lease = made.pool.lease(made.ask("a"), hold=True)
    other = Caller(made, "b")
    until(lambda: any(item.kind == "waiting" for item in made.told))
    assert made.there() == ["a"]
    lease.close()
    lease.close()
    assert other.ended()
    assert made.there() == ["b"]


def test_a_lease_that_is_not_held_loads_its_model_again(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 6, "b": 6})
    lease = made.pool.lease(made.ask("a"))
    ask(made, "b")
    list(lease.generate(JOB, Stop()))
    assert made.loads() == ["a", "b", "a"]


def test_requests_that_wait_are_grouped_by_the_model_that_is_loaded(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"A": 6, "B": 6, "C": 6})
    release = threading.Event()
    made.gate = lambda name: release.wait(20)
    callers = []
    for name in "ABAACABC":
        callers.append(Caller(made, name))
        arrived = len(callers)
        until(lambda arrived=arrived: sum(at.users + at.waiting for at in made.pool.residents()) >= arrived)
    release.set()
    assert all(caller.ended() for caller in callers)
    assert [caller.fault for caller in callers] == [None] * 8
    assert len(made.loads()) == 3
    assert made.device.most == 6


def test_who_waits_too_long_goes_before_further_requests(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 6, "b": 6}, patience_s=5.0)
    ask(made, "a")
    made.made[0].go_on.clear()
    first = Caller(made, "a")
    until(lambda: made.made[0].running == 1)
    patient = Caller(made, "b")
    until(lambda: any(item.kind == "waiting" for item in made.told))
    second = Caller(made, "a")
    until(lambda: made.made[0].running == 2)
    made.clock.now += 6
    third = Caller(made, "a")
    until(lambda: sum(at.waiting for at in made.pool.residents()) == 1)
    made.made[0].go_on.set()
    for caller in (first, second, patient, third):
        assert caller.ended()
        assert caller.fault is None
    assert made.loads() == ["a", "b", "a"]


def test_waiting_has_an_end(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 6, "b": 6}, wait_s=30.0)
    lease = made.pool.lease(made.ask("a"), hold=True)
    other = Caller(made, "b")
    until(lambda: any(item.kind == "waiting" for item in made.told))
    made.clock.now += 31
    assert other.ended()
    assert isinstance(other.fault, Overloaded)
    assert other.fault.details["holders"] == ["a"]
    lease.close()


def test_an_idle_model_is_unloaded_after_its_time(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 1, "b": 1, "c": 1, "d": 1}, idle_s=60.0)
    ask(made, "a")
    ask(made, "b", pin=True)
    ask(made, "c", keep_alive_s=10)
    ask(made, "d", keep_alive_s=-1)
    made.clock.now += 11
    assert made.pool.sweep() == pytest.approx(49)
    assert made.there() == ["a", "b", "d"]
    made.clock.now += 50
    made.pool.sweep()
    assert made.there() == ["b", "d"]
    assert made.unloaded() == [("c", "idle"), ("a", "idle")]


def test_a_keep_alive_of_nothing_unloads_after_the_answer(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 1})
    ask(made, "a", keep_alive_s=0)
    until(lambda: made.there() == [])
    assert made.unloaded() == [("a", "idle")]


def test_one_in_use_does_not_expire(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 1}, idle_s=60.0)
    lease = made.pool.lease(made.ask("a"), hold=True)
    made.clock.now += 1000
    made.pool.sweep()
    assert made.there() == ["a"]
    lease.close()
    made.clock.now += 59
    made.pool.sweep()
    assert made.there() == ["a"]


def test_three_crashes_in_a_row_are_enough_until_a_user_asks(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 1})
    for _ in range(3):
        made.pool.lease(made.ask("a"))
        crash(made)
    with pytest.raises(LoadFailed, match="a crashed 3 times in a row"):
        ask(made, "a")
    assert list(made.pool.failed()) == ["a"]
    ask(made, "a", anew=True)
    assert made.pool.failed() == {}
    assert [item.kind for item in made.told].count("crashed") == 3


def test_an_answer_forgives_earlier_crashes(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 1})
    for _ in range(5):
        ask(made, "a")
        made.made[-1].crash()
    ask(made, "a")
    assert made.loads() == ["a"] * 6


def test_a_second_restart_waits(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 1})
    for _ in range(2):
        made.pool.lease(made.ask("a"))
        crash(made)
    made.clock.now -= 10
    began = time.monotonic()
    other = Caller(made, "a")
    until(lambda: time.monotonic() - began > 0.05)
    assert len(made.made) == 2
    made.clock.now += 10
    assert other.ended()
    assert len(made.made) == 3


def test_a_crash_amid_an_answer_is_told_and_the_next_one_is_answered(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 1})
    ask(made, "a")
    made.made[0].go_on.clear()
    using = Caller(made, "a")
    until(lambda: made.made[0].running == 1)
    made.made[0].crash()
    assert using.ended()
    assert isinstance(using.fault, WorkerDied)
    ask(made, "a")
    assert made.loads() == ["a", "a"]


def test_a_crash_at_load_gives_its_room_back(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 8, "b": 8})
    made.failing.add("a")
    with pytest.raises(LoadFailed):
        ask(made, "a")
    ask(made, "b")
    assert made.there() == ["b"]


def test_what_cannot_be_loaded_costs_no_loaded_model(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 1})
    ask(made, "a", pin=True)

    def refuse() -> None:
        raise OutOfMemory("a does not fit so")

    for _ in range(2):
        with pytest.raises(OutOfMemory, match="does not fit so"):
            made.pool.lease(replace(made.ask("a"), serves=lambda _: False, check=refuse))
    assert (made.there(), made.loads(), made.pool.residents()[0].pinned) == (["a"], ["a"], True)


def test_a_pin_outlives_other_settings_and_a_crash(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 1})
    ask(made, "a", pin=True, keep_alive_s=7)
    made.pool.lease(replace(made.ask("a"), serves=lambda held: len(made.made) > 1))
    assert made.loads() == ["a", "a"]
    assert made.pool.residents()[0].pinned
    made.made[-1].crash()
    ask(made, "a")
    assert made.loads() == ["a", "a", "a"]
    assert made.pool.residents()[0].pinned
    made.pool.unload("a")
    ask(made, "a")
    assert not made.pool.residents()[0].pinned


def test_an_unload_after_a_crash_ends_the_pin_too(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 1})
    ask(made, "a", pin=True)
    crash(made)
    assert not made.pool.unload("a")
    ask(made, "a")
    assert not made.pool.residents()[0].pinned


def test_one_request_is_one_job(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 1})
    ask(made, "a")
    made.made[0].go_on.clear()
    using = Caller(made, "a")
    until(lambda: made.made[0].running == 1)
    [there] = made.pool.residents()
    assert (there.users, there.jobs) == (2, 1)
    made.made[0].go_on.set()
    assert using.ended()
    [there] = made.pool.residents()
    assert (there.users, there.jobs) == (0, 0)


def test_places_that_are_all_pinned_are_told_as_such(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 1, "b": 1}, max_models=1)
    ask(made, "a", pin=True)
    with pytest.raises(Overloaded, match=r"1 model may be \(max_models\), and a is pinned"):
        ask(made, "b")


def test_unload_during_a_load_unloads(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 1})
    release = threading.Event()
    made.gate = lambda name: release.wait(20)
    loading = Caller(made, "a")
    until(lambda: bool(made.pool.residents()))
    unloading = threading.Thread(target=made.pool.unload, args=("a",))
    unloading.start()
    until(lambda: made.pool.residents()[0].waiting == 1)
    release.set()
    unloading.join(20)
    assert loading.ended()
    assert isinstance(loading.fault, Closed)
    assert (made.there(), made.made[0].closed, made.device.used) == ([], True, {})


def test_unload_ends_a_load_that_waits_for_room(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 6, "b": 6})
    lease = made.pool.lease(made.ask("a"), hold=True)
    waiting = Caller(made, "b")
    until(lambda: any(item.kind == "waiting" for item in made.told))
    assert made.pool.unload("b")
    assert waiting.ended()
    assert isinstance(waiting.fault, Closed)
    lease.close()


def test_unload_now_does_not_wait(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 1})
    lease = made.pool.lease(made.ask("a"), hold=True)
    assert made.pool.unload("a", now=True)
    assert made.made[0].closed
    lease.close()
    ask(made, "a")
    assert made.loads() == ["a", "a"]


def test_no_more_models_than_are_allowed(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 1, "b": 1, "c": 1}, max_models=2)
    for name in "abc":
        made.clock.now += 1
        ask(made, name)
    assert made.there() == ["b", "c"]


def test_two_requests_for_a_cold_model_load_it_once(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 1})
    release = threading.Event()
    made.gate = lambda name: release.wait(20)
    callers = [Caller(made, "a") for _ in range(6)]
    until(lambda: sum(at.users + at.waiting for at in made.pool.residents()) == 6)
    release.set()
    assert all(caller.ended() and caller.fault is None for caller in callers)
    assert made.loads() == ["a"]


def test_a_worker_that_says_nothing_is_ended(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 1}, stuck_s=30.0)
    ask(made, "a")
    model = made.made[0]
    said: list[str] = []
    model.kill = lambda why: (said.append(why), model.crash())  # type: ignore[attr-defined]
    model.go_on.clear()
    using = Caller(made, "a")
    until(lambda: model.running == 1)
    model.quiet_s = lambda: 31.0  # type: ignore[attr-defined]  # last: the pool's own thread sweeps too
    made.pool.sweep()
    assert using.ended()
    assert isinstance(using.fault, WorkerDied)
    assert said == ["it said nothing for 31 s and was ended"]
    assert [item.facts["seconds"] for item in made.told if item.kind == "stuck"] == [31.0]


def test_a_worker_that_says_nothing_is_ended_once_by_many_who_sweep(fleet: Callable[..., Fleet]) -> None:
    made = fleet(10, {"a": 1}, stuck_s=30.0)
    ask(made, "a")
    model = made.made[0]
    said: list[str] = []
    model.kill = said.append  # type: ignore[attr-defined]
    model.go_on.clear()
    using = Caller(made, "a")
    until(lambda: model.running == 1)
    model.quiet_s = lambda: 31.0  # type: ignore[attr-defined]  # last: the pool's own thread sweeps too
    for _ in range(3):
        made.pool.sweep()
    assert len(said) == 1
    model.crash()
    assert using.ended()
