"""Bodies -> Transcribe and Translate jobs, and segments -> the five formats and the stream."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyform.contract.errors import Fault, Invalid, TooLarge
from anyform.contract.events import Done, Event, Progress, Segment, Usage
from anyform.contract.jobs import Sound, Transcribe, Translate
from anyform.http import fault, transcription
from anyform.http.fields import Upload, Written
from anyform.http.media import Media
from anyform.http.reply import Head

LIMIT = 100
FILE = Upload(data=b"sound", filename="a.wav", media_type="audio/wav")
HEAD = Head(key="k", created=1700000000, model="m")
WORDS = [{"word": " Who", "start": 0.5, "end": 0.9}, {"word": " goes?", "start": 0.9, "end": 1.5}]
KNOWN = {"seek": 0, "tokens": [5, 6], "temperature": 0.2, "avg_logprob": -0.5, "compression_ratio": 1.1}
SEGMENTS = (
    Segment(text=" Who goes?", start=0.5, end=1.5, extra={**KNOWN, "no_speech_prob": 0.01, "words": WORDS}),
    Segment(text=" I --> <me> &\n\nyou \N{EM DASH} 日本", start=3661.25, end=3662.0),
)
DONE = Done(
    usage=Usage(prompt_tokens=4, completion_tokens=9),
    extra={"duration": 3662.4, "language": "en", "language_name": "english"},
)
EVENTS: tuple[Event, ...] = (Progress(stage="audio", total=3662), *SEGMENTS, Progress(stage="audio", done=3662), DONE)
TEXT = "Who goes? I --> <me> &\n\nyou \N{EM DASH} 日本"


def read(**fields: Any) -> Any:
    return transcription.read({"model": "m", "file": FILE, **fields}, Media(LIMIT))


def translate(**fields: Any) -> Any:
    return transcription.read_translation({"model": "m", "file": FILE, **fields}, Media(LIMIT))


def written(events: tuple[Event, ...] = EVENTS, **fields: Any) -> str:
    writer = read(**fields).writer(HEAD)
    return (b"".join(writer.write(event, 0) for event in events) + writer.end()).decode()


def test_the_least_request() -> None:
    ask = read()
    assert ask.jobs == (Transcribe(audio=Sound(data=b"sound", media_type="audio/wav")),)
    assert (ask.model, ask.stream, ask.prompt) == ("m", False, "prompt")
    assert translate().jobs == (Translate(audio=Sound(data=b"sound", media_type="audio/wav")),)


@pytest.mark.parametrize(
    "fields",
    [
        {"language": "de", "prompt": "Names: Ümit", "temperature": 0.5, "vad_filter": True},
        {
            "language": Written("de"),
            "prompt": Written("Names: Ümit"),
            "temperature": Written("0.5"),
            "vad_filter": Written("1"),
        },
    ],
)
def test_all_fields_as_json_and_as_a_form_writes_them(fields: dict[str, Any]) -> None:
    (job,) = read(**fields, response_format="verbose_json", timestamp_granularities=["word", "segment"]).jobs
    assert (job.language, job.prompt, job.temperature, job.words, job.vad) == ("de", "Names: Ümit", 0.5, True, True)


def test_temperature_0_is_raised_where_need_be_as_none_is() -> None:
    given: dict[str, Any]
    for given in ({}, {"temperature": 0}, {"temperature": Written("0")}):
        assert read(**given).jobs[0].temperature is None


@pytest.mark.parametrize("text", [b64encode(b"sound").decode(), "data:audio/mpeg;base64,c291bmQ="])
def test_a_file_in_json_is_base64_or_a_data_url(text: str) -> None:
    assert read(file=text).jobs[0].audio.data == b"sound"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"file": None}, "file"),
        ({"file": Upload(data=b"")}, "file"),
        ({"file": [FILE, FILE]}, "file"),
        ({"file": Written("a.wav")}, "file"),
        ({"file": 5}, "file"),
        ({"file": {"data": "x"}}, "file"),
        ({"file": "no base64!"}, "file"),
        ({"file": ""}, "file"),
        ({"file": "data:audio/wav,raw"}, "file"),
        ({"model": None}, "model"),
        ({"model": 5}, "model"),
        ({"response_format": "xml"}, "response_format"),
        ({"response_format": "diarized_json"}, "response_format"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"language": 5}, "language"),
        ({"prompt": ["x"]}, "prompt"),
        ({"prompt": "x" * 100_001}, "prompt"),
        ({"temperature": 1.5}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": Written("warm")}, "temperature"),
        ({"temperature": Written("nan")}, "temperature"),
        ({"timestamp_granularities": ["word"]}, "timestamp_granularities"),
        ({"timestamp_granularities": ["letter"], "response_format": "verbose_json"}, "timestamp_granularities"),
        ({"stream": "perhaps"}, "stream"),
        ({"stream": True, "response_format": "srt"}, "stream"),
        ({"stream": True, "response_format": "vtt"}, "stream"),
        ({"include": ["logprobs"]}, "include"),
        ({"include[]": ["logprobs"]}, "include[]"),
        ({"keywords": ["anyform"]}, "keywords"),
        ({"languages": ["de", "fr"]}, "languages"),
        ({"known_speaker_references": ["data:audio/wav;base64,AAAA"]}, "known_speaker_references"),
        ({"language": "x" * 41}, "language"),
        ({"language": "d\ne"}, "language"),
        ({"language": "\x00"}, "language"),
        ({"file": Written("https://a.example/b.wav")}, "file"),
        ({"file": "https://a.example/b.wav"}, "file"),
        ({"file": "file:///etc/passwd"}, "file"),
        ({"file": "/etc/passwd"}, "file"),
        ({"known_speaker_names": ["a"]}, "known_speaker_names"),
        ({"chunking_strategy": "never"}, "chunking_strategy"),
        ({"chunking_strategy": {"type": "server_vad", "threshold": 0.5}}, "chunking_strategy"),
        ({"chunking_strategy": Written('{"type": "server_vad", "threshold": 0.5}')}, "chunking_strategy"),
        ({"chunking_strategy": Written('{"type": "server_vad"')}, "chunking_strategy"),
        ({"chunking_strategy": Written('{"a": ' * 100_000)}, "chunking_strategy"),
        ({"chunking_strategy[type]": Written("never")}, "chunking_strategy"),
        (
            {"chunking_strategy[type]": Written("server_vad"), "chunking_strategy[threshold]": Written("0.5")},
            "chunking_strategy",
        ),
        ({"chunking_strategy[threshold]": Written("0.5")}, "chunking_strategy"),
    ],
)
def test_what_is_refused_names_the_field(fields: Mapping[str, Any], param: str) -> None:
    with pytest.raises(Fault) as caught:
        read(**fields)
    assert caught.value.details["param"] == param
    assert fault.status(caught.value) == 400


@pytest.mark.parametrize("file", [Upload(data=b"x" * 101), b64encode(b"x" * 105).decode()])
def test_a_file_over_the_limit_is_too_large(file: Any) -> None:
    with pytest.raises(TooLarge) as caught:
        read(file=file)
    assert caught.value.details == {"param": "file", "limit": LIMIT}


@pytest.mark.parametrize(
    "spelling",
    [
        {"chunking_strategy": {"type": "server_vad"}},
        {"chunking_strategy": "server_vad"},
        {"chunking_strategy": Written('{"type": "server_vad"}')},
        {"chunking_strategy": Written(' {"type":"server_vad"}\n')},
        {"chunking_strategy[type]": Written("server_vad")},
        {"chunking_strategy": Written("auto"), "chunking_strategy[type]": Written("server_vad")},
    ],
)
def test_a_detector_of_voices_may_be_asked_for(spelling: dict[str, Any]) -> None:
    assert read(**spelling).jobs[0].vad


@pytest.mark.parametrize("given", ["auto", Written("auto"), None])
def test_how_it_is_cut_may_be_left_to_the_server(given: str | None) -> None:
    assert not read(chunking_strategy=given).jobs[0].vad


def test_words_of_a_translation_are_refused() -> None:
    with pytest.raises(Invalid, match="translation"):
        translate(response_format="verbose_json", timestamp_granularities=["word"])
    assert translate(response_format="verbose_json", timestamp_granularities=["segment"]).jobs


@pytest.mark.parametrize(
    ("wanted", "param"),
    [
        ({"vad_filter": True}, "vad_filter"),
        ({"vad_filter": Written("true")}, "vad_filter"),
        ({"chunking_strategy": {"type": "server_vad"}}, "chunking_strategy"),
        ({"vad_filter": 3}, "vad_filter"),
    ],
)
def test_a_translation_has_no_detector_of_voices(wanted: dict[str, Any], param: str) -> None:
    with pytest.raises(Fault) as caught:
        translate(**wanted)
    assert (caught.value.details["param"], fault.status(caught.value)) == (param, 400)
    assert translate(vad_filter=Written("false"), chunking_strategy="auto").jobs


@pytest.mark.parametrize("spelling", ["timestamp_granularities", "timestamp_granularities[]"])
@pytest.mark.parametrize("wanted", ["word", ["word"], [Written("word"), Written("segment")]])
def test_granularities_are_spelt_in_two_ways(spelling: str, wanted: Any) -> None:
    assert read(response_format="verbose_json", **{spelling: wanted}).jobs[0].words


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9) | st.just(FILE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = (
    "model file language prompt response_format temperature timestamp_granularities stream include vad_filter "
    "chunking_strategy chunking_strategy[type] known_speaker_names"
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES.split()), JSON, max_size=5))
def test_any_body_is_an_ask_or_a_fault_that_names_a_field(body: dict[str, Any]) -> None:
    for reader in (transcription.read, transcription.read_translation):
        try:
            assert reader({"model": "m", "file": FILE, **body}, Media(LIMIT)).jobs
        except Fault as refusal:
            assert isinstance(refusal.details["param"], str)  # noqa: PT017 - no fault is right, too


def test_json() -> None:
    assert json.loads(written()) == {"text": TEXT, "usage": {"type": "duration", "seconds": 3663}}


def test_text() -> None:
    assert written(response_format="text") == TEXT + "\n"


def test_srt() -> None:
    assert written(response_format="srt") == (
        "1\n00:00:00,500 --> 00:00:01,500\nWho goes?\n\n"
        "2\n01:01:01,250 --> 01:01:02,000\nI -> <me> & you \N{EM DASH} 日本\n\n"
    )


def test_vtt() -> None:
    assert written(response_format="vtt") == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:01.500\nWho goes?\n\n"
        "01:01:01.250 --> 01:01:02.000\nI -&gt; &lt;me&gt; &amp; you \N{EM DASH} 日本\n\n"
    )


def test_verbose_json_has_segments_with_openais_fields() -> None:
    said = json.loads(written(response_format="verbose_json"))
    assert {name: said[name] for name in ("task", "language", "duration", "text")} == {
        "task": "transcribe", "language": "english", "duration": 3662.4, "text": TEXT,
    }  # fmt: skip
    first, second = said["segments"]
    assert first == {"id": 0, "start": 0.5, "end": 1.5, "text": " Who goes?", **KNOWN, "no_speech_prob": 0.01}
    assert (second["id"], second["tokens"], second["avg_logprob"]) == (1, [], 0.0)
    assert "words" not in said


def test_verbose_json_has_what_was_asked_for() -> None:
    alone = json.loads(written(response_format="verbose_json", timestamp_granularities=["word"]))
    assert alone["words"] == [{"word": "Who", "start": 0.5, "end": 0.9}, {"word": "goes?", "start": 0.9, "end": 1.5}]
    assert "segments" not in alone
    both = json.loads(written(response_format="verbose_json", timestamp_granularities=["word", "segment"]))
    assert both["words"] == alone["words"]
    assert len(both["segments"]) == 2


@pytest.mark.parametrize("form", transcription.FORMATS)
def test_silence_is_an_answer_in_every_format(form: str) -> None:
    said = written((Progress(stage="audio"), DONE), response_format=form)
    if form.endswith("json"):
        assert json.loads(said)["text"] == ""
    else:
        assert said == {"text": "\n", "srt": "", "vtt": "WEBVTT\n\n"}[form]


@pytest.mark.parametrize("form", transcription.FORMATS)
def test_a_translation_has_every_format(form: str) -> None:
    writer = translate(response_format=form).writer(HEAD)
    said = (b"".join(writer.write(event, 0) for event in EVENTS) + writer.end()).decode()
    whole = written(response_format=form)
    assert said == whole.replace('"transcribe"', '"translate"')
    assert (said == whole) is (form != "verbose_json")


def test_media_types() -> None:
    kinds = [read(response_format=form).writer(HEAD).media_type.partition(";")[0] for form in transcription.FORMATS]
    assert kinds == ["application/json", "text/plain", "text/plain", "text/vtt", "application/json"]


def events_of(stream: str) -> list[dict[str, Any]]:
    return [json.loads(part.removeprefix("data: ")) for part in stream.split("\n\n") if part]


def test_a_streams_deltas_make_up_its_text() -> None:
    *deltas, done = events_of(written(stream=True))
    assert [delta["type"] for delta in deltas] == ["transcript.text.delta"] * 2
    assert done["type"] == "transcript.text.done"
    assert "".join(delta["delta"] for delta in deltas) == done["text"] == TEXT
    assert done["usage"] == {"type": "tokens", "input_tokens": 4, "output_tokens": 9, "total_tokens": 13}


def test_a_verbose_streams_events_have_times() -> None:
    wanted: dict[str, Any] = {"response_format": "verbose_json", "timestamp_granularities": ["word", "segment"]}
    *parts, done = events_of(written(stream=True, **wanted))
    assert [part["type"] for part in parts] == ["transcript.text.delta", "transcript.text.segment"] * 2
    assert "".join(part["delta"] for part in parts[::2]) == done["text"] == TEXT
    whole = json.loads(written(**wanted))
    assert done["usage"]["type"] == "tokens"
    for name, value in whole.items():
        assert name == "usage" or done[name] == value
    assert [(part["id"], part["start"], part["end"], part["text"]) for part in parts[1::2]] == [
        (str(one["id"]), one["start"], one["end"], one["text"]) for one in whole["segments"]
    ]
    assert [word for part in parts[1::2] for word in part["words"]] == whole["words"]
    assert "words" not in events_of(written(stream=True, response_format="verbose_json"))[1]


def test_space_at_the_end_of_a_segment_comes_with_the_next() -> None:
    texts = (" one ", "  ", "two ", " three", " ")
    segments = tuple(Segment(text=text, start=0.0, end=1.0) for text in texts)
    *deltas, done = events_of(written((*segments, DONE), stream=True))
    assert [delta["delta"] for delta in deltas] == ["one", "   two", "  three"]
    assert done["text"] == "".join(texts).strip()
