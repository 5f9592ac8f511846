"""Speech to text with the openai package against a real server over the echo engine, which hears UTF-8."""

from __future__ import annotations

from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

SAID = b"one two three\nfour five"
FILE: Any = ("speech.wav", SAID, "audio/wav")
ROUTES = ("/v1/audio/transcriptions", "/v1/audio/translations")


def form(**fields: str) -> dict[str, str]:
    return {"model": "hearer", **fields}


def test_a_transcription(client: OpenAI) -> None:
    answer = client.audio.transcriptions.create(model="hearer", file=FILE)
    assert answer.text == "one two three four five"
    assert answer.usage is not None
    assert answer.usage.to_dict() == {"type": "duration", "seconds": 5}


def test_a_translation(client: OpenAI) -> None:
    assert client.audio.translations.create(model="hearer", file=FILE).text == "one two three four five"
    verbose: Any = client.audio.translations.create(model="hearer", file=FILE, response_format="verbose_json")
    assert (verbose.task, verbose.language, verbose.duration) == ("translate", "en", 5.0)


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ("text", "one two three four five\n"),
        ("srt", "1\n00:00:00,000 --> 00:00:03,000\none two three\n\n2\n00:00:03,000 --> 00:00:05,000\nfour five\n\n"),
        (
            "vtt",
            "WEBVTT\n\n00:00:00.000 --> 00:00:03.000\none two three\n\n00:00:03.000 --> 00:00:05.000\nfour five\n\n",
        ),
    ],
)
def test_formats_that_are_text(client: OpenAI, wanted: Any, text: str) -> None:
    assert client.audio.transcriptions.create(model="hearer", file=FILE, response_format=wanted) == text


def test_words_and_segments(client: OpenAI) -> None:
    answer = client.audio.transcriptions.create(
        model="hearer",
        file=FILE,
        language="de",
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert (answer.language, answer.duration, answer.text) == ("de", 5.0, "one two three four five")
    assert [(word.word, word.start, word.end) for word in answer.words or ()][3:] == [
        ("four", 3.0, 4.0),
        ("five", 4.0, 5.0),
    ]
    assert [(part.id, part.text, part.start) for part in answer.segments or ()] == [
        (0, " one two three", 0.0),
        (1, " four five", 3.0),
    ]


def test_a_transcription_streams(client: OpenAI) -> None:
    stream = client.audio.transcriptions.create(model="hearer", file=FILE, stream=True)
    events: list[Any] = list(stream)
    assert [event.type for event in events] == ["transcript.text.delta"] * 2 + ["transcript.text.done"]
    assert [event.delta for event in events[:2]] == ["one two three", " four five"]
    assert events[2].text == "one two three four five"
    assert events[2].usage.output_tokens == 5


def test_json_with_base64(http: httpx.Client) -> None:
    body = {"model": "hearer", "file": b64encode(SAID).decode(), "response_format": "json"}
    for route in ROUTES:
        assert http.post(route, json=body).json()["text"] == "one two three four five"


def test_a_stream_that_is_hung_up_on_ends(http: httpx.Client) -> None:
    file = {"file": ("a.wav", b"word " * 20 + b"\n" + b"word " * 5000)}
    fields = {"model": "slow-hearer", "stream": "true"}
    with http.stream("POST", ROUTES[0], data=fields, files=file) as response:
        assert response.status_code == 200
        assert next(response.iter_lines()).startswith('data: {"type":"transcript.text.delta"')
    quick = http.post(ROUTES[0], data={"model": "slow-hearer"}, files={"file": ("a.wav", b"short")}, timeout=20)
    assert quick.json()["text"] == "short"


def test_many_at_once(client: OpenAI) -> None:
    def one(at: int) -> str:
        sound = f"client {at}".encode()
        return client.audio.transcriptions.create(model="hearer", file=("a.wav", sound)).text

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(one, range(16))) == [f"client {at}" for at in range(16)]


BAD: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("no file", form(), {"other": ("a", b"b")}, "file"),
    ("an empty file", form(), {"file": ("a.wav", b"")}, "file"),
    ("two files", form(), [("file", ("a.wav", b"a")), ("file", ("b.wav", b"b"))], "file"),  # type: ignore[list-item]
    ("what the model does not hear", form(), {"file": ("a.wav", b"\xff\xfe")}, "file"),
    ("an unknown format", form(response_format="doc"), {"file": FILE}, "response_format"),
    ("speakers", form(response_format="diarized_json"), {"file": FILE}, "response_format"),
    ("a temperature of 3", form(temperature="3"), {"file": FILE}, "temperature"),
    ("a temperature that is no number", form(temperature="hot"), {"file": FILE}, "temperature"),
    (
        "words without verbose_json",
        form(**{"timestamp_granularities[]": "word"}),
        {"file": FILE},
        "timestamp_granularities",
    ),
    (
        "an unknown granularity",
        form(response_format="verbose_json", **{"timestamp_granularities[]": "syllable"}),
        {"file": FILE},
        "timestamp_granularities",
    ),
    ("subtitles streamed", form(stream="true", response_format="vtt"), {"file": FILE}, "stream"),
    ("a stream that is no boolean", form(stream="maybe"), {"file": FILE}, "stream"),
    ("a prompt over the context", form(prompt="word " * 5000), {"file": FILE}, "prompt"),
]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(("fields", "files", "param"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_bad_input_is_a_400_in_openais_form(
    http: httpx.Client, route: str, fields: dict[str, Any], files: Any, param: str
) -> None:
    answer = http.post(route, data=fields, files=files)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["type"]) == (400, param, "invalid_request_error"), error
    assert error["message"]
    assert error["code"]


def test_a_file_over_the_limit_is_a_413(serve: Any, server: Any) -> None:
    small = serve(server.runtime, media_bytes=1000)
    answer = small.http.post(ROUTES[0], data=form(), files={"file": ("a.wav", b"x" * 1001)})
    assert (answer.status_code, answer.json()["error"]["param"]) == (413, "file")


def test_models_that_do_not_hear_are_a_400(client: OpenAI, http: httpx.Client) -> None:
    with pytest.raises(openai.BadRequestError, match="hearer"):
        client.audio.transcriptions.create(model="chatter", file=FILE)
    assert http.post(ROUTES[1], data={"model": "slow-hearer"}, files={"file": FILE}).status_code == 400
    with pytest.raises(openai.NotFoundError):
        client.audio.transcriptions.create(model="nobody", file=FILE)
    assert http.post(ROUTES[0], data={}, files={"file": FILE}).json()["error"]["param"] == "model"
