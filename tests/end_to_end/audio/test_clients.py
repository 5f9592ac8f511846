"""Sixteen clients at once, some to be written down and some to be spoken to: each gets what it gets alone."""

from __future__ import annotations

import random
from array import array
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from anyform.testing.ctranslate2 import write_ct2_whisper
from anyform.testing.kokoro import write_kokoro
from anyform.testing.whisper import voice, wave_file

pytest.importorskip("numpy")
pytest.importorskip("av")
pytest.importorskip("anyform_audio")
pytest.importorskip("faster_whisper")
pytest.importorskip("kokoro_onnx")
pytestmark = pytest.mark.engine

CLIENTS = 16
SOUNDS = [wave_file(voice(3 + place, seed=place)) for place in range(4)]
TEXTS = ["One. Two.", "Is it three? It is.", "Four, and more.", "At last: five!"]


@pytest.fixture(scope="module", params=[1, 4])
def server(request: pytest.FixtureRequest, served: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Both models, each of which does so many requests at once."""
    root = tmp_path_factory.mktemp("models")
    write_ct2_whisper(root / "whisper")
    write_kokoro(root / "kokoro")
    made = served(root, parallel=request.param)
    made.http.post("/runtime/load/whisper?fallback=false")
    assert made.loaded("whisper")["backend"] == "faster_whisper"
    return made


def ask(server: Any, kind: int, place: int) -> Any:
    """One of four kinds of request."""
    audio = server.openai.with_options(timeout=120).audio
    sound = {"model": "whisper", "file": ("a.wav", SOUNDS[place])}
    if kind == 0:
        return audio.transcriptions.create(**sound, response_format="verbose_json").to_dict()
    if kind == 1:
        return [event.to_dict() for event in audio.transcriptions.create(**sound, stream=True)]
    text = {"model": "kokoro", "voice": "af_heart", "input": TEXTS[place]}
    if kind == 2:
        return audio.speech.create(**text, response_format="wav").content
    with audio.speech.with_streaming_response.create(**text, response_format="pcm", speed=1.5) as answer:
        return b"".join(answer.iter_bytes())


def test_answers_are_those_that_each_gets_alone(server: Any) -> None:
    asked = [(place % 4, place // 4) for place in range(CLIENTS)]
    alone = [ask(server, *one) for one in asked]
    assert len({str(answer) for answer in alone}) == CLIENTS
    pids = [server.loaded(name)["pid"] for name in ("whisper", "kokoro")]
    with ThreadPoolExecutor(CLIENTS) as pool:
        for _ in range(2):
            assert list(pool.map(lambda one: ask(server, *one), asked)) == alone
    assert [server.loaded(name)["pid"] for name in ("whisper", "kokoro")] == pids


def test_a_stream_flows_while_the_rest_is_still_heard(server: Any) -> None:
    """Half an hour: the first text is there long before the last, and who hangs up then frees the place."""
    noise = random.Random(1).randbytes(2 * 1000 * 1800)
    long = ("a.wav", wave_file(array("f"), 1000)[:40] + len(noise).to_bytes(4, "little") + noise)
    with server.openai.audio.transcriptions.create(model="whisper", file=long, stream=True) as stream:
        assert next(stream).type == "transcript.text.delta"
        assert server.loaded("whisper")["active"] == 1
    assert ask(server, 0, 0)["text"]
