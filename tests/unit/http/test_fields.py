"""Typed reading of request fields."""

from __future__ import annotations

import pytest

from anyform.contract.errors import Fault
from anyform.http.fields import Fields, Missing, WrongType, WrongValue, is_tokens


def test_absent_and_null_are_the_same() -> None:
    fields = Fields({"a": None})
    for name in ("a", "b"):
        assert fields.integer(name) is None
        assert fields.number(name) is None
        assert fields.text(name) is None
        assert fields.flag(name) is None
        assert fields.strings(name) is None
        assert fields.array(name) is None
        assert fields.inner(name) is None
        assert fields.items(name) is None


@pytest.mark.parametrize(
    ("method", "value", "words"),
    [
        ("integer", "3", "expected an integer, but got a string"),
        ("integer", True, "expected an integer, but got a boolean"),
        ("integer", 1.5, "expected an integer, but got a number"),
        ("number", "0.5", "expected a number, but got a string"),
        ("number", False, "expected a number, but got a boolean"),
        ("flag", 1, "expected a boolean, but got an integer"),
        ("text", [], "expected a string, but got an array"),
        ("array", {}, "expected an array, but got an object"),
        ("inner", [], "expected an object, but got an array"),
        ("strings", {}, "expected a string or an array of strings, but got an object"),
    ],
)
def test_a_wrong_type_is_named(method: str, value: object, words: str) -> None:
    with pytest.raises(WrongType, match=words) as caught:
        getattr(Fields({"x": value}, "outer."), method)("x")
    assert caught.value.details["param"] == "outer.x"


def test_what_else_may_stand_there_is_said() -> None:
    with pytest.raises(WrongType, match=r"expected a boolean, but got a string instead\. Say true or false\."):
        Fields({"now": "perhaps"}).flag("now")
    for value in ([], True, {}):
        with pytest.raises(WrongType, match="expected a number of seconds or a time such as '5m', but got"):
            Fields({"keep_alive": value}).duration("keep_alive")
    assert [Fields({"keep_alive": value}).duration("keep_alive") for value in (3, "1m", -1, None)] == [3, 60, -1, None]


def test_a_wrong_item_is_named_by_its_place() -> None:
    with pytest.raises(WrongType) as caught:
        Fields({"x": ["a", 1]}).strings("x")
    assert caught.value.details["param"] == "x[1]"
    with pytest.raises(WrongType) as caught:
        Fields({"x": [{}, None]}).items("x")
    assert caught.value.details["param"] == "x[1]"


@pytest.mark.parametrize("value", [-0.01, 2.01, 10**400, -(10**400)])
def test_a_number_outside_its_range_is_refused(value: float) -> None:
    with pytest.raises(WrongValue, match="Expected a value"):
        Fields({"x": value}).number("x", low=0, high=2)


def test_a_number_beyond_a_double_is_refused() -> None:
    with pytest.raises(WrongValue, match="not a finite number"):
        Fields({"x": 10**400}).number("x")


def test_whole_floats_are_integers_and_the_edges_belong_to_the_range() -> None:
    fields = Fields({"x": 4.0, "zero": 0, "two": 2})
    assert fields.integer("x") == 4
    assert fields.number("zero", low=0, high=2) == 0.0
    assert fields.number("two", low=0, high=2) == 2.0


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 1e308])
def test_integers_end_where_64_bits_do(value: float) -> None:
    assert Fields({"x": 2**63 - 1}).integer("x") == 2**63 - 1
    with pytest.raises(WrongValue, match=r"the m(ax|in)imum"):
        Fields({"x": value}).integer("x", low=None if value < 0 else 1)


def test_the_first_spelling_given_counts() -> None:
    assert Fields({"b": 2, "c": 3}).integer("a", "b", "c") == 2
    assert Fields({"a": None, "b": 2}).integer("a", "b") == 2


def test_missing_fields_are_named() -> None:
    with pytest.raises(Missing, match=r"Missing required parameter: 'm\.x'") as caught:
        Fields({}, "m.").need_text("x")
    assert caught.value.details["param"] == "m.x"


@pytest.mark.parametrize("value", [None, [], {}, False, ""])
def test_an_empty_field_is_not_refused(value: object) -> None:
    Fields({"x": value}).refuse("x", "Use y.")


def test_a_refused_field_names_what_to_use() -> None:
    with pytest.raises(Fault, match=r"Unsupported parameter: 'x'\. Use y\."):
        Fields({"x": [1]}).refuse("x", "Use y.")


@pytest.mark.parametrize(
    ("value", "expected"), [([1, 2], True), ([], False), (["a"], False), ([True], False), ([[1]], False), (1, False)]
)
def test_token_lists_are_told_from_lists_of_prompts(value: object, expected: bool) -> None:
    assert is_tokens(value) is expected
