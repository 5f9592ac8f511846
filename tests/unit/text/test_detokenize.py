"""Incremental UTF-8 against decoding the whole."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from anyform.text.detokenize import Detokenizer


def decode(data: bytes, cuts: list[int]) -> str:
    decoder = Detokenizer()
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    text = "".join(decoder.feed(data[a:b]) for a, b in pairwise(places))
    return text + decoder.flush()


@given(st.text(), st.lists(st.integers(0, 1000)))
def test_text_survives_any_cut(text: str, cuts: list[int]) -> None:
    data = text.encode("utf-8", "replace")
    assert decode(data, cuts) == data.decode()


@given(st.binary(), st.lists(st.integers(0, 1000)))
def test_cuts_do_not_change_what_broken_bytes_become(data: bytes, cuts: list[int]) -> None:
    assert decode(data, cuts) == decode(data, [])


def test_invalid_bytes_are_replaced() -> None:
    assert Detokenizer().feed(b"a\xffb") == "a\ufffdb"


def test_an_incomplete_character_at_the_end_is_dropped() -> None:
    decoder = Detokenizer()
    assert decoder.feed("é!".encode() + "🙂".encode()[:3]) == "é!"
    assert decoder.pending == "🙂".encode()[:3]
    assert decoder.flush() == ""
    assert decoder.feed(b"next") == "next"
