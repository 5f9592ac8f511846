"""What echo says: a tone a word, which depends on the word, the voice and the speed; a piece a sentence."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import pytest

from anyform.builtin import echo, echo_speech
from anyform.builtin.echo_engine import EchoModel
from anyform.contract.errors import Closed, ContextExceeded, Invalid, Unsupported
from anyform.contract.events import Blob, Done, Event, Progress
from anyform.contract.jobs import Speak
from anyform.contract.model import Stop
from anyform.kernel.files import FolderFiles

TEXT = "One two. Three!\nFour"


def model(context: int = 100, **options: Any) -> EchoModel:
    return EchoModel("e", echo.TASKS, context, 2, options)


def say(text: str = TEXT, **fields: Any) -> list[Event]:
    return list(model().generate(Speak(text=text, **fields), Stop()))


def sound(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Blob))


def done(events: list[Event]) -> Done:
    assert isinstance(events[-1], Done)
    return events[-1]


def test_a_sentence_is_a_piece() -> None:
    events = say()
    assert events[0] == Progress(stage="text", total=3)
    blobs = [event for event in events if isinstance(event, Blob)]
    assert [len(blob.data) for blob in blobs] == [2 * 2 * 2400, 2 * 2400, 2 * 2400]
    assert {blob.media_type for blob in blobs} == {"audio/pcm"}
    assert [blob.extra for blob in blobs] == [{"sample_rate": 24_000, "channels": 1}] * 3
    assert done(events).extra == {"duration": 0.4, "sample_rate": 24_000, "voice": "alto"}
    assert done(events).usage.prompt_tokens == 4


def test_it_depends_on_words_voice_and_speed_and_on_nothing_else() -> None:
    assert sound(say()) == sound(say())
    others = [say("One two. Three! Five"), say(voice="bass"), say(speed=2.0), say(language="de")]
    assert len({sound(say()), *map(sound, others)}) == 5
    assert len(sound(say(speed=2.0))) * 2 == len(sound(say()))
    assert sound(say(voice="alto")) == sound(say())
    assert sound(say(language="de")) == sound(say(voice="tenor"))
    assert sound(say("Two three.")) == sound(say("Two\n three. "))


def test_there_is_no_click_between_words() -> None:
    samples = struct.unpack(f"<{len(sound(say())) // 2}h", sound(say()))
    assert max(abs(one - other) for one, other in pairwise(samples)) < 4000
    assert 10_000 < max(samples) <= echo_speech.LOUD
    assert all(abs(samples[at]) < 50 for at in range(0, len(samples), 2400))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"text": ""}, "input"),
        ({"text": " \n"}, "input"),
        ({"voice": "nobody"}, "voice"),
        ({"speed": 0.0}, "speed"),
        ({"speed": 2.1}, "speed"),
        ({"speed": float("nan")}, "speed"),
        ({"language": "tlh"}, "language"),
    ],
)
def test_what_cannot_be_is_refused_before_any_event(fields: dict[str, Any], param: str) -> None:
    events = model().generate(Speak(**{"text": TEXT, **fields}), Stop())
    with pytest.raises(Invalid) as refused:
        next(events)
    assert refused.value.details["param"] == param


def test_what_is_longer_than_the_context_is_refused() -> None:
    with pytest.raises(ContextExceeded):
        next(model(context=3).generate(Speak(text=TEXT), Stop()))


def test_a_stop_ends_it() -> None:
    stop = Stop()
    events = model().generate(Speak(text="One. Two. Three."), stop)
    next(events)
    next(events)
    stop.set()
    rest = list(events)
    assert [type(event) for event in rest] == [Done]
    assert done(rest).finishes[0].reason == "cancelled"
    assert done(rest).extra["duration"] == 0.1


def test_what_is_closed_speaks_no_more() -> None:
    speaker = model()
    events = speaker.generate(Speak(text="One. Two."), Stop())
    next(events)
    speaker.close()
    with pytest.raises(Closed):
        list(events)


def test_one_that_does_not_speak() -> None:
    with pytest.raises(Unsupported):
        EchoModel("e", echo.TEXT_TASKS, 100, 2, {}).generate(Speak(text=TEXT), Stop())


def test_voices_are_in_the_metadata_of_who_speaks(tmp_path: Any) -> None:
    (tmp_path / "a.echo.json").write_text('{"format": "echo", "tasks": ["speak"]}')
    (tmp_path / "b.echo.json").write_text('{"format": "echo"}')
    files = FolderFiles(tmp_path)
    speaks, silent = [echo.extract_metadata(files, match) for match in sorted(echo.detect_format(files), key=str)]
    assert [voice["id"] for voice in speaks.extra["voices"]] == ["alto", "bass", "tenor"]
    assert (speaks.extra["sample_rate"], speaks.extra["speeds"]) == (24_000, [0.5, 2.0])
    assert "voices" not in silent.extra
