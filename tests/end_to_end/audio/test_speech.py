"""Speech over HTTP and WebSockets from a stand-in of Kokoro with its real engine and phonemizer, in a worker."""

from __future__ import annotations

import json
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from anyform.testing.kokoro import VOICES, write_kokoro

av = pytest.importorskip("av")
pytest.importorskip("anyform_audio")
pytest.importorskip("kokoro_onnx")
pytestmark = pytest.mark.engine

ROUTE = "/v1/audio/speech"
RATE = 24_000
TEXT = "One two three. Four, and five!\n\nSix? Dr. Seven is here."
FRAMES = {"mp3": 576, "opus": 960, "aac": 1024, "flac": 1, "wav": 1}
"""Samples of a frame, at the file's rate."""


@pytest.fixture(scope="module")
def server(served: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("models")
    write_kokoro(root / "kokoro")
    return served(root)


@pytest.fixture(scope="module")
def whole(server: Any) -> bytes:
    return said(server)


def said(server: Any, text: str = TEXT, **fields: Any) -> bytes:
    """PCM, unstreamed."""
    asked = {"model": "kokoro", "input": text, "voice": "af_heart", "stream": False, "response_format": "pcm"}
    answer = server.http.post(ROUTE, json={**asked, **fields})
    assert answer.status_code == 200, answer.text
    return bytes(answer.content)


def decoded(data: bytes) -> tuple[int, int, int]:
    """(samples, samples a second, channels)"""
    with av.open(BytesIO(data)) as container:
        frames = list(container.decode(audio=0))
    return sum(frame.samples for frame in frames), frames[0].sample_rate, frames[0].layout.nb_channels


@pytest.mark.parametrize("form", FRAMES)
def test_a_whole_file_is_as_long_as_the_pcm(server: Any, whole: bytes, form: Any) -> None:
    answer = server.openai.audio.speech.create(
        model="kokoro", input=TEXT, voice="af_heart", response_format=form, extra_body={"stream": False}
    )
    samples, rate, channels = decoded(answer.content)
    assert (rate, channels) == (48_000 if form == "opus" else RATE, 1)
    over = samples - len(whole) // 2 * rate // RATE
    silence = 1024 if form == "aac" else 0  # which it cannot say to be left out
    assert 0 <= over - silence < FRAMES[form]


@pytest.mark.parametrize("form", FRAMES)
def test_a_streamed_file_too(server: Any, whole: bytes, form: Any) -> None:
    with server.openai.audio.speech.with_streaming_response.create(
        model="kokoro", input=TEXT, voice="af_heart", response_format=form
    ) as response:
        samples, rate, channels = decoded(b"".join(response.iter_bytes()))
    assert (rate, channels) == (48_000 if form == "opus" else RATE, 1)
    over = samples - len(whole) // 2 * rate // RATE
    silence = {"mp3": 1105, "aac": 1024}.get(form, 0)
    assert 0 <= over - silence < FRAMES[form]


def test_streams_joined_are_the_whole(server: Any, whole: bytes) -> None:
    asked: dict[str, Any] = {"model": "kokoro", "input": TEXT, "voice": "af_heart", "response_format": "pcm"}
    speech = server.openai.audio.speech
    with speech.with_streaming_response.create(**asked) as response:
        assert b"".join(response.iter_bytes()) == whole
    with speech.with_streaming_response.create(**asked, stream_format="sse") as response:
        told = [json.loads(line.removeprefix("data: ")) for line in response.iter_lines() if line]
    assert b"".join(b64decode(one["audio"]) for one in told[:-1]) == whole
    assert told[-1]["type"] == "speech.audio.done"
    assert told[-1]["usage"]["input_tokens"] > 0
    own = server.http.post(ROUTE, json={**asked, "stream": True}).text.split("\n\n")
    told = [json.loads(line.removeprefix("data: ")) for line in own if line]
    assert b"".join(b64decode(one["data"]) for one in told[:-1]) == whole
    assert told[-1] == {"type": "done", "duration": pytest.approx(len(whole) / 2 / RATE, abs=1e-6)}


def test_voices_and_blends_sound_different(server: Any, whole: bytes) -> None:
    others = [said(server, voice=voice) for voice in (*VOICES[1:], "af_heart(2)+af_bella(1)")]
    assert len({whole, *others}) == len(VOICES) + 1
    assert said(server, voice={"id": "am_adam"}) == said(server, voice="am_adam")


def test_twice_the_speed_is_half_as_long(server: Any, whole: bytes) -> None:
    """But for the ends of sentences, which keep their length."""
    assert len(said(server, speed=2)) == pytest.approx(len(whole) / 2, rel=0.1)
    assert len(said(server, speed=0.5)) == pytest.approx(len(whole) * 2, rel=0.1)


def test_voices_are_listed(server: Any) -> None:
    listed = server.http.get("/v1/audio/voices", params={"model": "kokoro"}).json()["data"]
    assert {voice["id"] for voice in listed} == set(VOICES)
    heart = {"id": "af_heart", "name": "Heart (American Female)", "language": "en-US", "model": "kokoro"}
    assert heart in listed


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"voice": "nobody"}, "voice"),
        ({"voice": "af_heart(x)"}, "voice"),
        ({"speed": 0}, "speed"),
        ({"speed": 0.4}, "speed"),
        ({"speed": 2.5}, "speed"),
        ({"input": ""}, "input"),
        ({"input": "..."}, "input"),
        ({"input": "word " * 200_000}, "input"),
        ({"response_format": "ogg"}, "response_format"),
        ({"language": "tlh"}, "language"),
    ],
)
def test_bad_input_is_a_4xx_and_the_worker_lives(server: Any, whole: bytes, fields: Any, param: str) -> None:
    pid = server.loaded("kokoro")["pid"]
    for stream in (True, False):
        asked = {"model": "kokoro", "input": TEXT, "response_format": "pcm", "stream": stream, **fields}
        answer = server.http.post(ROUTE, json=asked)
        assert (answer.status_code // 100, answer.json()["error"]["param"]) == (4, param), answer.text
    assert said(server) == whole
    assert server.loaded("kokoro")["pid"] == pid


def opened(server: Any, query: str = "voice=af_heart") -> Any:
    return connect(f"ws{server.url.removeprefix('http')}{ROUTE}/stream?model=kokoro&{query}", open_timeout=60)


def told(line: Any) -> tuple[bytes, dict[str, Any]]:
    sound = b""
    while isinstance(message := line.recv(60), bytes):
        sound += message
    return sound, json.loads(message)


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("speed", [1, 1.5])
def test_a_socket_gives_the_same_sound_however_the_text_comes(server: Any, size: int, speed: float) -> None:
    with opened(server) as line:
        for at in range(0, len(TEXT), size):
            line.send(json.dumps({"text": TEXT[at : at + size], "speed": speed}))
        line.send(json.dumps({"final": True, "speed": speed}))
        sound, last = told(line)
    assert sound == said(server, speed=speed)
    assert last == {"type": "done", "duration": pytest.approx(len(sound) / 2 / RATE, abs=1e-6)}


def test_a_socket_that_waits_for_each_sentence_gives_it_too(server: Any, whole: bytes) -> None:
    """Each is a job of its own then; the pauses between them are as within one text."""
    sound = b""
    with opened(server) as line:
        for text in ("One two three. ", "Four, and five!\n\n", "Six? "):
            line.send(json.dumps({"text": text}))
            piece = line.recv(60)
            while len(sound + piece) < len(whole) and not sound_ends(whole, sound + piece):
                piece += line.recv(60)
            sound += piece
        line.send(json.dumps({"text": "Dr. Seven is here.", "final": True}))
        rest, _ = told(line)
    assert sound + rest == whole


def sound_ends(whole: bytes, sound: bytes) -> bool:
    """Whether a sentence ends there: a pause of 0.2 s follows."""
    return whole[len(sound) : len(sound) + 9600] == bytes(9600)


def test_closing_a_socket_frees_the_model(server: Any, whole: bytes) -> None:
    with opened(server) as line:
        line.send(json.dumps({"text": "This goes on and on. " * 500, "final": True}))
        assert isinstance(line.recv(60), bytes)
    assert said(server) == whole


def test_sixteen_at_once_over_both(server: Any) -> None:
    texts = [f"Client {at} says so. Good bye!" for at in range(8)]
    alone = [said(server, text) for text in texts]

    def socket(text: str) -> bytes:
        with opened(server) as line:
            line.send(json.dumps({"text": text, "final": True}))
            return told(line)[0]

    with ThreadPoolExecutor(16) as pool:
        over_sockets = [pool.submit(socket, text) for text in texts]
        over_http = [pool.submit(said, server, text) for text in texts]
        assert [one.result() for one in over_sockets] == alone
        assert [one.result() for one in over_http] == alone


def test_a_socket_is_told_at_once_what_is_wrong(server: Any) -> None:
    with opened(server, "voice=nobody") as line:
        sound, last = told(line)
        assert (sound, last["error"]["param"]) == (b"", "voice")
        with pytest.raises(ConnectionClosed):
            line.recv(60)


def test_a_stream_that_is_hung_up_on_ends(server: Any, whole: bytes) -> None:
    asked = {"model": "kokoro", "input": "This goes on and on. " * 500, "response_format": "pcm"}
    with server.http.stream("POST", ROUTE, json=asked) as response:
        next(response.iter_bytes())
    assert said(server) == whole
