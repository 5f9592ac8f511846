"""What is known of a model's voices and speeds before it is loaded."""

from __future__ import annotations

import pytest

from anyform.contract.facts import Metadata
from anyform.http.fields import WrongValue
from anyform.http.voice import check, listed

VOICES = [
    {"id": "af_heart", "language": "en-US"},
    {"id": "bf_emma", "language": "en-GB"},
    {"id": "speaker 1", "language": ""},
]
KNOWN = Metadata(extra={"voices": VOICES, "speeds": [0.5, 2.0]})


@pytest.mark.parametrize(
    "voice",
    ["", " ", "af_heart", "speaker 1", "af_heart(2)+bf_emma(1)", "af_heart (0.5) + bf_emma", "bf_emma af_heart"],
)
def test_what_may_be(voice: str) -> None:
    check(KNOWN, voice, 0.5)


@pytest.mark.parametrize("voice", ["alloy", "AF_HEART", "af_heart+alloy(2)", "af_heart,bf_emma"])
def test_voices_that_are_not_there(voice: str) -> None:
    with pytest.raises(WrongValue, match=r"there is no voice .*af_heart") as refused:
        check(KNOWN, voice, 1.0)
    assert refused.value.details["param"] == "voice"


@pytest.mark.parametrize("speed", [0.49, 2.01])
def test_speeds_that_it_has_not(speed: float) -> None:
    with pytest.raises(WrongValue, match=r"0\.5 to 2") as refused:
        check(KNOWN, "", speed)
    assert refused.value.details["param"] == "speed"


def test_what_is_not_known_is_left_to_the_model() -> None:
    check(Metadata(), "alloy", 9.0)


@pytest.mark.parametrize(
    ("language", "expected"),
    [("", ["af_heart", "bf_emma", "speaker 1"]), ("en", ["af_heart", "bf_emma"]), ("EN-gb", ["bf_emma"]), ("e", [])],
)
def test_voices_of_a_language(language: str, expected: list[str]) -> None:
    assert [voice["id"] for voice in listed("m", KNOWN, language)] == expected
