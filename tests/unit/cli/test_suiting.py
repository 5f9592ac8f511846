"""What a model's metadata says of languages, voices and speeds, told before the model is loaded."""

from __future__ import annotations

from typing import Any

import pytest

from anyform.cli.suiting import check_hearing, check_painting, check_speaking, hears, in_words, paints, speaks
from anyform.contract.errors import Fault, Invalid, Unsupported
from anyform.contract.facts import Metadata
from anyform.contract.jobs import Image

VOICES = [{"id": "af_heart", "language": "en-US"}, {"id": "bf_emma", "language": "en-GB"}]
SPEAKS = {"voices": VOICES, "speeds": [0.5, 2.0]}


def known(**extra: Any) -> Metadata:
    return Metadata(name="m", architecture="a", extra=extra)


@pytest.mark.parametrize("language", ["", "de", "German", " DE "])
def test_a_language_that_is_known_may_be_heard(language: str) -> None:
    check_hearing(known(languages=["de", "en"]), language)
    check_hearing(known(), "xx")  # of which nothing is said is the engine's matter
    assert hears(known(languages=["de", "en"]), language)


@pytest.mark.parametrize(
    ("languages", "language", "kind", "told"),
    [
        (["de", "en"], "xx", Invalid, "--language: 'xx' is no language"),
        (["de", "en"], "fr", Unsupported, "it knows de, en"),
        (["en"], "fr", Unsupported, "it knows English only"),
    ],
)
def test_one_that_is_not_is_told(languages: list[str], language: str, kind: type[Fault], told: str) -> None:
    with pytest.raises(kind, match=told):
        check_hearing(known(languages=languages), language)
    assert not hears(known(languages=languages), language)


@pytest.mark.parametrize(
    ("voice", "speed", "language"),
    [("", 1, ""), ("af_heart", 0.5, "en"), ("af_heart(2)+bf_emma (1)", 2, "en_GB"), ("bf_emma af_heart", 1, "EN")],
)
def test_what_it_has_may_be_asked_for(voice: str, speed: float, language: str) -> None:
    check_speaking("m", known(**SPEAKS), voice, speed, language)
    assert speaks(known(**SPEAKS), voice, language) == 3


def test_a_model_may_read_more_than_its_voices_speak_and_one_that_says_nothing_anything() -> None:
    check_speaking("m", known(**SPEAKS, reads=["en-US", "fr-FR"]), "", 1, "fr")
    check_speaking("m", known(), "nobody", 9, "xx")


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        (("af_hart", 1, ""), "voice"),
        (("af_heart(2)+nobody", 1, ""), "voice"),
        (("", float("nan"), ""), "speed"),
        (("", 2.1, ""), "speed"),
        (("", 1, "fr"), "language"),
    ],
)
def test_what_it_has_not_is_told(asked: tuple[str, float, str], param: str) -> None:
    with pytest.raises(Invalid, match=r"^(m|speed) ") as caught:
        check_speaking("m", known(**SPEAKS), *asked)
    assert caught.value.details["param"] == param
    assert caught.value.hint


@pytest.mark.parametrize(
    ("message", "file", "said"),
    [
        ("Invalid 'file': it is truncated: a.", "talk.mp3", "talk.mp3: it is truncated: a."),
        ("Invalid 'file': there is no sound in it.", "talk.mp3", "talk.mp3: there is no sound in it."),
        ("Invalid 'prompt': it has 9 tokens.", "talk.mp3", "--prompt: it has 9 tokens."),
        ("no memory.", "talk.mp3", "talk.mp3: no memory."),
        ("no memory.", "", "no memory."),
    ],
)
def test_a_refusal_is_told_in_the_command_lines_words(message: str, file: str, said: str) -> None:
    assert in_words(Invalid(message, "Mend it."), file) == said


PAINTS = {"unit": 8, "schedulers": ["DDIMScheduler", "EulerDiscreteScheduler"]}


def test_sides_and_schedulers_that_it_has_may_be_asked_for() -> None:
    check_painting("m", known(**PAINTS), Image(prompt="x"))
    check_painting("m", known(**PAINTS), Image(prompt="x", width=64, height=8, scheduler="DDIMScheduler"))
    check_painting("m", known(), Image(prompt="x", width=17, scheduler="any"))  # of which nothing is said
    check_painting("m", known(**PAINTS), Image(prompt="x", scheduler="euler_a"))  # which the engine may know
    assert paints(known(**PAINTS), "") == paints(known(**PAINTS), "DDIMScheduler") == 1
    assert paints(known(**PAINTS), "x") == paints(known(), "x") == 0


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"width": 17}, "the width is 17. The sides of what m paints are multiples of 8, such as 16."),
        ({"height": 3}, "the height is 3. The sides of what m paints are multiples of 8, such as 8."),
        ({"scheduler": "EulerScheduler"}, "no scheduler 'EulerScheduler'. Near it are EulerDiscreteScheduler"),
        ({"scheduler": "XScheduler"}, "m has no scheduler 'XScheduler'."),
    ],
)
def test_others_are_told(wanted: dict[str, Any], told: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_painting("m", known(**PAINTS), Image(prompt="x", **wanted))
    assert told in str(refused.value)
