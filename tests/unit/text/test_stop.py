"""Stop strings against `str.find` on the whole text."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyform.text.stop import StopStrings, held_back

PIECES = st.lists(st.text(alphabet="abc", max_size=4), max_size=12)
STOPS = st.lists(st.text(alphabet="abc", max_size=4), max_size=4)


def stream(pieces: Sequence[str], stops: Sequence[str]) -> tuple[str, str | None]:
    watch = StopStrings(stops)
    text = ""
    for piece in pieces:
        out, stop = watch.feed(piece)
        text += out
        if stop is not None:
            return text, stop
    return text + watch.flush(), None


@given(PIECES, STOPS)
def test_the_stop_that_ends_first_ends_the_text(pieces: list[str], stops: list[str]) -> None:
    whole = "".join(pieces)
    found = [(whole.find(stop) + len(stop), whole.find(stop), stop) for stop in stops if stop and stop in whole]
    expected = (whole[: min(found)[1]], min(found)[2]) if found else (whole, None)
    assert stream(pieces, stops) == expected


@given(PIECES, STOPS)
def test_only_what_may_become_a_stop_is_held_back(pieces: list[str], stops: list[str]) -> None:
    watch = StopStrings(stops)
    came = left = ""
    for piece in pieces:
        came += piece
        out, stop = watch.feed(piece)
        left += out
        if stop is not None:
            return
        held = came[len(left) :]
        assert came.startswith(left)
        assert not held or any(stop.startswith(held) for stop in stops)


@pytest.mark.parametrize(
    ("pieces", "stops", "text", "stop"),
    [
        (["Hello", " wor", "ld"], [" world"], "Hello", " world"),
        (["Hello", " wor", "k"], [" world"], "Hello work", None),
        (["ab", "c"], ["b", "abc"], "a", "b"),  # "b" is complete before "abc" is
        (["abc"], ["bc", "abc"], "", "abc"),
        (["x\n\n", "y"], ["\n\n"], "x", "\n\n"),
        (["text"], ["", ""], "text", None),
    ],
)
def test_examples(pieces: list[str], stops: list[str], text: str, stop: str | None) -> None:
    assert stream(pieces, stops) == (text, stop)


def test_nothing_comes_after_a_match() -> None:
    watch = StopStrings(["END"])
    assert watch.feed("a END b") == ("a ", "END")
    assert watch.feed("more") == ("", "END")
    assert watch.flush() == ""


def test_a_long_stop_string_does_not_hold_back_other_text() -> None:
    watch = StopStrings(["x" * 1000])
    assert watch.feed("hello") == ("hello", None)


def test_held_back_wants_a_proper_prefix() -> None:
    assert held_back("a<", ["<tool>"]) == 1
    assert held_back("a<tool>", ["<tool>"]) == 0
    assert held_back("abab", ["abac"]) == 2
