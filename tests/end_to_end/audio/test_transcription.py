"""Speech to text with the openai package over the real faster-whisper in a worker, against that called directly."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.model import Stop
from anyform.testing.ctranslate2 import write_ct2_whisper
from anyform.testing.whisper import RATE, voice, wave_file, write_whisper

np = pytest.importorskip("numpy")
pytest.importorskip("av")
webvtt = pytest.importorskip("webvtt")
faster_whisper = pytest.importorskip("faster_whisper")
pytest.importorskip("anyform_audio")
pytestmark = pytest.mark.engine

SPEECH = Path(__file__).parents[2] / "media" / "jfk.flac"
LONG = wave_file(voice(75))
NAMES = {"es": "spanish", "en": "english", "zh": "chinese", "de": "german", "fr": "french"}
MODELS = ("ours", "theirs")
"""CTranslate2's own files, and transformers', which are made CTranslate2's at load."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write_ct2_whisper(root / "ours")
    write_whisper(root / "theirs", positions=448)
    write_ct2_whisper(root / "english.en", english=True)
    return root


@pytest.fixture(scope="module")
def server(served: Any, folder: Path) -> Any:
    made = served(folder)
    for name in (*MODELS, "english.en"):
        made.http.post(f"/runtime/load/{name}?backend=faster_whisper&fallback=false").raise_for_status()
        assert made.loaded(name)["backend"] == "faster_whisper"
    return made


@pytest.fixture(scope="module")
def direct(folder: Path) -> Any:
    """What faster-whisper itself says of a file: segments and what it found out."""
    model = faster_whisper.WhisperModel(str(folder / "ours"), local_files_only=True)

    def hear(file: bytes, **wanted: Any) -> tuple[list[Any], Any]:
        from anyform.sound.decode import samples

        sound = np.concatenate(list(samples(file, RATE, 7200, Stop())))
        segments, info = model.transcribe(sound, temperature=0.0, **wanted)
        return list(segments), info

    return hear


def text(segments: list[Any]) -> str:
    return "".join(segment.text for segment in segments).strip()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["speech.flac", "voice.wav"])
def test_segments_and_words_are_faster_whispers(server: Any, direct: Any, model: str, name: str) -> None:
    file = SPEECH.read_bytes() if name == "speech.flac" else LONG
    answer = server.openai.audio.transcriptions.create(
        model=model, file=(name, file), response_format="verbose_json", timestamp_granularities=["segment", "word"]
    )
    segments, info = direct(file, word_timestamps=True)
    lasts = info.duration
    assert [one.tokens for one in answer.segments] == [one.tokens for one in segments] != []
    assert [(one.start, one.end) for one in answer.segments] == [
        (round(min(one.start, lasts), 2), round(min(one.end, lasts), 2)) for one in segments
    ]
    words = [word for one in segments for word in one.words]
    assert [(word.word, word.start, word.end) for word in answer.words] == [
        (word.word.strip(), round(min(word.start, lasts), 2), round(min(word.end, lasts), 2)) for word in words
    ]
    assert answer.text == text(segments)
    assert answer.duration == pytest.approx(lasts)
    assert (
        answer.language
        == {"es": "spanish", "en": "english", "zh": "chinese", "de": "german", "fr": "french"}[info.language]
    )


@pytest.mark.parametrize("translates", [False, True])
def test_every_format_is_read_by_a_real_parser(server: Any, direct: Any, tmp_path: Path, translates: bool) -> None:
    audio = server.openai.audio.translations if translates else server.openai.audio.transcriptions
    segments, info = direct(LONG, task="translate" if translates else "transcribe")
    assert len(segments) > 3
    said = {
        form: audio.create(model="ours", file=("a.wav", LONG), response_format=form)
        for form in ("json", "text", "srt", "vtt", "verbose_json")
    }
    assert said["json"].text == said["verbose_json"].text == said["text"].strip() == text(segments)
    assert said["verbose_json"].language == ("english" if translates else NAMES[info.language])
    for cues in (from_srt(tmp_path, said["srt"]), from_vtt(said["vtt"])):
        assert [cue.text for cue in cues] == [" ".join(one.text.split()) for one in segments]
        for cue, one in zip(cues, segments, strict=True):
            assert cue.start_in_seconds == int(min(one.start, info.duration))
            assert cue.start < cue.end


def from_srt(folder: Path, content: str) -> list[Any]:
    (folder / "said.srt").write_text(content, encoding="utf-8")
    return list(webvtt.from_srt(str(folder / "said.srt")))


def from_vtt(content: str) -> list[Any]:
    return list(webvtt.from_buffer(StringIO(content)))


def test_a_stream_says_the_same(server: Any, direct: Any) -> None:
    stream = server.openai.audio.transcriptions.create(model="ours", file=("a.wav", LONG), stream=True)
    events = list(stream)
    segments, _ = direct(LONG)
    assert [event.type for event in events[:-1]] == ["transcript.text.delta"] * (len(events) - 1)
    assert events[-1].type == "transcript.text.done"
    assert "".join(event.delta for event in events[:-1]) == events[-1].text == text(segments)
    assert len(events) > 3


def test_only_speech(server: Any, direct: Any) -> None:
    """`chunking_strategy` is OpenAI's word for it, `vad_filter` faster-whisper's."""
    file = wave_file([0.0] * (RATE * 5))  # type: ignore[arg-type]
    for wish in ({"chunking_strategy": {"type": "server_vad"}}, {"extra_body": {"vad_filter": True}}):
        answer = server.openai.audio.transcriptions.create(
            model="ours", file=("a.wav", file), response_format="verbose_json", **wish
        )
        assert (answer.text, answer.segments, answer.duration) == ("", [], 5.0)
    wanted = {"model": "ours", "response_format": "verbose_json"}
    voiced = server.openai.audio.transcriptions.create(
        file=("a.flac", SPEECH.read_bytes()), extra_body={"vad_filter": True}, **wanted
    )
    segments, _ = direct(SPEECH.read_bytes(), vad_filter=True)
    assert [one.tokens for one in voiced.segments] == [one.tokens for one in segments] != []


def test_silence_is_an_empty_subtitle(server: Any) -> None:
    file = wave_file([0.0] * (RATE * 5))  # type: ignore[arg-type]
    wish = {"model": "ours", "file": ("a.wav", file), "extra_body": {"vad_filter": True}}
    assert from_vtt(server.openai.audio.transcriptions.create(**wish, response_format="vtt")) == []
    assert server.openai.audio.transcriptions.create(**wish, response_format="srt") == ""
    assert server.openai.audio.transcriptions.create(**wish, response_format="text") == "\n"


@pytest.mark.parametrize(
    ("model", "fields", "told"),
    [
        ("ours", {"language": "germn"}, "de (german)"),
        ("ours", {"language": "fi"}, "does not know"),
        ("english.en", {"language": "de"}, "English only"),
    ],
)
def test_languages_that_are_none(server: Any, model: str, fields: dict[str, str], told: str) -> None:
    files = {"file": ("a.wav", wave_file(voice(1)))}
    answer = server.http.post("/v1/audio/transcriptions", data={"model": model, **fields}, files=files)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "language")
    assert told in error["message"]


def test_who_hangs_up_frees_the_worker(server: Any) -> None:
    """Both places are taken by sounds that nobody waits for; a third request is answered by the same worker."""
    before = server.loaded("ours")["pid"]
    file = wave_file(voice(20) * 30)
    for _ in range(2):
        fields = {"model": "ours", "stream": "true"}
        with server.http.stream(
            "POST", "/v1/audio/transcriptions", data=fields, files={"file": ("a.wav", file)}
        ) as answer:
            assert answer.status_code == 200
            assert json.loads(next(answer.iter_lines()).removeprefix("data: "))["type"] == "transcript.text.delta"
    short = server.openai.audio.transcriptions.create(model="ours", file=("a.wav", wave_file(voice(1))))
    assert isinstance(short.text, str)
    assert server.loaded("ours")["pid"] == before
