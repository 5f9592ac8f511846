"""Languages as Whisper names them."""

from __future__ import annotations

import pytest

from anyform.contract.errors import Invalid, Unsupported
from anyform.sound.language import ALIASES, NAMES, code, nearest


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("de", "de"),
        ("DE", "de"),
        (" German ", "de"),
        ("german", "de"),
        ("Castilian", "es"),
        ("yue", "yue"),
        ("haw", "haw"),
    ],
)
def test_codes_and_names(asked: str, meant: str) -> None:
    assert code(asked, NAMES) == meant


@pytest.mark.parametrize(
    ("asked", "near"),
    [("germn", "de (german)"), ("en-US", "en (english)"), ("pt_BR", "pt (portuguese)"), ("spansh", "es (spanish)")],
)
def test_the_nearest_is_named(asked: str, near: str) -> None:
    with pytest.raises(Invalid) as caught:
        code(asked, NAMES)
    assert caught.value.details["param"] == "language"
    assert near in caught.value.hint


@pytest.mark.parametrize("asked", ["", "e", "klingonisch", "x" * 10_000, "\n"])
def test_what_is_near_nothing_is_told_what_to_give(asked: str) -> None:
    with pytest.raises(Invalid) as caught:
        code(asked, NAMES)
    assert caught.value.hint
    assert len(caught.value.message) < 120


def test_a_language_that_a_model_does_not_know() -> None:
    with pytest.raises(Unsupported, match="it knows de, en") as caught:
        code("finnish", ("en", "de"))
    assert caught.value.details["param"] == "language"
    with pytest.raises(Unsupported, match="knows 13 others"):
        code("finnish", list(NAMES)[:13])
    with pytest.raises(Unsupported, match="English only"):
        code("de", None)
    assert code("English", None) == "en"


def test_other_names_mean_known_languages() -> None:
    assert set(ALIASES.values()) <= set(NAMES)
    assert not set(ALIASES) & set(NAMES.values())
    assert nearest("mandarn")[0] == "zh (chinese)"


@pytest.mark.engine
def test_they_are_those_of_the_engines() -> None:
    tokenizer = pytest.importorskip("faster_whisper.tokenizer")
    assert set(tokenizer._LANGUAGE_CODES) == set(NAMES)


@pytest.mark.engine
def test_their_names_are_transformers() -> None:
    pytest.importorskip("transformers")
    from transformers.models.whisper import tokenization_whisper

    assert dict(NAMES) == tokenization_whisper.LANGUAGES
    others = tokenization_whisper.TO_LANGUAGE_CODE.items()
    assert dict(ALIASES) == {name: found for name, found in others if NAMES[found] != name}
