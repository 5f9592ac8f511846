"""Text to speech with the openai package against a real server over the echo engine, whose words are tones."""

from __future__ import annotations

import json
import struct
import sys
import threading
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from anyform.builtin import echo_speech
from anyform.contract.errors import EngineMissing, Fault
from anyform.contract.events import Blob, Done, Event, Progress
from anyform.contract.jobs import Job
from anyform.contract.model import Stop
from anyform.sound.encode import FORMATS, MEDIA_TYPES

ROUTE = "/v1/audio/speech"
VOICES = "/v1/audio/voices"
TEXT = "One two three. Four five! Six?"
CODED = [form for form in FORMATS if form not in ("wav", "pcm")]
FRAMES = {"mp3": 576, "opus": 960, "aac": 1024, "flac": 0, "wav": 0}
"""Samples of a frame, at the rate of echo; 48,000 for opus."""
SOUND = Blob(data=struct.pack("<480h", *range(480)), media_type="audio/pcm", extra={"sample_rate": 24_000})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("speakers")
    models: dict[str, dict[str, Any]] = {
        "speaker": {"tasks": ["speak"]},
        "slow-speaker": {"tasks": ["speak"], "options": {"delay_s": 0.02}},
        "curt": {"tasks": ["speak"], "context": 4},
        "chatter": {"tasks": ["chat"]},
    }
    for name, model in models.items():
        (root / f"{name}.echo.json").write_text(json.dumps({"format": "echo", **model}))
    return root


def said(text: str = TEXT, voice: str = "alto", speed: float = 1.0) -> bytes:
    """What echo says, as PCM."""
    return b"".join(echo_speech.spoken(words, voice, speed) for words in echo_speech.sentences(text))


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "speaker", "input": TEXT, "voice": "alto", **fields}


def decoded(data: bytes) -> tuple[int, int, int]:
    """(samples, samples a second, channels) that PyAV reads."""
    av = pytest.importorskip("av")
    samples = rate = channels = 0
    with av.open(BytesIO(data)) as container:
        for frame in container.decode(audio=0):
            samples, rate, channels = samples + frame.samples, frame.sample_rate, frame.layout.nb_channels
    return samples, rate, channels


def events(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.headers["content-type"].startswith("text/event-stream")
    return [json.loads(line.removeprefix("data: ")) for line in response.text.split("\n\n") if line]


def test_speech(client: OpenAI) -> None:
    answer = client.audio.speech.create(model="speaker", input=TEXT, voice="alto", response_format="pcm")
    assert answer.content == said()
    assert answer.response.headers["content-type"] == "audio/pcm"


def test_voice_and_speed(client: OpenAI) -> None:
    answer = client.audio.speech.create(model="speaker", input=TEXT, voice="bass", speed=2, response_format="pcm")
    assert answer.content == said(voice="bass", speed=2)
    assert len(answer.content) * 2 == len(said())


def test_a_voice_as_an_object_and_one_of_a_language(client: OpenAI, http: httpx.Client) -> None:
    answer = client.audio.speech.create(model="speaker", input=TEXT, voice={"id": "tenor"}, response_format="pcm")
    assert answer.content == said(voice="tenor")
    spoken = http.post(ROUTE, json={"model": "speaker", "input": TEXT, "language": "de", "response_format": "pcm"})
    assert spoken.content == said(voice="tenor")


def test_a_form_does_too(http: httpx.Client) -> None:
    fields = {"model": "speaker", "input": TEXT, "speed": "2", "response_format": "pcm"}
    assert http.post(ROUTE, files=[(name, (None, value)) for name, value in fields.items()]).content == said(speed=2)


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "pcm"])
@pytest.mark.parametrize("whole", [False, True], ids=["streamed", "whole"])
def test_each_format_reads_back(client: OpenAI, form: Any, whole: bool) -> None:
    pytest.importorskip("av")
    asked: dict[str, Any] = {"extra_body": {"stream": False}} if whole else {}
    answer = client.audio.speech.create(model="speaker", input=TEXT, voice="alto", response_format=form, **asked)
    headers = answer.response.headers
    assert headers["content-type"] == MEDIA_TYPES[form]
    assert ("content-length" in headers) is whole
    samples, rate, channels = decoded(answer.content)
    assert (rate, channels) == (48_000 if form == "opus" else 24_000, 1)
    over = samples - len(said()) // 2 * rate // 24_000
    if form == "aac":  # which cannot say that it begins with silence
        over -= FRAMES[form]
    elif form == "mp3" and not whole:  # nor can this, before its end is known
        over -= 1105
    assert 0 <= over <= FRAMES[form]


def test_mp3_is_the_usual_format(client: OpenAI) -> None:
    pytest.importorskip("av")
    answer = client.audio.speech.create(model="speaker", input=TEXT, voice="alto")
    assert answer.response.headers["content-type"] == "audio/mpeg"


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
@pytest.mark.parametrize("form", ["wav", "mp3", "flac"])
def test_another_sample_rate(http: httpx.Client, form: str, rate: int) -> None:
    pytest.importorskip("av")
    answer = http.post(ROUTE, json=body(response_format=form, sample_rate=rate, stream=False))
    samples, read, _ = decoded(answer.content)
    assert (samples, read) == (len(said()) // 2 * rate // 24_000, rate)


def test_a_wav_says_its_length_when_it_is_whole(http: httpx.Client) -> None:
    streamed = http.post(ROUTE, json=body(response_format="wav")).content
    whole = http.post(ROUTE, json=body(response_format="wav", stream=False)).content
    assert streamed[44:] == whole[44:] == said()
    assert struct.unpack("<I", streamed[40:44]) == (0xFFFFFFFF,)
    assert struct.unpack("<I", whole[40:44]) == (len(said()),)
    assert struct.unpack("<I", whole[4:8]) == (len(whole) - 8,)


def test_a_stream_joined_is_the_whole(client: OpenAI) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="speaker", input=TEXT, voice="alto", response_format="pcm"
    ) as response:
        assert b"".join(response.iter_bytes()) == said()


def test_openais_events(client: OpenAI) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="speaker", input=TEXT, voice="alto", response_format="pcm", stream_format="sse"
    ) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        sent = [json.loads(line.removeprefix("data: ")) for line in response.iter_lines() if line]
    *deltas, last = sent
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    assert len(deltas) == 3  # one a sentence
    assert b"".join(b64decode(event["audio"]) for event in deltas) == said()
    assert last == {
        "type": "speech.audio.done",
        "usage": {"input_tokens": 6, "output_tokens": 0, "total_tokens": 6},
    }


def test_openais_events_carry_any_format(http: httpx.Client) -> None:
    pytest.importorskip("av")
    *deltas, _ = events(http.post(ROUTE, json=body(response_format="flac", stream_format="sse")))
    assert decoded(b"".join(b64decode(event["audio"]) for event in deltas))[0] == len(said()) // 2


def test_the_runtimes_own_events(http: httpx.Client) -> None:
    *audio, last = events(http.post(ROUTE, json=body(stream=True)))
    assert {(event["type"], event["format"], event["sample_rate"]) for event in audio} == {("audio", "pcm", 24_000)}
    assert b"".join(b64decode(event["data"]) for event in audio) == said()
    assert last == {"type": "done", "duration": 0.6}


def test_the_runtimes_own_events_carry_any_format(http: httpx.Client) -> None:
    pytest.importorskip("av")
    *audio, last = events(http.post(ROUTE, json=body(stream=True, response_format="opus")))
    assert {(event["format"], event["sample_rate"]) for event in audio} == {("opus", 48_000)}
    assert decoded(b"".join(b64decode(event["data"]) for event in audio))[0] == len(said())
    assert last["duration"] == 0.6


def test_no_event_is_a_long_line(http: httpx.Client) -> None:
    long = " ".join(["word"] * 20)
    *audio, _ = events(http.post(ROUTE, json=body(input=long, stream=True)))
    assert b"".join(b64decode(event["data"]) for event in audio) == said(long)
    assert max(len(event["data"]) for event in audio) <= 32 * 1024


def test_a_stream_format_goes_before_stream(http: httpx.Client) -> None:
    plain = http.post(ROUTE, json=body(stream=True, stream_format="audio", response_format="pcm"))
    assert plain.content == said()
    told = http.post(ROUTE, json=body(stream=True, stream_format="sse", response_format="pcm"))
    assert events(told)[-1]["type"] == "speech.audio.done"


def test_the_first_sentence_leaves_before_the_second_is_made(scripted: Any) -> None:
    heard = threading.Event()

    def script(job: Job, stop: Stop) -> Iterator[Event]:
        yield Progress(stage="text", total=2)
        yield SOUND
        assert heard.wait(20)
        yield SOUND
        yield Done()

    running = scripted(script)
    for form in ("pcm", "wav"):
        heard.clear()
        with running.http.stream("POST", ROUTE, json=body(model="m", response_format=form)) as response:
            pieces = response.iter_bytes()
            first = next(pieces)
            heard.set()
            rest = b"".join(pieces)
        assert first.endswith(SOUND.data)
        assert rest == SOUND.data


def test_a_codec_lets_the_first_sentence_go_too(scripted: Any) -> None:
    pytest.importorskip("av")
    heard = threading.Event()
    second = Blob(data=said("one"), media_type="audio/pcm", extra={"sample_rate": 24_000})

    def script(job: Job, stop: Stop) -> Iterator[Event]:
        yield Progress(stage="text", total=2)
        yield Blob(data=said(), media_type="audio/pcm", extra={"sample_rate": 24_000})
        assert heard.wait(20)
        yield second
        yield Done()

    running = scripted(script)
    for form in CODED:
        heard.clear()
        with running.http.stream("POST", ROUTE, json=body(model="m", response_format=form)) as response:
            pieces = response.iter_bytes()
            first = next(pieces)
            heard.set()
            rest = b"".join(pieces)
        early, rate, _ = decoded(first)
        assert early >= (len(said()) // 2 - 4800) * rate / 24_000, form  # but for 0.2 s that the codec keeps
        assert decoded(first + rest)[0] - early >= 2400 * rate / 24_000


@pytest.mark.parametrize("rate", [16_000, 22_050])
def test_pcm_has_the_rate_that_clients_expect(scripted: Any, rate: int) -> None:
    pytest.importorskip("av")

    def script(job: Job, stop: Stop) -> Iterator[Event]:
        yield Blob(data=bytes(2 * rate), media_type="audio/pcm", extra={"sample_rate": rate})
        yield Done()

    running = scripted(script)
    assert len(running.http.post(ROUTE, json=body(model="m", response_format="pcm")).content) == 48_000
    wave = running.http.post(ROUTE, json=body(model="m", response_format="wav")).content
    assert (len(wave) - 44, struct.unpack("<I", wave[24:28])) == (2 * rate, (rate,))


def test_a_fault_before_the_first_sound_has_a_status(scripted: Any) -> None:
    def script(job: Job, stop: Stop) -> Iterator[Event]:
        yield Progress(stage="text", total=1)
        raise EngineMissing("no phonemes.", "pip install some.")

    running = scripted(script)
    for fields in ({}, {"stream": False}):
        answer = running.http.post(ROUTE, json=body(model="m", response_format="pcm", **fields))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_missing")


def test_what_cannot_speak_is_told_so_before_what_is_not_installed(http: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    for model, status, code in (
        ("chatter", 400, "unsupported"),
        ("nobody", 404, "model_not_found"),
        ("speaker", 503, "engine_missing"),
    ):
        answer = http.post(ROUTE, json=body(model=model))
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        if model == "chatter":
            assert "chatter does chat, not speak." in answer.json()["error"]["message"]
            assert answer.json()["error"]["suggestions"]


def test_a_fault_after_it_is_seen(scripted: Any) -> None:
    def script(job: Job, stop: Stop) -> Iterator[Event]:
        yield Progress(stage="text", total=2)
        yield SOUND
        raise Fault("the second sentence broke.")

    running = scripted(script)
    with running.http.stream("POST", ROUTE, json=body(model="m", response_format="pcm")) as response:
        assert response.status_code == 200
        pieces = response.iter_raw()
        assert next(pieces) == SOUND.data
        with pytest.raises(httpx.RemoteProtocolError):
            next(pieces)
    for fields in ({"stream": True}, {"stream_format": "sse"}):
        *_, last = events(running.http.post(ROUTE, json=body(model="m", **{"response_format": "pcm", **fields})))
        assert last["error"]["message"] == "the second sentence broke."
        assert last["type"] == "error"
    whole = running.http.post(ROUTE, json=body(model="m", response_format="pcm", stream=False))
    assert whole.status_code == 500


def test_who_hangs_up_ends_it(scripted: Any) -> None:
    ended = threading.Event()

    def script(job: Job, stop: Stop) -> Iterator[Event]:
        try:
            yield Progress(stage="text", total=2)
            while not stop.is_set():
                yield SOUND
            yield Done()
        finally:
            ended.set()

    running = scripted(script, parallel=1)
    for fields in ({"response_format": "pcm"}, {"stream": True}):
        ended.clear()
        with running.http.stream("POST", ROUTE, json=body(model="m", **fields)) as response:
            next(response.iter_bytes())
        assert ended.wait(20)


def test_a_worker_ends_it_too(http: httpx.Client) -> None:
    long = "word. " * 5000
    with http.stream("POST", ROUTE, json=body(model="slow-speaker", input=long[:20_000], stream=True)) as response:
        assert next(response.iter_lines()).startswith('data: {"type":"audio"')
    quick = http.post(ROUTE, json=body(model="slow-speaker", input="short", response_format="pcm"))
    assert quick.content == said("short")


def test_many_at_once(client: OpenAI) -> None:
    def one(at: int) -> bytes:
        text = f"Client {at} says. Good bye."
        return client.audio.speech.create(model="speaker", input=text, voice="bass", response_format="pcm").content

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(one, range(16))) == [said(f"Client {at} says. Good bye.", "bass") for at in range(16)]


BAD: list[tuple[str, dict[str, Any], int, str]] = [
    ("no input", {"input": None}, 400, "input"),
    ("an empty input", {"input": ""}, 400, "input"),
    ("an input of blanks", {"input": " \n\t "}, 400, "input"),
    ("an input that is a list", {"input": ["a"]}, 400, "input"),
    ("an input over the context", {"model": "curt", "input": "one two three four five"}, 400, "input"),
    ("a text of 1 MB", {"input": "word " * 200_000}, 413, "input"),
    ("no model", {"model": None}, 400, "model"),
    ("an unknown voice", {"voice": "nobody"}, 400, "voice"),
    ("a voice that is a number", {"voice": 3}, 400, "voice"),
    ("a voice without an id", {"voice": {}}, 400, "voice.id"),
    ("an unknown format", {"response_format": "ogg"}, 400, "response_format"),
    ("an unknown stream format", {"stream_format": "websocket"}, 400, "stream_format"),
    ("events that are not streamed", {"stream_format": "sse", "stream": False}, 400, "stream"),
    ("a stream that is no boolean", {"stream": "yes"}, 400, "stream"),
    ("a speed of 0", {"speed": 0}, 400, "speed"),
    ("a negative speed", {"speed": -1}, 400, "speed"),
    ("a speed that the model has not", {"speed": 3}, 400, "speed"),
    ("a speed that is text", {"speed": "fast"}, 400, "speed"),
    ("a sample rate of 0", {"sample_rate": 0}, 400, "sample_rate"),
    ("a sample rate of half", {"sample_rate": 12.5}, 400, "sample_rate"),
    ("a sample rate that Opus has not", {"response_format": "opus", "sample_rate": 44_100}, 400, "sample_rate"),
    ("a language that it does not speak", {"voice": None, "language": "tlh"}, 400, "language"),
    ("instructions", {"instructions": "Whisper."}, 400, "instructions"),
]


@pytest.mark.parametrize(("fields", "status", "param"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_bad_input_is_a_4xx_in_openais_form(
    http: httpx.Client, fields: dict[str, Any], status: int, param: str
) -> None:
    given = {name: value for name, value in body(**{"response_format": "pcm", **fields}).items() if value is not None}
    answer = http.post(ROUTE, json=given)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["type"]) == (status, param, "invalid_request_error"), error
    assert error["message"]
    assert error["code"]


def test_not_a_number_is_no_json(http: httpx.Client) -> None:
    given = json.dumps(body(speed=float("nan")))
    answer = http.post(ROUTE, content=given, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


def test_the_limit_of_letters_is_the_operators(serve: Any, server: Any) -> None:
    small = serve(server.runtime, speech_letters=10)
    assert small.http.post(ROUTE, json=body(input="ten letter", response_format="pcm")).status_code == 200
    answer = small.http.post(ROUTE, json=body(input="ten letters", response_format="pcm"))
    assert (answer.status_code, answer.json()["error"]["param"]) == (413, "input")
    assert "speech_letters" in answer.json()["error"]["message"]


def test_models_that_do_not_speak_are_a_400_that_names_those_that_do(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="curt, slow-speaker, speaker"):
        client.audio.speech.create(model="chatter", input="Hello.", voice="alto", response_format="wav")
    with pytest.raises(openai.NotFoundError):
        client.audio.speech.create(model="nobody", input="Hello.", voice="alto", response_format="wav")


def test_without_pyav_what_needs_it_is_refused(monkeypatch: pytest.MonkeyPatch, serve: Any, server: Any) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    running = serve(server.runtime)
    for form in CODED:
        answer = running.http.post(ROUTE, json=body(response_format=form))
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (503, "engine_missing")
        assert "pip install av" in error["message"]
    for form in ("wav", "pcm"):
        assert running.http.post(ROUTE, json=body(response_format=form)).content.endswith(said())


def test_voices(http: httpx.Client) -> None:
    answer = http.get(VOICES).json()
    assert answer["object"] == "list"
    alto = {"id": "alto", "name": "Alto (American)", "language": "en-US", "model": "speaker"}
    assert alto in answer["data"]
    assert {voice["model"] for voice in answer["data"]} == {"speaker", "slow-speaker", "curt"}
    only = http.get(VOICES, params={"model": "speaker"}).json()["data"]
    assert [(voice["id"], voice["model"]) for voice in only] == [
        ("alto", "speaker"),
        ("bass", "speaker"),
        ("tenor", "speaker"),
    ]


@pytest.mark.parametrize(("language", "expected"), [("en", ["alto", "bass"]), ("en-gb", ["bass"]), ("fr", [])])
def test_voices_of_a_language(http: httpx.Client, language: str, expected: list[str]) -> None:
    for model in ({}, {"model": "speaker"}):
        told = http.get(VOICES, params={"language": language, **model}).json()["data"]
        assert [voice["id"] for voice in told if voice["model"] == "speaker"] == expected


@pytest.mark.parametrize("fields", [{"speed": 0}, {"speed": 3}, {"voice": "nobody"}, {"language": "tlh"}])
def test_a_value_that_cannot_be_has_one_code(http: httpx.Client, fields: dict[str, Any]) -> None:
    given = {"model": "speaker", "input": TEXT, "response_format": "pcm", **fields}
    assert http.post(ROUTE, json=given).json()["error"]["code"] == "invalid_value"


def test_voices_load_nothing(serve: Any, folder: Path, tmp_path: Path) -> None:
    from anyform.assembly import start

    runtime = start(folders=[folder], where="here", state=tmp_path)
    try:
        assert serve(runtime).http.get(VOICES).status_code == 200
        assert runtime.loaded() == []
    finally:
        runtime.close()


def test_voices_of_who_has_none(http: httpx.Client) -> None:
    silent = http.get(VOICES, params={"model": "chatter"})
    assert (silent.status_code, silent.json()["error"]["param"]) == (400, "model")
    assert "speaker" in silent.json()["error"]["message"]
    assert http.get(VOICES, params={"model": "nobody"}).status_code == 404


def test_what_was_spoken_is_counted(http: httpx.Client) -> None:
    http.post(ROUTE, json=body(response_format="pcm"))
    told = http.get("/metrics").text
    labels = 'backend="echo",model="speaker"'
    counts = {line.rpartition(" ")[0]: line.rpartition(" ")[2] for line in told.splitlines()}
    asked = [name for name in counts if name.startswith("anyform_requests_total") and f'route="{ROUTE}"' in name]
    assert any('outcome="ok"' in name and 'model="speaker"' in name for name in asked)
    assert float(counts[f"anyform_first_token_seconds_count{{{labels}}}"]) >= 1
