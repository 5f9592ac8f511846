"""Speech over a WebSocket with the websockets package, against a real server over the echo engine."""

from __future__ import annotations

import json
import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from anyform.assembly import start
from anyform.builtin import echo_speech
from anyform.contract.errors import Fault, Invalid
from anyform.contract.events import Blob, Done, Event, Progress
from anyform.contract.jobs import Job, Speak
from anyform.contract.model import Stop
from anyform.http import speechsocket

PATH = "/v1/audio/speech/stream"
TEXT = "One two three. Four five! Six?"
SOUND = Blob(data=struct.pack("<480h", *range(480)), media_type="audio/pcm", extra={"sample_rate": 24_000})

Opened = AbstractContextManager[ClientConnection]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("speakers")
    models: dict[str, dict[str, Any]] = {
        "speaker": {"tasks": ["speak"]},
        "slow-speaker": {"tasks": ["speak"], "options": {"delay_s": 0.02}},
        "chatter": {"tasks": ["chat"]},
    }
    for name, model in models.items():
        (root / f"{name}.echo.json").write_text(json.dumps({"format": "echo", **model}))
    return root


@pytest.fixture
def alone(tmp_path: Path, serve: Any) -> Iterator[Callable[..., Any]]:
    """Starts a server over one model that speaks and one that does not."""
    for name, tasks in (("only", ["speak"]), ("chatter", ["chat"])):
        (tmp_path / f"{name}.echo.json").write_text(json.dumps({"format": "echo", "tasks": tasks}))
    runtime = start(folders=[tmp_path], where="here", state=tmp_path)
    yield lambda **config: serve(runtime, **config)
    runtime.close()


def said(text: str = TEXT, voice: str = "alto", speed: float = 1.0) -> bytes:
    """What echo says, as PCM."""
    return b"".join(echo_speech.spoken(words, voice, speed) for words in echo_speech.sentences(text))


def opened(running: Any, query: str = "model=speaker", **options: Any) -> Opened:
    url = f"ws{running.url.removeprefix('http')}{PATH}?{query}"
    return connect(url, **{"open_timeout": 20, "close_timeout": 20, **options})


def tell(line: ClientConnection, **message: Any) -> None:
    line.send(json.dumps(message))


def told(line: ClientConnection) -> tuple[bytes, dict[str, Any]]:
    """Sound up to the next message that is text, and that."""
    sound = b""
    while isinstance(message := line.recv(20), bytes):
        assert 0 < len(message) <= 32 * 1024
        sound += message
    return sound, json.loads(message)


def ended(line: ClientConnection) -> tuple[dict[str, Any], int]:
    """The error that is said last, and the code of the close after it."""
    _, last = told(line)
    assert last["type"] == "error"
    with pytest.raises(ConnectionClosed) as closed:
        line.recv(20)
    assert closed.value.rcvd is not None
    return last["error"], closed.value.rcvd.code


def test_speech(server: Any) -> None:
    with opened(server) as line:
        tell(line, text=TEXT, final=True)
        assert told(line) == (said(), {"type": "done", "duration": 0.6})


def test_text_in_pieces_is_spoken_as_it_is_whole(server: Any) -> None:
    with opened(server, "model=speaker&voice=bass") as line:
        for letter in TEXT:
            tell(line, text=letter)
        tell(line, final=True)
        assert told(line) == (said(voice="bass"), {"type": "done", "duration": 0.6})


def test_a_sentence_is_spoken_before_the_next_one_comes(server: Any) -> None:
    with opened(server) as line:
        sound = b""
        tell(line, text="One two three. Fo")
        while len(sound) < len(said("One two three.")):
            sound += line.recv(20)  # type: ignore[operator]
        assert sound == said("One two three.")
        tell(line, text="ur five!\n")
        while len(sound) < len(said("One two three. Four five!")):
            sound += line.recv(20)  # type: ignore[operator]
        tell(line, text="Six?", final=True)
        rest, last = told(line)
        assert (sound + rest, last["duration"]) == (said(), 0.6)


def test_several_one_after_another(server: Any) -> None:
    with opened(server) as line:
        for text in ("One. Two.", "Three?", TEXT):
            tell(line, text=text)
            tell(line, final=True)
            sound, last = told(line)
            assert sound == said(text)
            assert last == {"type": "done", "duration": pytest.approx(len(sound) / 48_000)}


def test_several_before_the_first_is_spoken(server: Any) -> None:
    texts = ("One. Two.", "Three?", TEXT)
    with opened(server) as line:
        for text in texts:
            tell(line, text=text, final=True)
        assert [told(line)[0] for _ in texts] == [said(text) for text in texts]


def test_speed(server: Any) -> None:
    with opened(server, "model=speaker&speed=2") as line:
        tell(line, text="One two. ")
        tell(line, text="Three four. ", speed=0.5)
        tell(line, text="Five.", final=True)
        sound, last = told(line)
        assert sound == said("One two.", speed=2) + said("Three four. Five.", speed=0.5)
        assert last["duration"] == pytest.approx(0.1 + 0.6)
        tell(line, text="Six.", final=True)
        assert told(line)[0] == said("Six.", speed=2)


def test_another_sample_rate(server: Any) -> None:
    pytest.importorskip("av")
    with opened(server, "model=speaker&sample_rate=8000") as line:
        tell(line, text=TEXT, final=True)
        sound, last = told(line)
        assert (len(sound), last["duration"]) == (len(said()) // 3, 0.6)


@pytest.mark.parametrize("form", ["mp3", "opus", "aac", "flac", "wav"])
def test_each_format_is_a_file_of_its_own(server: Any, form: str) -> None:
    av = pytest.importorskip("av")
    with opened(server, f"model=speaker&response_format={form}") as line:
        for text in (TEXT, "Again."):
            tell(line, text=text, final=True)
            sound, last = told(line)
            with av.open(BytesIO(sound)) as container:
                frames = list(container.decode(audio=0))
            heard = sum(frame.samples for frame in frames) / frames[0].sample_rate
            assert last["duration"] == pytest.approx(len(said(text)) / 48_000)
            assert 0 <= heard - last["duration"] < 0.1


def test_closing_cancels(scripted: Any) -> None:
    gone = threading.Event()

    def script(job: Job, stop: Stop) -> Iterator[Event]:
        try:
            yield Progress(stage="text", total=1)
            while not stop.is_set():
                yield SOUND
            yield Done()
        finally:
            gone.set()

    running = scripted(script, parallel=1)
    with opened(running, "model=m") as line:
        tell(line, text="Go on.", final=True)
        assert isinstance(line.recv(20), bytes)
    assert gone.wait(20)


def test_closing_cancels_in_a_worker(server: Any) -> None:
    with opened(server, "model=slow-speaker") as line:
        tell(line, text="word. " * 3000, final=True)
        assert isinstance(line.recv(20), bytes)
    with opened(server, "model=slow-speaker") as line:
        tell(line, text="short", final=True)
        assert told(line)[0] == said("short")


def test_who_vanishes_is_cancelled_too(scripted: Any) -> None:
    gone = threading.Event()

    def script(job: Job, stop: Stop) -> Iterator[Event]:
        yield Progress(stage="text", total=1)
        while not stop.wait(0.001):
            yield SOUND
        gone.set()
        yield Done()

    running = scripted(script, parallel=1)
    line = opened(running, "model=m").__enter__()
    tell(line, text="Go on.", final=True)
    assert isinstance(line.recv(20), bytes)
    line.socket.close()
    assert gone.wait(20)


def test_who_takes_nothing_is_cancelled(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speechsocket, "STALLED_S", 0.1)
    monkeypatch.setattr(speechsocket, "LAST_S", 0.1)
    gone = threading.Event()

    def script(job: Job, stop: Stop) -> Iterator[Event]:
        yield Progress(stage="text", total=1)
        while not stop.is_set():
            yield Blob(data=bytes(2**20), media_type="audio/pcm", extra={"sample_rate": 24_000})
        gone.set()
        yield Done()

    with opened(scripted(script, parallel=1), "model=m", close_timeout=0.1) as line:
        tell(line, text="Go on.", final=True)
        assert gone.wait(20)


def test_sixteen_at_once(server: Any) -> None:
    def one(at: int) -> tuple[bytes, dict[str, Any]]:
        with opened(server, "model=speaker&voice=tenor") as line:
            tell(line, text=f"Client {at} says. ")
            tell(line, text="Good bye.", final=True)
            return told(line)

    with ThreadPoolExecutor(16) as pool:
        for at, (sound, last) in enumerate(pool.map(one, range(16))):
            assert (sound, last["type"]) == (said(f"Client {at} says. Good bye.", "tenor"), "done")


def until_closed(act: Callable[[], Any]) -> int | None:
    """The code with which the server closes while *act* is done again and again; None: it only hung up."""
    while True:
        try:
            act()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None


QUERIES = [
    ("an unknown model", "model=nobody", "model_not_found", 1008, None),
    ("a path", "model=../etc/passwd", "model_not_found", 1008, None),
    ("an unknown format", "model=speaker&response_format=ogg", "invalid_value", 1008, "response_format"),
    ("a sample rate of 1", "model=speaker&sample_rate=1", "invalid_value", 1008, "sample_rate"),
    ("a sample rate of text", "model=speaker&sample_rate=high", "invalid_type", 1008, "sample_rate"),
    ("a speed of 0", "model=speaker&speed=0", "invalid_value", 1008, "speed"),
    ("a speed that is not a number", "model=speaker&speed=nan", "invalid_type", 1008, "speed"),
    ("a speed that it has not", "model=speaker&speed=3", "invalid_value", 1008, "speed"),
    ("a voice that it has not", "model=speaker&voice=nobody", "invalid_value", 1008, "voice"),
    ("a blend with one", "model=speaker&voice=alto(2)%2Bnobody(1)", "invalid_value", 1008, "voice"),
    ("a model that does not speak", "model=chatter", "unsupported", 1008, "model"),
    ("instructions", "model=speaker&instructions=Whisper", "unsupported_parameter", 1008, "instructions"),
    ("no model where several speak", "voice=alto", "missing_required_parameter", 1008, "model"),
]


@pytest.mark.parametrize(
    ("query", "kind", "code", "param"), [query[1:] for query in QUERIES], ids=[query[0] for query in QUERIES]
)
def test_a_bad_query_is_told(server: Any, query: str, kind: str, code: int, param: str | None) -> None:
    with opened(server, query) as line:
        error, closed = ended(line)
    assert (error["code"], error["param"], closed) == (kind, param, code)
    assert error["message"]


MESSAGES: list[tuple[str, str | bytes, str, int, str | None]] = [
    ("no JSON", "Hello.", "invalid_json", 1007, None),
    ("a list", '["Hello."]', "invalid_json", 1007, None),
    ("not a number", '{"text": "a", "speed": NaN}', "invalid_json", 1007, None),
    ("half of a surrogate pair", '{"text": "\\ud800"}', "invalid_json", 1007, None),
    ("a binary message", b"\x00\x01", "not_text", 1003, None),
    ("no text", '{"speed": 1}', "missing_required_parameter", 1008, "text"),
    ("text that is a number", '{"text": 3}', "invalid_type", 1008, "text"),
    ("an end that is text", '{"text": "a", "final": "yes"}', "invalid_type", 1008, "final"),
    ("a speed of 0", '{"text": "a", "speed": 0}', "invalid_value", 1008, "speed"),
    ("a speed that it has not", '{"text": "a.", "speed": 9, "final": true}', "invalid_value", 1008, "speed"),
    ("more than 1 MiB", json.dumps({"text": " " * 2**20}), "too_large", 1009, None),
    ("too much text", json.dumps({"text": "word " * 20_000}), "too_large", 1009, "text"),
]


@pytest.mark.parametrize(
    ("message", "kind", "code", "param"), [one[1:] for one in MESSAGES], ids=[one[0] for one in MESSAGES]
)
def test_a_bad_message_is_told(server: Any, message: str | bytes, kind: str, code: int, param: str | None) -> None:
    with opened(server) as line:
        line.send(message)
        error, closed = ended(line)
    assert (error["code"], error["param"], closed) == (kind, param, code)
    assert error["message"]


def test_an_unknown_voice_and_a_model_that_does_not_speak(server: Any) -> None:
    for query, param, said in (("model=speaker&voice=nobody", "voice", "alto"), ("model=chatter", "model", "speaker")):
        with opened(server, query) as line:
            error, closed = ended(line)
        assert (error["param"], closed) == (param, 1008)
        assert said in error["message"]


def test_a_voice_is_refused_before_the_model_is_loaded(alone: Any) -> None:
    running = alone()
    with opened(running, "voice=nobody") as line:
        assert ended(line)[0]["param"] == "voice"
    assert running.runtime.loaded() == []


NOTHING = [{"final": True}, {"text": "", "final": True}, {"text": " \n", "final": True}]


@pytest.mark.parametrize("message", NOTHING, ids=["no text", "empty", "blanks"])
def test_an_end_of_nothing_is_answered(server: Any, message: dict[str, Any]) -> None:
    with opened(server, "model=speaker&response_format=wav") as line:
        tell(line, **message)
        assert told(line) == (b"", {"type": "done", "duration": 0})
        tell(line, text=TEXT, final=True)
        tell(line, **message)
        assert told(line)[1] == {"type": "done", "duration": 0.6}
        assert told(line) == (b"", {"type": "done", "duration": 0})


@pytest.mark.parametrize(
    "bad", ["no JSON", b"\x00", '{"text": 3}', '{"text": "a", "speed": 9}', json.dumps({"text": " " * 2**20})]
)
def test_what_came_before_a_bad_message_is_spoken(server: Any, bad: str | bytes) -> None:
    with opened(server, "model=slow-speaker") as line:
        tell(line, text=TEXT, final=True)
        tell(line, text="Again. And")
        line.send(bad)
        tell(line, text="Never.", final=True)
        assert told(line) == (said(), {"type": "done", "duration": 0.6})
        sound, last = told(line)
        assert (sound, last["type"]) == (said("Again."), "error")


def test_a_message_over_the_limit_of_bytes_closes(server: Any) -> None:
    with opened(server) as line:
        assert until_closed(lambda: tell(line, text=" " * 2_000_000)) in (None, 1009)  # or it has hung up before


def test_text_that_waits_is_bounded(scripted: Any) -> None:
    begun, go = threading.Event(), threading.Event()

    def script(job: Job, stop: Stop) -> Iterator[Event]:
        begun.set()
        assert go.wait(20)
        yield SOUND
        yield Done()

    with opened(scripted(script, speech_letters=20), "model=m") as line:
        tell(line, text="One.", final=True)
        assert begun.wait(20)
        for _ in range(3):
            tell(line, text="Two. Two.", final=True)
        go.set()
        for _ in range(3):
            assert told(line)[0] == SOUND.data
        error, closed = ended(line)
    assert (error["code"], error["param"], closed) == ("too_large", "text", 1009)
    assert "speech_letters" in error["message"]


def test_a_fault_of_the_model_is_told_after_the_sound(scripted: Any) -> None:
    def script(job: Job, stop: Stop) -> Iterator[Event]:
        yield SOUND
        raise Fault("the second sentence broke.")

    with opened(scripted(script), "model=m") as line:
        tell(line, text="One. Two.", final=True)
        assert line.recv(20) == SOUND.data
        error, closed = ended(line)
    assert (error["message"], closed) == ("the second sentence broke.", 1011)


def test_the_line_for_a_model_holds_for_sockets_too(scripted: Any) -> None:
    begun, go = threading.Event(), threading.Event()

    def script(job: Job, stop: Stop) -> Iterator[Event]:
        begun.set()
        assert go.wait(20)
        yield SOUND
        yield Done()

    running = scripted(script, parallel=1, queue=0)
    with opened(running, "model=m") as first, opened(running, "model=m") as second:
        tell(first, text="One.", final=True)
        assert begun.wait(20)
        tell(second, text="Two.", final=True)
        error, closed = ended(second)
        go.set()
        assert (error["code"], closed) == ("overloaded", 1013)
        assert told(first)[0] == SOUND.data


def test_sentences_that_wait_go_as_one_job(scripted: Any) -> None:
    begun, go, jobs = threading.Event(), threading.Event(), []

    def script(job: Job, stop: Stop) -> Iterator[Event]:
        assert isinstance(job, Speak)
        jobs.append(job.text)
        begun.set()
        assert go.wait(20)
        yield SOUND
        yield Done()

    with opened(scripted(script), "model=m") as line:
        tell(line, text="Dr. Who came. Then")
        assert begun.wait(20)
        tell(line, text=" he went. At 3.14 p.m. she\n\nTitle\nShe stayed. And")
        tell(line, text=" so on", final=True)
        go.set()
        told(line)
    assert jobs == ["Dr. Who came.", "Then he went.\nAt 3.14 p.m. she\n\nTitle\nShe stayed.\nAnd so on"]


def test_a_long_sentence_is_not_waited_for(server: Any) -> None:
    long = " ".join(["word"] * 300)  # 1,499 letters
    with opened(server) as line:
        for at in range(0, len(long), 10):
            tell(line, text=long[at : at + 10])
        sound = b""
        while len(sound) < len(said(long[:995])):
            sound += line.recv(20)  # type: ignore[operator]
        tell(line, final=True)
        assert sound + told(line)[0] == said(long)


def test_between_sentences_lies_what_the_model_leaves_there(scripted: Any) -> None:
    def script(job: Job, stop: Stop) -> Iterator[Event]:
        yield Progress(stage="text", total=1)
        yield SOUND
        yield Done(extra={"pauses": {"sentence": 0.25, "paragraph": 0.5}})

    with opened(scripted(script), "model=m&speed=2") as line:
        sound = b""
        for text, speed, pause_s in (("One. ", 1, 0), ("Two.\n", 1, 0.25), ("\nThree. ", 1, 0.5), ("Four. ", 2, 0.125)):
            tell(line, text=text, speed=speed)
            expected = bytes(round(pause_s * 48_000)) + SOUND.data
            while len(sound) < len(expected):
                sound += line.recv(20)  # type: ignore[operator]
            assert sound == expected
            sound = b""
        tell(line, final=True)
        told(line)
        tell(line, text="A new one. ")
        assert line.recv(20) == SOUND.data


def test_what_cannot_be_spoken_is_left_out(scripted: Any) -> None:
    def script(job: Job, stop: Stop) -> Iterator[Event]:
        assert isinstance(job, Speak)
        if not any(letter.isalpha() for letter in job.text):
            raise Invalid("the text has nothing that can be spoken.", "Send words.", param="input")
        yield SOUND
        yield Done()

    with opened(scripted(script), "model=m") as line:
        tell(line, text="***\n")
        tell(line, text="One.\n")
        assert line.recv(20) == SOUND.data
        tell(line, text="***", final=True)
        assert told(line) == (b"", {"type": "done", "duration": 0.02})
        tell(line, text="***", final=True)
        assert told(line) == (b"", {"type": "done", "duration": 0})
        tell(line, text="Two.", final=True)
        assert told(line)[0] == SOUND.data


def test_an_idle_socket_is_closed(alone: Any) -> None:
    running = alone()
    running.server.sockets.idle_s = 0.01
    with opened(running, "") as line:
        error, closed = ended(line)
    assert (error["code"], closed) == ("socket_idle", 1008)


def test_a_socket_that_speaks_is_not_idle(scripted: Any) -> None:
    go = threading.Event()

    def script(job: Job, stop: Stop) -> Iterator[Event]:
        yield SOUND
        assert go.wait(20)
        yield SOUND
        yield Done()

    running = scripted(script)
    running.server.sockets.idle_s = 1
    with opened(running, "model=m") as line:
        tell(line, text="One.", final=True)
        assert line.recv(20) == SOUND.data
        with opened(running, "model=m") as other:
            assert ended(other)[0]["code"] == "socket_idle"  # so it has been long enough
        go.set()
        assert told(line)[0] == SOUND.data
        assert ended(line)[0]["code"] == "socket_idle"


@pytest.mark.parametrize("default", ["", "chatter", "only", "nobody"])
def test_the_model_of_who_names_none(alone: Any, default: str) -> None:
    with opened(alone(default_model=default), "") as line:
        tell(line, text="Hello.", final=True)
        assert told(line)[0] == said("Hello.")


def test_nobody_speaks(serve: Any, tmp_path: Path) -> None:
    with closing(start(folders=[tmp_path], where="here", state=tmp_path)) as runtime, opened(serve(runtime), "") as one:
        error, closed = ended(one)
    assert (error["param"], closed) == ("model", 1008)
    assert "No model here speaks" in error["message"]


FOREIGN = ("https://evil.example", "http://127.0.0.1.evil.example", "null")


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("config", [{}, {"allowed_hosts": ("*",)}, {"cors_origins": ("https://good.example",)}])
def test_a_page_of_elsewhere_opens_none(alone: Any, origin: Any, config: dict[str, Any]) -> None:
    running = alone(**config)
    with pytest.raises(InvalidStatus) as refused, opened(running, "", origin=origin):
        pass
    assert refused.value.response.status_code == 403
    assert json.loads(refused.value.response.body or b"")["error"]["code"] == "refused"


def test_a_refusal_is_one_line_and_no_error(alone: Any, caplog: pytest.LogCaptureFixture) -> None:
    running = alone()
    with caplog.at_level(logging.INFO):
        with pytest.raises(InvalidStatus), opened(running, "", origin="https://evil.example"):  # type: ignore[arg-type]
            pass
        assert running.http.get("/v1/models", headers={"origin": "https://evil.example"}).status_code == 403
        with pytest.raises(InvalidStatus), opened(running, "", origin="null"):  # type: ignore[arg-type]
            pass
        running.close()
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []
    told = [record.getMessage() for record in caplog.records if record.name == "anyform.http"]
    assert [line.partition("]")[0] for line in told] == [f"[refused {PATH}", "[refused /v1/models", f"[refused {PATH}"]
    assert "cors_origins" in told[0]


def test_pages_that_may(alone: Any) -> None:
    good = "https://good.example"
    for config in ({"cors_origins": (good,)}, {"allowed_hosts": ("*",), "cors_origins": ("*",)}):
        with opened(alone(**config), "model=only", origin=good) as line:
            tell(line, text="Hello.", final=True)
            assert told(line)[0] == said("Hello.")
    running = alone()
    with opened(running, "model=only", origin=running.url) as line:
        tell(line, text="Hello.", final=True)
        assert told(line)[0] == said("Hello.")


def test_a_name_that_was_bound_to_this_address_is_refused(alone: Any) -> None:
    running = alone()
    host, port = running.url.removeprefix("http://").split(":")
    sock = socket.create_connection((host, int(port)), timeout=20)
    with pytest.raises(InvalidStatus) as refused, connect(f"ws://evil.example:{port}{PATH}", sock=sock):
        pass
    assert refused.value.response.status_code == 403


def test_what_was_spoken_is_counted(alone: Any) -> None:
    running = alone()
    with opened(running, "") as line:
        tell(line, text="Hello.", final=True)
        told(line)
        line.send("no json")
        ended(line)
    lines = [line for line in running.http.get("/metrics").text.splitlines() if f'route="{PATH}"' in line]
    counted = [line for line in lines if line.startswith("anyform_requests_total")]
    assert sorted(counted) == [
        f'anyform_requests_total{{backend="",model="",outcome="invalid_json",route="{PATH}"}} 1.0',
        f'anyform_requests_total{{backend="echo",model="only",outcome="ok",route="{PATH}"}} 1.0',
    ]


def test_the_end_of_the_server_ends_sockets(running: Any, tmp_path: Path) -> None:
    from anyform.http.config import HttpConfig

    (tmp_path / "only.echo.json").write_text(
        json.dumps({"format": "echo", "tasks": ["speak"], "options": {"delay_s": 0.02}})
    )
    runtime = start(folders=[tmp_path], where="here", state=tmp_path)
    server = running(runtime, HttpConfig(grace_s=0))
    with opened(server, "") as idle, opened(server, "") as busy:
        tell(busy, text="word. " * 3000, final=True)
        assert isinstance(busy.recv(20), bytes)
        server.close()
        for line in (idle, busy):
            error, closed = ended(line)
            assert (error["code"], closed) == ("closed", 1012)
    runtime.close()
