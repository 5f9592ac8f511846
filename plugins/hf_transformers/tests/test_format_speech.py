"""What a Whisper folder says of itself, and what a window's tokens mean; no engine needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from anyform.contract.facts import Metadata, Settings
from anyform.kernel.files import FolderFiles
from anyform.testing.whisper import LANGUAGES, write_whisper
from anyform_hf_transformers import detection, memory, metadata, transcript, validation
from anyform_hf_transformers.transcript import Attempt, Part

TIME = 1000
"""The token of 0.00 seconds."""


def facts_of(folder: Path) -> Metadata:
    files = FolderFiles(folder)
    (match,) = detection.detect(files)
    assert validation.validate(files, match) == []
    return metadata.extract(files, match)


def test_a_multilingual_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "require", lambda *told, **beside: None)  # it is about numbers, with and without av
    facts = facts_of(write_whisper(tmp_path / "m"))
    assert (facts.architecture, facts.tasks, facts.features) == ("whisper", ("transcribe", "translate"), ("audio",))
    assert facts.context == 64
    assert facts.extra["languages"] == list(LANGUAGES)
    estimate = memory.estimate(facts, Settings(device="cpu"))
    assert estimate.bytes_per_token == 0
    assert estimate.weights_bytes == 4 * (facts.parameters or 0) > 0


def test_an_english_folder_does_not_translate(tmp_path: Path) -> None:
    facts = facts_of(write_whisper(tmp_path / "m", english=True))
    assert (facts.tasks, facts.extra["languages"]) == (("transcribe",), ["en"])


def tokens(*said: float | str) -> list[int]:
    """Numbers are times, letters text."""
    return [TIME + round(one / transcript.STEP_S) if isinstance(one, float) else ord(one) for one in said]


@pytest.mark.parametrize(
    ("said", "parts", "forward"),
    [
        # Two segments, and a third that is not whole: it is heard again from the last pair on.
        ((0.0, "a", 2.0, 2.0, "b", 4.0, 4.0, "c"), [(0, 3, 0.0, 2.0), (3, 6, 2.0, 4.0)], 400),
        # A single time ends it: nothing is said after it.
        ((0.0, "a", 2.0, 2.0, "b", 4.0), [(0, 3, 0.0, 2.0), (3, 6, 2.0, 4.0)], 3000),
        ((1.0, "a", "b", 4.0), [(0, 4, 0.0, 4.0)], 3000),
        ((0.0, "a", "b"), [(0, 3, 0.0, 30.0)], 3000),
        (("a",), [(0, 1, 0.0, 30.0)], 3000),
        ((), [(0, 0, 0.0, 30.0)], 3000),
        ((0.0, 0.0, "a"), [(0, 1, 0.0, 0.0)], 3000),
    ],
)
def test_times_split_a_window(
    said: tuple[float | str, ...], parts: list[tuple[int, int, float, float]], forward: int
) -> None:
    found, step = transcript.split(tokens(*said), TIME, 3000)
    expected = [Part(first, last, pytest.approx(start), pytest.approx(end)) for first, last, start, end in parts]
    assert (found, step) == (expected, forward)


def attempt(text: str, logprob: float = -0.2, silence: float = 0.0) -> Attempt:
    return Attempt([1], text, 0.0, logprob, silence)


def test_what_can_be_trusted() -> None:
    assert attempt("Good morning, and welcome to all of you.").sound
    assert not attempt("and so " * 40).sound
    assert not attempt("Good morning.", logprob=-1.2).sound
    silent = attempt("Thank you.", logprob=-1.2, silence=0.7)
    assert silent.silent
    assert silent.sound, "silence need not be heard again"
    assert not attempt("Thank you.", logprob=-0.5, silence=0.9).silent
    assert attempt("").sound
