"""What measures speech: its clients against a server that holds back, its ratios, and the models that it writes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from anyform.http import form
from anyform.http.fields import Upload
from anyform.testing import kokoro
from anyform.testing.whisper import voice, wave_file

np = pytest.importorskip("numpy")

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def speech(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import speech

    return speech


@pytest.fixture
def voices(monkeypatch: pytest.MonkeyPatch) -> Any:
    """With a small shape."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import voices

    for name, value in {"WIDTH": 16, "LAYERS": 1, "HEADS": 2, "TOKENS": 2100, "SIDE": 8}.items():
        monkeypatch.setattr(voices, name, value)
    return voices


class Answers(BaseHTTPRequestHandler):
    """Says what it was sent; of a long text only the first sound comes until it is let."""

    protocol_version = "HTTP/1.1"
    let = threading.Event()

    def do_POST(self) -> None:
        data, kind = self.rfile.read(int(self.headers["content-length"])), self.headers["content-type"]
        if self.path == "/v1/audio/transcriptions":
            fields = form.parse(data, kind)
            self._whole(json.dumps({"text": f"{fields['model']} {len(fields['file'].data)}"}).encode())
            return
        asked = json.loads(data)
        if asked["input"] == "refuse":
            self._whole(b"no", 400)
            return
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self._piece(bytes(100 if asked["input"] == "short" else 5000))
        if asked["input"] == "long":
            self.let.wait(20)
        self.wfile.write(b"0\r\n\r\n")

    def do_GET(self) -> None:
        self._whole(b'{"models": [{"active": 0}]}')

    def _piece(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def _whole(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def port() -> Iterator[int]:
    Answers.let.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port
        Answers.let.set()
        server.shutdown()


def test_the_form_is_one(speech: Any) -> None:
    body, kind = speech.form({"model": "m", "language": "en"}, b"RIFF\r\n--b\0")
    assert form.parse(body, kind) == {
        "model": "m",
        "language": "en",
        "file": Upload(data=b"RIFF\r\n--b\0", filename="a.wav", media_type="audio/wav"),
    }


def test_clients_are_answered_one_by_one_and_together(speech: Any, port: int) -> None:
    client = speech.Client(port, "m")
    assert [client.hear(b"x" * size) for size in (1, 70_000)] == ["m 1", "m 70000"]
    assert speech.crowd(port, "m", 5, b"xyz") > 0


def test_the_first_sound_does_not_wait_for_the_last(speech: Any, port: int) -> None:
    client = speech.Client(port, "m")
    assert client.first("long", "pcm") > 0
    assert not Answers.let.is_set()
    assert len(client.spoken("enough")) == 5000


def test_too_little_sound_and_refusals_end_the_run(speech: Any, port: int) -> None:
    client = speech.Client(port, "m")
    with pytest.raises(SystemExit, match="only 100 bytes"):
        client.first("short", "pcm")
    with pytest.raises(SystemExit, match="the server answered 400: no"):
        client.spoken("refuse")


def test_both_sides_take_turns(speech: Any) -> None:
    asked: list[str] = []

    def side(name: str, seconds: float) -> Any:
        return lambda: asked.append(name) or seconds

    rounds = speech.turns(3, side("ours", 2.0), side("peer", 4.0))
    assert asked == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert [one.ratio for one in rounds] == [0.5] * 3


def test_what_is_wanted_is_both_speed_and_sameness(speech: Any) -> None:
    def made(ratios: list[float], same: bool = True) -> Any:
        return speech.Comparison("x", tuple(speech.Round(ratio, 1.0) for ratio in ratios), 1.05, same)

    assert made([1.2, 1.04, 0.9]).met
    assert not made([1.2, 1.06, 0.9]).met
    assert not made([1.0], same=False).met
    assert made([1.04]).as_dict()["ratio"] == 1.04


def test_the_text_has_twenty_sentences(speech: Any) -> None:
    from anyform.sound import sentence

    assert len(sentence.split(" ".join(speech.TEXT.split()), 400)) == 20


@pytest.mark.engine
def test_the_whisper_says_sixty_words_of_each_window(voices: Any, tmp_path: Path) -> None:
    whisper = pytest.importorskip("faster_whisper")
    model = whisper.WhisperModel(str(voices.whisper("int8", tmp_path)), device="cpu", local_files_only=True)
    said, _ = model.transcribe(
        BytesIO(wave_file(voice(60))), language="en", temperature=0, condition_on_previous_text=False
    )
    assert [(round(one.start), len(one.tokens)) for one in said] == [(0, voices.WORDS + 1), (30, voices.WORDS + 1)]
    assert [path.name for path in tmp_path.iterdir()] == ["whisper-random-base-int8"]


@pytest.mark.engine
def test_what_speaks_computes_more_and_says_the_same(voices: Any, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    loaded, plain = voices.speaker(tmp_path, steps=2), kokoro.write_kokoro(tmp_path / "plain", voices=("af_heart",))
    given = {
        "tokens": np.array([[0, 50, 60, 70, 0]]),
        "style": np.array([kokoro.style("af_heart")[:256]], np.float32).reshape(1, 256),
        "speed": np.ones(1, np.float32),
    }
    sounds = [
        onnxruntime.InferenceSession(folder / "kokoro-v1.0.onnx").run(["audio"], given)[0] for folder in (loaded, plain)
    ]
    assert np.array_equal(*sounds)
    assert len((loaded / "kokoro-v1.0.onnx").read_bytes()) > len((plain / "kokoro-v1.0.onnx").read_bytes())
