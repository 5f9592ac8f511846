"""Who may load, who waits, who goes: by tables, with bytes as small numbers."""

from __future__ import annotations

from typing import Any

import pytest

from anyform.kernel.admission import Admission, Budget, Tenant, admit, left, room

CPU = "cpu"


def tenant(name: str, promised: int, taken: int | None = None, **facts: Any) -> Tenant:
    facts = {"idle": True, "idle_s": 10.0, "load_s": 1.0} | facts
    return Tenant(name=name, promised={CPU: promised}, taken={CPU: promised if taken is None else taken}, **facts)


def budget(free: int, limit: int | None = None, most: int = 0) -> Budget:
    return Budget(free={CPU: free}, limits={} if limit is None else {CPU: limit}, most=most)


FITS = Admission(fits=True)
NEVER = Admission(fits=False, never=True)
USED = {"idle": False}


def waits(*names: str) -> Admission:
    return Admission(fits=False, holders=names)


def evicts(*names: str) -> Admission:
    return Admission(fits=False, evict=names, holders=names)


def case(what: str, needs: int, there: Budget, tenants: list[Tenant], wanted: Admission) -> Any:
    return pytest.param(needs, there, tenants, wanted, id=what)


TABLE = [
    case("fits exactly", 10, budget(10), [], FITS),
    case("never fits", 11, budget(10), [], NEVER),
    case("promised, not taken", 5, budget(10), [tenant("a", 6, taken=0)], evicts("a")),
    case("free lacks already what is taken", 10, budget(10), [tenant("a", 6)], FITS),
    case("the limit counts what is taken", 5, budget(100, limit=10), [tenant("a", 6)], evicts("a")),
    case("within the limit", 4, budget(100, limit=10), [tenant("a", 6)], FITS),
    case("waits for one in use", 5, budget(0), [tenant("a", 6, **USED)], waits("a")),
    case("pinned never goes", 5, budget(0), [tenant("a", 6, **USED, pinned=True)], NEVER),
    case("waits for one that is going", 5, budget(0), [tenant("a", 6, **USED, leaving=True)], waits("a")),
    case(
        "evicts nobody while one goes",
        5,
        budget(0),
        [tenant("a", 6), tenant("b", 6, **USED, leaving=True)],
        waits("b"),
    ),
    case("least recently used", 5, budget(0), [tenant("a", 6, idle_s=1), tenant("b", 6, idle_s=2)], evicts("b")),
    case(
        "cheap to load again",
        5,
        budget(0),
        [tenant("a", 6, idle_s=2, load_s=30), tenant("b", 6, idle_s=1)],
        evicts("b"),
    ),
    case("spares who does not help", 9, budget(0), [tenant("a", 1, idle_s=9), tenant("b", 9, idle_s=8)], evicts("b")),
    case("evicts nobody in vain", 9, budget(0), [tenant("a", 5), tenant("b", 5, **USED)], waits("a", "b")),
    case("one at a time", 1, budget(99, most=1), [tenant("a", 1)], evicts("a")),
    case("the one place is pinned", 1, budget(99, most=1), [tenant("a", 1, **USED, pinned=True)], NEVER),
]


@pytest.mark.parametrize(("needs", "there", "tenants", "wanted"), TABLE)
def test_admission(needs: int, there: Budget, tenants: list[Tenant], wanted: Admission) -> None:
    assert admit({CPU: needs}, there, tenants) == wanted


def test_a_device_that_does_not_say_what_is_free_has_no_end() -> None:
    assert admit({"npu:0": 10**15}, budget(1), []) == FITS
    assert left("npu:0", budget(1), []) is None


def test_every_device_must_have_room() -> None:
    there = Budget(free={"cuda:0": 10, CPU: 5}, limits={})
    assert admit({"cuda:0": 10, CPU: 5}, there, []).fits
    assert admit({"cuda:0": 10, CPU: 6}, there, []).never


def test_room_is_what_is_left_once_all_but_the_pinned_have_gone() -> None:
    tenants = [tenant("a", 6, taken=4), tenant("b", 3, taken=1, pinned=True)]
    assert room(budget(10), tenants) == {CPU: 10 + 4 - 2}
    assert room(budget(100, limit=20), tenants) == {CPU: 17}


def test_nothing_is_hopeless_while_something_loads() -> None:
    coming = tenant("a", 6, taken=0, idle=False, loading=True)
    assert admit({CPU: 10}, budget(4), [coming]) == Admission(fits=False, holders=("a",))
