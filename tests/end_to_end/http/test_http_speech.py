"""Speech to text with the openai package against a real server over the echo engine, which hears UTF-8."""

from __future__ import annotations

import json
import os
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from anyform.assembly import start
from anyform.contract.errors import Fault
from anyform.contract.events import Done, Event, Progress, Segment
from anyform.contract.jobs import Job
from anyform.contract.model import Stop
from anyform.http.config import HttpConfig
from anyform.http.fetch import Fetcher
from anyform.http.web import Web

SAID = b"one two three\nfour five"
FILE: Any = ("speech.wav", SAID, "audio/wav")
ROUTES = ("/v1/audio/transcriptions", "/v1/audio/translations")


def form(**fields: str) -> dict[str, str]:
    return {"model": "hearer", **fields}


def texts(**fields: str) -> dict[str, Any]:
    """A multipart form without a file."""
    return {name: (None, value) for name, value in form(**fields).items()}


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


def test_a_verbose_stream_has_times(client: OpenAI) -> None:
    create: Any = client.audio.transcriptions.create
    wanted: dict[str, Any] = {"response_format": "verbose_json", "timestamp_granularities": ["word", "segment"]}
    whole = create(model="hearer", file=FILE, **wanted)
    *parts, done = create(model="hearer", file=FILE, stream=True, **wanted)
    assert [part.type for part in parts] == ["transcript.text.delta", "transcript.text.segment"] * 2
    assert [(part.start, part.end, part.text) for part in parts[1::2]] == [
        (one.start, one.end, one.text) for one in whole.segments
    ]
    assert (done.text, done.duration, done.language) == (whole.text, whole.duration, whole.language)
    assert done.words == [word.to_dict() for word in whole.words]


def test_a_stream_flows_while_the_rest_is_still_decoded(scripted: Callable[..., Any]) -> None:
    """The second segment is only made once the first was read."""
    read = threading.Event()

    def script(job: Job, stop: Stop) -> Iterator[Event]:
        yield Progress(stage="audio", total=2)
        yield Segment(text=" one", start=0.0, end=1.0)
        assert read.wait(20)
        yield Segment(text=" two", start=1.0, end=2.0)
        yield Done(extra={"duration": 2.0})

    running = scripted(script)
    with running.openai.audio.transcriptions.create(model="m", file=FILE, stream=True) as stream:
        assert next(stream).delta == "one"
        read.set()
        assert [event.type for event in stream] == ["transcript.text.delta", "transcript.text.done"]


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


class Sounds(BaseHTTPRequestHandler):
    """Answers with a sound, a page, or with another place."""

    def do_GET(self) -> None:
        self.send_response(302 if self.path == "/moved" else 404 if self.path == "/absent" else 200)
        self.send_header("location", "http://inside.test/")
        self.send_header("content-type", "text/html" if self.path == "/page" else "audio/wav")
        self.end_headers()
        self.wfile.write(bytes(HttpConfig().media_bytes + 1) if self.path == "/large" else SAID)

    def log_message(self, format: str, *args: Any) -> None: ...


async def _resolve(host: str, port: int) -> list[str]:
    return ["127.0.0.1"] if host == "sounds.test" else ["10.0.0.1"]


@pytest.fixture
def elsewhere(server: Any) -> Iterator[str]:
    """Where sounds are, for a server that may fetch from there as if it were a public place."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Sounds) as there:
        threading.Thread(target=there.serve_forever, args=(0.01,), daemon=True).start()
        service, host = server.service, f"sounds.test:{there.server_port}"
        web = Web((host, "inside.test"), 20, _resolve, lambda address: address == "127.0.0.1")
        before, service.fetcher = service.fetcher, Fetcher(service.config, service.threads, web)
        yield f"http://{host}"
        service.fetcher = before
        there.shutdown()


def error(response: httpx.Response, status: int = 400) -> dict[str, Any]:
    assert response.status_code == status, response.text
    found: dict[str, Any] = response.json()["error"]
    assert found["param"] == "file"
    return found


@pytest.mark.parametrize("route", ROUTES)
def test_a_sound_is_fetched_where_that_is_allowed(http: httpx.Client, elsewhere: str, route: str) -> None:
    url = f"{elsewhere}/a.wav"
    assert http.post(route, json={"model": "hearer", "file": url}).json()["text"] == "one two three four five"
    assert http.post(route, files=texts(file=url)).json()["text"] == "one two three four five"
    streamed = http.post(route, json={"model": "hearer", "file": url, "stream": True}).text
    assert json.loads(streamed.split("data: ")[-1])["text"] == "one two three four five"


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/absent", 400, "the server answered 404"),
        ("/page", 400, "it is 'text/html', no sound"),
        ("/moved", 400, "'inside.test' has no public address"),
        ("/large", 413, f"holds more than {HttpConfig().media_bytes} bytes"),
    ],
)
def test_a_sound_that_cannot_be_fetched(http: httpx.Client, elsewhere: str, path: str, status: int, words: str) -> None:
    refused = error(http.post(ROUTES[0], json={"model": "hearer", "file": elsewhere + path}), status)
    assert words in refused["message"]
    assert refused["code"] in ("invalid_audio_url", "invalid_value", "too_large")


def test_nothing_is_fetched_or_read_by_default(http: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(SAID)
    for place in ("http://127.0.0.1/a.wav", "https://example.com/a.wav", "file:///etc/passwd", f"{tmp_path}/a.wav"):
        for asked in ({"json": {"model": "hearer", "file": place}}, {"files": texts(file=place)}):
            refused = error(http.post(ROUTES[0], **asked))  # type: ignore[arg-type]
            assert "nothing is fetched" in refused["message"] or "-F file=@NAME" in refused["message"]


def test_a_server_that_may_fetch_sounds_goes_to_no_private_address(serve: Any, server: Any) -> None:
    running = serve(server.runtime, fetch=True)
    for host in [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "169.254.169.254",
        "10.0.0.1",
        "2130706433",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
    ]:
        refused = error(running.http.post(ROUTES[0], json={"model": "hearer", "file": f"http://{host}/a.wav"}))
        assert "no public address" in refused["message"] or refused["code"] == "invalid_audio_url"
    own = running.http.post(ROUTES[0], json={"model": "hearer", "file": f"{running.url}/health"})
    assert "nothing is fetched from" in error(own)["message"]


def test_sounds_of_a_folder_that_is_allowed(serve: Any, server: Any, tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "a b.wav").write_bytes(SAID)
    (allowed / "empty").touch()
    (allowed / "large").write_bytes(b"x" * 2000)
    (tmp_path / "secret").write_bytes(SAID)
    (allowed / "link").symlink_to(tmp_path / "secret")
    (allowed / "up").symlink_to(tmp_path)
    http = serve(server.runtime, media_folders=(allowed,), media_bytes=1000).http

    def ask(place: str) -> httpx.Response:
        return http.post(ROUTES[0], json={"model": "hearer", "file": place})  # type: ignore[no-any-return]

    for place in (f"{allowed}/a b.wav", (allowed / "a b.wav").as_uri()):
        assert ask(place).json()["text"] == "one two three four five"
        assert http.post(ROUTES[1], files=texts(file=place)).json()["text"] == "one two three four five"
    outside = [f"{allowed}/link", f"{allowed}/up/secret", f"{allowed}/../secret", f"file://{allowed}/%2e%2e/secret"]
    if hasattr(os, "mkfifo"):
        os.mkfifo(allowed / "pipe")
        outside.append(f"{allowed}/pipe")
    for place in (
        *outside,
        f"{tmp_path}/secret",
        "/etc/passwd",
        "file:///etc/passwd",
        "/dev/zero",
        f"{allowed}/absent",
    ):
        assert "there is no sound" in error(ask(place))["message"]
    assert "holds more than 1000 bytes" in error(ask(f"{allowed}/large"), 413)["message"]
    assert "is empty" in error(ask(f"{allowed}/empty"))["message"]


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
    ("logprobs", form(**{"include[]": "logprobs"}), {"file": FILE}, "include"),
    ("keywords", form(**{"keywords[]": "anyform"}), {"file": FILE}, "keywords"),
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


@pytest.mark.parametrize("default", ["", "speaker"])
def test_who_names_no_model_means_the_one_that_hears(serve: Any, tmp_path: Path, default: str) -> None:
    for name, tasks in (("speaker", ["speak"]), ("only", ["transcribe", "translate"])):
        (tmp_path / f"{name}.echo.json").write_text(json.dumps({"format": "echo", "tasks": tasks}))
    with closing(start(folders=[tmp_path], where="here", state=tmp_path)) as runtime:
        http = serve(runtime, default_model=default).http
        for route in ROUTES:
            assert http.post(route, files={"file": FILE}).json()["text"] == "one two three four five"


def test_of_several_that_hear_one_is_to_be_named(http: httpx.Client) -> None:
    refused = http.post(ROUTES[0], files={"file": FILE}).json()["error"]
    assert (refused["code"], refused["param"]) == ("missing_required_parameter", "model")
    assert "hearer" in refused["message"]
    assert "chatter" not in refused["message"]


def test_a_fault_within_events_has_a_type(scripted: Any) -> None:
    def script(job: Job, stop: Stop) -> Iterator[Event]:
        yield Segment(start=0.0, end=1.0, text="one")
        raise Fault("the second window broke.")

    told = scripted(script).http.post(ROUTES[0], data={"model": "m", "stream": "true"}, files={"file": FILE}).text
    last = json.loads(told.strip().rpartition("data: ")[2])
    assert (last["type"], last["error"]["message"]) == ("error", "the second window broke.")


def test_a_file_that_is_too_large_names_the_setting(scripted: Any) -> None:
    http = scripted(lambda job, stop: iter([Done()]), media_bytes=2 * 1024**2, body_bytes=3 * 1024**2).http
    for size, limit, name in ((2, 2, "media_bytes"), (4, 3, "body_bytes")):
        file = ("a.wav", bytes(size * 1024**2 + 1))
        refused = http.post(ROUTES[0], data={"model": "m"}, files={"file": file})
        assert refused.status_code == 413
        assert f"at most {limit} MiB, or raise the server's {name}" in refused.json()["error"]["message"]
