"""What every engine that writes down speech refuses in the same words."""

from __future__ import annotations

import pytest

from anyform.contract.errors import ContextExceeded, Invalid, Unsupported
from anyform.contract.jobs import Embed, Sound, Transcribe, Translate
from anyform.sound import speech


def test_only_what_hears_is_done() -> None:
    for job in (Transcribe(audio=Sound(data=b"a")), Translate(audio=Sound(data=b"a"))):
        assert speech.checked(job) is job
    with pytest.raises(Unsupported, match="does not do the task embed"):
        speech.checked(Embed(inputs=("a",)))


def test_english_alone_is_translated_into_nothing() -> None:
    speech.check_translation(several=True)
    with pytest.raises(Unsupported, match="knows English only"):
        speech.check_translation(several=False)


def test_words_need_heads_that_follow_the_sound() -> None:
    speech.check_words(False, False, "config.json")
    speech.check_words(True, True, "config.json")
    with pytest.raises(Unsupported, match=r"alignment_heads in config\.json"):
        speech.check_words(True, False, "config.json")


def test_a_prompt_is_text_and_not_too_long() -> None:
    speech.check_prompt([1, 2, 3], 3, 50, str)
    with pytest.raises(ContextExceeded, match="it has 4 tokens; this model takes 3") as long:
        speech.check_prompt([1, 2, 3, 4], 3, 50, str)
    assert (long.value.details["param"], long.value.details["context"]) == ("prompt", 3)
    with pytest.raises(Invalid, match="<51> is no text") as marked:
        speech.check_prompt([1, 51], 3, 50, lambda token: f"<{token}>")
    assert marked.value.details["param"] == "prompt"
