"""What echo hears: the bytes of a sound as text, a segment a line, a second a word."""

from __future__ import annotations

from typing import Any

import pytest

from anyform.builtin import echo
from anyform.builtin.echo_engine import EchoModel
from anyform.contract.errors import ContextExceeded, Invalid, Unsupported
from anyform.contract.events import Done, Event, Progress, Segment
from anyform.contract.jobs import Sound, Transcribe, Translate
from anyform.contract.model import Stop

SAID = Sound(data=b"one two\nthree")


def model(**options: Any) -> EchoModel:
    return EchoModel("e", echo.TASKS, 100, 2, options)


def done(events: list[Event]) -> Done:
    assert isinstance(events[-1], Done)
    return events[-1]


def test_a_line_is_a_segment() -> None:
    events = list(model().generate(Transcribe(audio=SAID, language="de"), Stop()))
    assert events[:3] == [
        Progress(stage="audio", total=3),
        Segment(text=" one two", start=0.0, end=2.0),
        Segment(text=" three", start=2.0, end=3.0),
    ]
    assert done(events).extra == {"duration": 3.0, "language": "de"}
    assert done(events).usage.completion_tokens == 3


def test_a_translation_is_in_english() -> None:
    assert done(list(model().generate(Translate(audio=SAID), Stop()))).extra["language"] == "en"


def test_words_have_times() -> None:
    events = list(model().generate(Transcribe(audio=SAID, words=True), Stop()))
    assert events[2] == Segment(
        text=" three", start=2.0, end=3.0, extra={"words": [{"word": "three", "start": 2.0, "end": 3.0}]}
    )


def test_a_stopped_one_ends() -> None:
    stop = Stop()
    events = model().generate(Transcribe(audio=Sound(data=b"a\n" * 50)), stop)
    seen = [next(events), next(events)]
    stop.set()
    rest = list(events)
    assert isinstance(seen[1], Segment)
    assert [type(event) for event in rest] == [Done]
    assert done(rest).finishes[0].reason == "cancelled"


def test_what_is_refused() -> None:
    with pytest.raises(Invalid) as caught:
        list(model().generate(Transcribe(audio=Sound(data=b"\xff")), Stop()))
    assert caught.value.details["param"] == "file"
    with pytest.raises(ContextExceeded):
        list(model().generate(Transcribe(audio=SAID, prompt="word " * 101), Stop()))
    with pytest.raises(Unsupported):
        EchoModel("e", ("chat",), 100, 2, {}).generate(Transcribe(audio=SAID), Stop())
