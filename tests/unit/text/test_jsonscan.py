"""The scanner against Python's json."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from anyform.text.jsonscan import JsonScanner, Step

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def scan(text: str) -> tuple[Step, str, int]:
    scanner = JsonScanner()
    for place, character in enumerate(text):
        step = scanner.push(character)
        if step is not Step.MORE:
            return step, scanner.take(), place
    return Step.MORE, scanner.take(), len(text)


@given(VALUES, st.sampled_from([None, 2]), st.booleans())
def test_valid_json_is_done_at_its_end(value: object, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    step, taken, place = scan(text + ",")
    assert step in (Step.DONE, Step.OVER)
    assert (taken, place) == (text, len(text) - (step is Step.DONE))


@given(st.text(alphabet='{}[]",:\\u0123abtruefalsn .-+eE\n', max_size=24))
def test_it_agrees_with_json_about_what_is_valid(text: str) -> None:
    try:
        json.loads(text, strict=False)
        valid = True
    except ValueError:
        valid = False
    step, _, place = scan(text + " ")
    rest = text[place + (step is Step.DONE) :].strip()
    assert (step in (Step.DONE, Step.OVER) and not rest) == valid


def test_control_characters_in_strings_are_escaped() -> None:
    assert scan('"a\nb\x01"')[1] == '"a\\nb\\u0001"'


def test_depth_and_number_length_are_bounded() -> None:
    assert scan("[" * 100_000)[0] is Step.BAD
    assert scan("1" * 100_000)[0] is Step.BAD
