"""Bodies -> Speak jobs, and sound -> files and events."""

from __future__ import annotations

import json
import struct
from base64 import b64decode
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyform.contract.errors import Fault, TooLarge
from anyform.contract.events import Blob, Done, Event, Progress, Usage
from anyform.contract.jobs import Speak
from anyform.http import fault, speech
from anyform.http.fields import Written
from anyform.http.media import Media
from anyform.http.reply import Head

HEAD = Head(key="k", created=1700000000, model="m")
LETTERS = 100
RATE = 24_000
ONE, TWO = (struct.pack("<240h", *range(at, at + 240)) for at in (0, 1000))
DONE = Done(usage=Usage(prompt_tokens=7), extra={"duration": 0.02, "sample_rate": RATE})


def blob(data: bytes, rate: int = RATE) -> Blob:
    return Blob(data=data, media_type="audio/pcm", extra={"sample_rate": rate, "channels": 1})


EVENTS: tuple[Event, ...] = (Progress(stage="text", total=2), blob(ONE), blob(TWO), DONE)


def read(**fields: Any) -> Any:
    return speech.read({"model": "m", "input": "Hello.", **fields}, Media(1), LETTERS)


def written(events: Iterable[Event] = EVENTS, **fields: Any) -> bytes:
    writer = read(**{"response_format": "pcm", **fields}).writer(HEAD)
    return b"".join(writer.write(event, 0) for event in events) + bytes(writer.end())


def told(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in data.decode("ascii").split("\n\n") if line]


def test_the_least_request() -> None:
    ask = read(response_format="pcm")
    assert ask.jobs == (Speak(text="Hello."),)
    assert (ask.model, ask.stream, ask.prompt, ask.heavy) == ("m", True, "input", True)
    assert ask.writer(HEAD).media_type == "audio/pcm"


def test_all_fields() -> None:
    ask = read(voice="v(2)+w", speed=2, language="en-GB", response_format="wav", sample_rate=16_000)
    assert ask.jobs == (Speak(text="Hello.", voice="v(2)+w", speed=2.0, language="en-GB"),)
    assert read(voice={"id": "v"}).jobs[0].voice == "v"
    assert read(voice=None, speed=None, instructions="", language=None, sample_rate=None).jobs == (
        Speak(text="Hello."),
    )


def test_a_form_has_text_alone() -> None:
    given = {"speed": "0.5", "sample_rate": "8000", "stream": "false", "response_format": "pcm"}
    ask = read(**{name: Written(value) for name, value in given.items()})
    assert (ask.jobs[0].speed, ask.stream) == (0.5, False)


@pytest.mark.parametrize(
    ("fields", "kind", "stream"),
    [
        ({}, speech.Stream, True),
        ({"stream_format": "audio"}, speech.Stream, True),
        ({"stream_format": "audio", "stream": True}, speech.Stream, True),
        ({"stream_format": "audio", "stream": False}, speech.Whole, False),
        ({"stream": False}, speech.Whole, False),
        ({"stream": True}, speech.Events, True),
        ({"stream_format": "sse"}, speech.Deltas, True),
        ({"stream_format": "sse", "stream": True}, speech.Deltas, True),
    ],
)
def test_the_shape_of_the_answer(fields: dict[str, Any], kind: type, stream: bool) -> None:
    ask = read(response_format="pcm", **fields)
    assert type(ask.writer(HEAD)) is kind
    assert ask.stream is stream


@pytest.mark.parametrize(("form", "kind"), speech.MEDIA_TYPES.items())
def test_media_types(form: str, kind: str) -> None:
    if form not in ("wav", "pcm"):
        pytest.importorskip("av")
    for stream in (None, False):
        assert read(response_format=form, stream=stream).writer(HEAD).media_type == kind
    for fields in ({"stream": True}, {"stream_format": "sse"}):
        assert read(response_format=form, **fields).writer(HEAD).media_type.startswith("text/event-stream")


def test_a_file() -> None:
    assert written() == ONE + TWO
    assert written(stream=False) == ONE + TWO
    assert written(response_format="wav")[44:] == ONE + TWO


def test_a_whole_file_comes_at_the_end() -> None:
    writer = read(response_format="wav", stream=False).writer(HEAD)
    assert [writer.write(event, 0) for event in EVENTS] == [b""] * 4
    assert writer.end()[44:] == ONE + TWO


def test_openais_events() -> None:
    *deltas, last = told(written(stream_format="sse"))
    assert {one["type"] for one in deltas} == {"speech.audio.delta"}
    assert [b64decode(one["audio"]) for one in deltas] == [ONE, TWO]
    usage = {"input_tokens": 7, "output_tokens": 0, "total_tokens": 7}
    assert last == {"type": "speech.audio.done", "usage": usage}


def test_the_runtimes_own_events() -> None:
    *audio, last = told(written(stream=True, response_format=None))
    assert [(one["type"], one["format"], one["sample_rate"]) for one in audio] == [("audio", "pcm", RATE)] * 2
    assert [b64decode(one["data"]) for one in audio] == [ONE, TWO]
    assert last == {"type": "done", "duration": 0.02}


def test_the_end_of_a_file_is_an_event_too() -> None:
    pytest.importorskip("av")
    for fields in ({"stream": True}, {"stream_format": "sse"}):
        writer = read(response_format="mp3", **fields).writer(HEAD)
        before = b"".join(writer.write(event, 0) for event in EVENTS)
        assert len(told(writer.end())) == 2
        assert told(before) == []  # 20 ms are less than a frame


@given(size=st.integers(0, 3 * speech.PIECE + 7))
@settings(max_examples=30, deadline=None)
def test_sound_is_cut_into_events_without_loss(size: int) -> None:
    data = bytes(2 * (size // 2))
    *audio, _ = told(written([blob(data), DONE], stream=True))
    assert b"".join(b64decode(one["data"]) for one in audio) == data
    assert all(0 < len(one["data"]) <= speech.PIECE * 4 // 3 for one in audio)


def test_nothing_said_is_an_empty_file() -> None:
    assert written([DONE]) == b""
    assert len(written([DONE], response_format="wav")) == 44
    assert told(written([DONE], stream=True)) == [{"type": "done", "duration": 0.0}]


def test_pcm_of_another_rate_becomes_that_of_clients() -> None:
    pytest.importorskip("av")
    second = blob(bytes(2 * 16_000), 16_000)
    assert len(written([second, DONE])) == 2 * RATE
    assert len(written([second, DONE], response_format="wav")) - 44 == 2 * 16_000
    assert len(written([second, DONE], sample_rate=8000)) == 2 * 8000


def test_what_knows_no_rate_is_taken_for_the_usual_one() -> None:
    bare = Blob(data=ONE, media_type="audio/pcm")
    assert written([bare, DONE]) == ONE


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"model": None}, "missing_required_parameter", "model"),
        ({"input": None}, "missing_required_parameter", "input"),
        ({"input": 3}, "invalid_type", "input"),
        ({"input": ""}, "invalid_value", "input"),
        ({"input": "\n \t\N{NO-BREAK SPACE}"}, "invalid_value", "input"),
        ({"voice": 1}, "invalid_type", "voice"),
        ({"voice": ["a"]}, "invalid_type", "voice"),
        ({"voice": {}}, "missing_required_parameter", "voice.id"),
        ({"voice": {"id": 1}}, "invalid_type", "voice.id"),
        ({"speed": "2"}, "invalid_type", "speed"),
        ({"speed": True}, "invalid_type", "speed"),
        ({"speed": 0}, "invalid_value", "speed"),
        ({"speed": -0.5}, "invalid_value", "speed"),
        ({"speed": 10**400}, "invalid_value", "speed"),
        ({"language": 1}, "invalid_type", "language"),
        ({"response_format": "ogg"}, "invalid_value", "response_format"),
        ({"stream_format": "events"}, "invalid_value", "stream_format"),
        ({"stream": 1}, "invalid_type", "stream"),
        ({"stream": False, "stream_format": "sse"}, "invalid_value", "stream"),
        ({"sample_rate": 0}, "invalid_value", "sample_rate"),
        ({"sample_rate": 24_001}, "invalid_value", "sample_rate"),
        ({"sample_rate": "24000"}, "invalid_type", "sample_rate"),
        ({"sample_rate": 22_050, "response_format": "opus"}, "invalid_value", "sample_rate"),
        ({"instructions": "Whisper."}, "unsupported_parameter", "instructions"),
    ],
)
def test_bad_fields(fields: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(Fault) as refused:
        read(**fields)
    assert (refused.value.code, refused.value.details["param"]) == (code, param)
    assert fault.status(refused.value) == 400


def test_too_many_letters() -> None:
    assert read(input="x" * LETTERS).jobs[0].text == "x" * LETTERS
    with pytest.raises(TooLarge, match="101 letters") as refused:
        read(input="x" * (LETTERS + 1))
    assert (refused.value.details["param"], fault.status(refused.value)) == ("input", 413)


@given(
    body=st.dictionaries(
        st.sampled_from(["model", "input", "voice", "speed", "stream", "stream_format", "response_format", "language"]),
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9) | st.lists(st.text(max_size=2)),
    )
)
@settings(max_examples=200, deadline=None)
def test_any_body_is_read_or_refused(body: dict[str, Any]) -> None:
    job, status = Speak(text="said"), 200
    try:
        [job] = speech.read(body, Media(1), LETTERS).jobs  # type: ignore[assignment]
    except Fault as refused:
        status = fault.status(refused)
    assert status == 200 or 400 <= status < 500
    assert job.text.strip()
    assert job.speed > 0
