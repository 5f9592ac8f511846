"""Which slot an answer takes, and how a step is divided."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyform.text.slot import Media, Slot, choose, gaps, position, share_out, shared, stand_in, whole


@given(st.lists(st.integers(0, 1), max_size=40), st.lists(st.integers(0, 1), max_size=40))
def test_shared_is_the_common_prefix(left: list[int], right: list[int]) -> None:
    length = shared(left, right)
    assert left[:length] == right[:length]
    assert length == min(len(left), len(right)) or left[length] != right[length]


def slots(*tokens: list[int]) -> list[Slot]:
    return [Slot(place, list(held), used=place + 1) for place, held in enumerate(tokens)]


def test_the_longest_prefix_wins() -> None:
    found = choose(slots([1, 2, 3, 9], [1, 2, 3, 4, 5], []), [1, 2, 3, 4, 6])
    assert found is not None
    assert (found[0].id, found[1]) == (1, 4)


def test_a_first_token_in_common_does_not_cost_another_conversation_its_memory() -> None:
    found = choose(slots([1, 7, 8], []), [1, 2, 3])
    assert found is not None
    assert (found[0].id, found[1]) == (1, 0)


def test_without_an_unused_slot_the_oldest_goes() -> None:
    held = slots([1, 7], [1, 8])
    held[0].used = 5
    found = choose(held, [1, 2, 3])
    assert found is not None
    assert found[0].id == 1


def test_busy_slots_are_not_taken() -> None:
    held = slots([1, 2, 3])
    held[0].busy = True
    assert choose(held, [1, 2, 3]) is None


def test_small_holes_are_closed_and_wide_ones_left() -> None:
    assert gaps([1, 2, 5, 12], 4) == [3, 4]
    assert gaps([3], 4) == []


@given(st.lists(st.integers(0, 300), max_size=20), st.integers(0, 1000))
def test_a_budget_is_used_up_half_by_the_oldest_and_half_by_the_shortest(wanted: list[int], budget: int) -> None:
    given_out = share_out(wanted, budget)
    assert sum(given_out) == min(sum(wanted), budget)
    assert all(0 <= got <= want for got, want in zip(given_out, wanted, strict=True))
    assert not wanted or given_out[0] >= min(wanted[0], budget // 2)
    others = list(zip(given_out, wanted, strict=True))[1:]
    hungry = [want for got, want in others if got < want]
    assert all(got == 0 for got, want in others if hungry and want > min(hungry))


def test_prompts_that_wait_finish_one_after_another() -> None:
    assert share_out([40, 30, 20, 30], 32) == [16, 0, 16, 0]
    assert share_out([40, 30, 4, 10], 32) == [16, 2, 4, 10]
    assert share_out([40], 32) == [32]
    assert share_out([], 32) == []


@pytest.mark.parametrize(("index", "expected"), [(0, 0), (5, 5), (9, 6), (12, 9)])
def test_a_picture_may_take_fewer_positions_than_tokens(index: int, expected: int) -> None:
    assert position(index, [Media(5, 9, 1)]) == expected


def test_a_prefix_is_never_cut_inside_a_picture() -> None:
    assert [whole(length, [Media(5, 9, 1)]) for length in (4, 5, 7, 9)] == [4, 5, 5, 9]


def test_what_stands_for_a_picture_is_below_0_and_its_own() -> None:
    one, two = b"\x00" * 32, b"\xff" * 32
    found = [stand_in(digest, offset, place) for digest in (one, two) for offset in (0, 1, 4095) for place in (0, 1)]
    assert max(found) < 0
    assert len(set(found)) == len(found)
    assert stand_in(one, 7) == stand_in(one, 7)
