"""Strict JSON bodies."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyform.http.body import DEPTH, NotJson, parse


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "could not parse"),
        (b"{", "could not parse"),
        (b'{"a":1}x', "could not parse"),
        (b"[]", "must be a JSON object"),
        (b'"text"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'{"a":NaN}', "NaN is not a JSON number"),
        (b'{"a":Infinity}', "Infinity is not"),
        (b'{"a":-Infinity}', "-Infinity is not"),
        (b'{"a":1e999}', "too large"),
        (b'{"a":-1e999}', "too large"),
        (b'{"a":' + b"1" * 5000 + b"}", "could not parse"),
        (b'{"a":"\xff\xfe"}', "not UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', "not UTF-8"),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b'{"\\udfff":1}', "surrogate"),
        (b'{"a":["\\uD83D x"]}', "surrogate"),
        ('{"a":"ä"}'.encode("utf-16"), "not UTF-8"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "levels deep"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "levels deep"),
        (b'{"a":' + b"[" * DEPTH + b"]" * DEPTH + b"}", "levels deep"),
    ],
)
def test_what_is_no_json_object_is_refused_in_words(data: bytes, words: str) -> None:
    with pytest.raises(NotJson, match=words):
        parse(data)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
        (b' {"a": "\\ud83d\\ude00"} ', {"a": "😀"}),
        ('{"a":"日本\u2028"}'.encode(), {"a": "日本\u2028"}),
        (b'{"a":"\\\\ud800"}', {"a": "\\ud800"}),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b'{"a":' + b"[" * (DEPTH - 1) + b"]" * (DEPTH - 1) + b"}", None),
    ],
)
def test_what_is_a_json_object_is_read(data: bytes, value: object) -> None:
    assert parse(data) == (value if value is not None else json.loads(data))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_give_an_object_or_a_fault(data: bytes) -> None:
    with suppress(NotJson):
        assert isinstance(parse(data), dict)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.text(),
        st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)),
    )
)
def test_every_json_object_survives(value: dict[str, object]) -> None:
    assert parse(json.dumps(value).encode()) == value
