"""What is kept of responses, for how long, and what a conversation of them costs."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyform.http.responsestore import LARGE, OVERHEAD_BYTES, Link, PreviousNotFound, ResponseNotFound, Store, item_id

HOUR = 3600.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def store(limit: int = 1 << 20, keep_s: float = HOUR, most: int = 100, clock: Any = None) -> Store:
    return Store(limit, keep_s, most, clock or Clock())


def link(key: str, before: Link | None = None, text: str = "") -> Link:
    output = [{"id": item_id("message", key, "o", 0), "type": "message", "role": "assistant", "content": text}]
    inputs = json.dumps([{"role": "user", "content": f"to {key}"}]).encode()
    return Link(key=key, inputs=inputs, body=json.dumps({"output": output}).encode(), before=before)


def test_what_is_kept_is_found_by_its_id_alone() -> None:
    kept = store()
    kept.keep(one := link("a"))
    assert kept.get("resp_a") is one
    assert kept.get("a") is None
    assert kept.get("resp_b") is None


def test_one_that_is_not_kept_is_refused_with_the_reason() -> None:
    with pytest.raises(ResponseNotFound, match=r"resp_x.*not found.*in memory") as refused:
        store().need("resp_x")
    assert refused.value.details["param"] == "response_id"
    with pytest.raises(PreviousNotFound, match=r"1,024 bytes.*for 60 s.*whole conversation") as before:
        store(1024, 60).previous("resp_x")
    assert before.value.details["param"] == "previous_response_id"
    with pytest.raises(PreviousNotFound, match="keeps no responses"):
        store(0).previous("resp_x")


def test_a_chain_costs_each_link_once() -> None:
    kept = store()
    first, second, third = (one := link("a")), (two := link("b", one)), link("c", two)
    for at in (first, second, third):
        kept.keep(at)
    assert kept.bytes == first.bytes + second.bytes + third.bytes
    assert [at.key for at in third.chain()] == ["a", "b", "c"]


def test_a_conversation_is_large_by_all_that_is_before_it() -> None:
    kept = store()
    kept.keep(one := link("a", text="x" * LARGE))
    kept.keep(link("b", one))
    kept.keep(link("c"))
    assert [kept.large(f"resp_{key}") for key in "abcd"] == [True, True, False, False]
    assert [kept.large(odd) for odd in (None, 5, ["resp_a"], "a")] == [False] * 4


def test_what_nobody_asked_for_longest_goes_first() -> None:
    links = [link(key) for key in "abc"]
    kept = store(sum(one.bytes for one in links))
    for one in links:
        kept.keep(one)
    assert kept.get("resp_a")
    kept.keep(link("d"))
    assert [key for key in "abcd" if kept.get(f"resp_{key}")] == ["a", "c", "d"]


def test_a_link_works_whose_beginning_was_forgotten_and_what_it_needs_still_counts() -> None:
    kept = store(most=1)
    kept.keep(first := link("a"))
    kept.keep(second := link("b", first))
    assert kept.get("resp_a") is None
    assert [at.key for at in kept.previous("resp_b").chain()] == ["a", "b"]
    assert kept.bytes == first.bytes + second.bytes
    kept.keep(link("c"))
    assert kept.get("resp_b") is None
    assert kept.bytes == link("c").bytes


def test_two_may_go_on_from_one() -> None:
    kept = store(most=2)
    kept.keep(first := link("a"))
    kept.keep(second := link("b", first))
    kept.keep(third := link("c", first))
    assert kept.bytes == first.bytes + second.bytes + third.bytes
    kept.delete("resp_b")
    assert kept.bytes == first.bytes + third.bytes
    kept.delete("resp_c")
    assert (kept.bytes, kept.count) == (0, 0)


def test_one_that_is_forgotten_while_the_next_is_made_counts_again() -> None:
    kept = store(most=1)
    kept.keep(first := link("a"))
    before = kept.previous("resp_a")
    kept.keep(link("b"))
    assert kept.get("resp_a") is None
    kept.keep(after := link("c", before))
    assert kept.bytes == first.bytes + after.bytes


def test_a_deleted_one_is_gone_and_what_goes_on_from_it_is_not() -> None:
    kept = store()
    kept.keep(first := link("a"))
    kept.keep(link("b", first))
    kept.delete("resp_a")
    with pytest.raises(ResponseNotFound):
        kept.delete("resp_a")
    assert [at.key for at in kept.need("resp_b").chain()] == ["a", "b"]


def test_one_is_kept_so_long_after_its_last_use() -> None:
    clock = Clock()
    kept = store(keep_s=10, clock=clock)
    kept.keep(link("a"))
    kept.keep(link("b"))
    clock.now = 9
    assert kept.get("resp_a")
    clock.now = 12
    assert kept.get("resp_a")
    assert kept.get("resp_b") is None
    clock.now = 30
    assert kept.get("resp_a") is None
    assert kept.bytes == 0


def test_one_over_the_limit_alone_is_not_kept() -> None:
    kept = store(OVERHEAD_BYTES)
    kept.keep(link("a"))
    assert (kept.get("resp_a"), kept.bytes) == (None, 0)


def test_one_over_the_limit_costs_no_other() -> None:
    kept = store(4 * OVERHEAD_BYTES)
    kept.keep(first := link("a"))
    kept.keep(link("b", text="x" * 4 * OVERHEAD_BYTES))
    kept.keep(link("c", first, "x" * 2 * OVERHEAD_BYTES))
    assert [key for key in "abc" if kept.get(f"resp_{key}")] == ["a"]
    assert kept.bytes == first.bytes


def test_items_are_found_by_their_ids() -> None:
    kept = store()
    kept.keep(link("0a1b", text="said"))
    found = kept.item("msg_0a1bo0")
    assert found is not None
    assert found["content"] == "said"
    assert kept.item("msg_0a1bi0") == {"role": "user", "content": "to 0a1b"}
    assert [kept.item(name) for name in ("msg_0a1bo1", "msg_0a1c0o0", "msg_1", "", "msg_0a1bo" + "9" * 30)] == [
        None
    ] * 5


def test_threads_may_use_it_at_once() -> None:
    kept = store(limit=20 * OVERHEAD_BYTES, most=10)

    def work(number: int) -> None:
        before = None
        for at in range(200):
            kept.keep(made := link(f"{number:x}{at:x}", before))
            before = kept.get(f"resp_{made.key}") if at % 3 else None
            if at % 5 == 0:
                with suppress(ResponseNotFound):
                    kept.delete(f"resp_{made.key}")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    for key in [one.key for one in list(kept._links.values())]:
        kept.delete(f"resp_{key}")
    assert (kept.bytes, kept.count) == (0, 0)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("keep"), st.integers(0, 40), st.integers(0, 600)),
        st.tuples(st.just("get"), st.integers(0, 40), st.just(0)),
        st.tuples(st.just("delete"), st.integers(0, 40), st.just(0)),
        st.tuples(st.just("wait"), st.integers(0, 20), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_the_count_is_that_of_all_that_is_alive_whatever_comes(steps: list[tuple[str, int, int]]) -> None:
    clock = Clock()
    kept = store(8 * OVERHEAD_BYTES, 30, 6, clock)
    made: list[Link] = []
    for what, number, size in steps:
        if what == "keep":
            before = made[number] if number < len(made) else None
            made.append(link(f"{len(made):x}", before, "x" * size))
            kept.keep(made[-1])
        elif what == "get":
            kept.get(f"resp_{number:x}")
        elif what == "delete" and kept.get(f"resp_{number:x}"):
            kept.delete(f"resp_{number:x}")
        elif what == "wait":
            clock.now += number
        alive = {id(at): at for one in made if one.listed for at in one.chain()}
        assert kept.bytes == sum(at.bytes for at in alive.values())
        assert kept.count == sum(one.listed for one in made) <= 6
        assert kept.bytes <= kept.limit_bytes
