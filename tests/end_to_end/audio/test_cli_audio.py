"""`anyform transcribe`, `say` and `voices` with the real engines, in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import webvtt

from anyform.testing.ctranslate2 import write_ct2_whisper
from anyform.testing.kokoro import write_kokoro
from anyform.testing.piper import write_piper

av = pytest.importorskip("av")
pytest.importorskip("anyform_audio")
pytestmark = pytest.mark.engine

Anyform = Callable[..., subprocess.CompletedProcess[bytes]]
JFK = Path(__file__).parents[2] / "media" / "jfk.flac"
TEXT = "Good morning. How are you today? It is a fine day."
SURE = ("--option", "fallback=false")
"""One try a window: nothing is drawn."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_ct2_whisper(folder / "whisper")
    (folder / "kokoro").mkdir()
    write_kokoro(folder / "kokoro")
    (folder / "piper").mkdir()
    write_piper(folder / "piper")
    return folder


@pytest.fixture
def anyform(tmp_path: Path) -> Anyform:
    """The command, in a folder and with a home of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANYFORM_", "HF_"))}
    own = ("HOME", "USERPROFILE", "LOCALAPPDATA", "APPDATA", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
    environment = {**kept, **dict.fromkeys(own, str(tmp_path / "home"))}
    folder = tmp_path / "work"
    folder.mkdir()

    def run(*arguments: str | Path, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "anyform", *map(str, arguments)]
        return subprocess.run(
            command, input=input, capture_output=True, cwd=folder, env=environment, timeout=120, check=False
        )

    return run


def said(done: subprocess.CompletedProcess[bytes]) -> Any:
    """The JSON of a command that went well."""
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def seconds(path: Path) -> float:
    """How long the sound in *path* is, as it is decoded."""
    with av.open(str(path)) as read:
        rate = read.streams.audio[0].rate
        return sum(frame.samples for frame in read.decode(audio=0)) / rate


def test_what_is_heard_is_what_faster_whisper_hears(anyform: Anyform, models: Path) -> None:
    engine = pytest.importorskip("faster_whisper")
    model = engine.WhisperModel(str(models / "whisper"), device="cpu", compute_type="float32")
    segments, info = model.transcribe(str(JFK), language="en", temperature=0.0)
    direct = [(segment.text, list(segment.tokens)) for segment in segments]
    command = ("transcribe", JFK, "--model", models / "whisper", "--language", "en", *SURE)
    told = said(anyform(*command, "--format", "verbose_json"))
    assert [(segment["text"], segment["tokens"]) for segment in told["segments"]] == direct
    assert (told["language"], told["duration"]) == ("english", pytest.approx(info.duration))
    here = said(anyform(*command, "--json", "--here"))
    assert (here["backend"], here["files"][0]["text"]) == ("faster_whisper", told["text"])


def test_files_of_every_codec_go_one_after_the_other(anyform: Anyform, models: Path, tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper")
    pytest.importorskip("kokoro_onnx")
    folder = tmp_path / "work"
    for ending in ("mp3", "opus", "wav"):
        spoken = anyform("say", TEXT, "--model", models / "kokoro", "-o", f"{ending}.{ending}")
        assert spoken.returncode == 0, spoken.stderr.decode()
    shutil.copy(JFK, folder)
    (folder / "bad.mp3").write_bytes(b"no sound at all" * 1000)
    names = ("mp3.mp3", "bad.mp3", "opus.opus", "wav.wav", "jfk.flac")
    done = anyform("transcribe", *names, "--model", models / "whisper", "--format", "vtt", *SURE)
    assert (done.returncode, done.stdout.split()) == (1, [b"mp3.vtt", b"opus.vtt", b"wav.vtt", b"jfk.vtt"])
    assert done.stderr.decode().startswith("anyform: bad.mp3: ")
    assert len(done.stderr.splitlines()) == 1
    for written in done.stdout.split():
        webvtt.read(str(folder / written.decode()))
    assert {path.name for path in folder.iterdir()} == {*names, *(name.decode() for name in done.stdout.split())}


@pytest.mark.parametrize(("model", "engine"), [("kokoro", "kokoro_onnx"), ("piper", "piper")])
def test_a_text_is_spoken_sentence_by_sentence_into_a_pipe_and_a_file(
    anyform: Anyform, models: Path, tmp_path: Path, model: str, engine: str
) -> None:
    pytest.importorskip(engine)
    told = said(anyform("say", TEXT, "--model", models / model, "-o", "out.flac", "--json"))
    assert (told["backend"], told["format"]) == (model, "flac")
    assert seconds(tmp_path / "work" / "out.flac") == pytest.approx(told["duration_s"], abs=0.01)
    piped = anyform("say", "-", "--model", models / model, "--format", "wav", input=TEXT.encode())
    assert piped.returncode == 0, piped.stderr.decode()
    assert (len(piped.stdout) - 44) / 2 / told["sample_rate"] == pytest.approx(told["duration_s"], abs=0.01)
    fast = said(anyform("say", TEXT, "--model", models / model, "-o", "fast.flac", "--speed", "2", "--json"))
    assert fast["duration_s"] < 0.7 * told["duration_s"]


def test_what_is_said_can_be_heard_through_a_pipe(anyform: Anyform, models: Path) -> None:
    pytest.importorskip("faster_whisper")
    pytest.importorskip("kokoro_onnx")
    sound = anyform("say", TEXT, "--model", models / "kokoro", "--voice", "af_heart(2)+bf_emma(1)").stdout
    told = said(anyform("transcribe", "-", "--model", models / "whisper", "--json", *SURE, input=sound))
    assert told["files"][0]["duration"] == pytest.approx((len(sound) - 44) / 48_000, abs=0.01)


def test_the_commands_find_their_models_and_list_voices_without_loading(anyform: Anyform, models: Path) -> None:
    pytest.importorskip("faster_whisper")
    pytest.importorskip("kokoro_onnx")
    assert said(anyform("transcribe", JFK, "--models", models, "--json", *SURE))["model"] == "whisper"
    told = said(anyform("say", TEXT, "--models", models, "-o", "out.wav", "--voice", "am_adam", "--json"))
    assert told["model"] == "kokoro"
    voices = said(anyform("voices", "--model", models / "kokoro", "--json"))
    assert {"model": "kokoro", "id": "af_heart", "name": "Heart (American Female)", "language": "en-US"} in voices
    assert {voice["model"] for voice in said(anyform("voices", "--models", models, "--json"))} >= {"kokoro"}
    shown = anyform("show", models / "kokoro").stdout.decode()
    assert "speeds         0.5 to 2" in shown


def test_the_language_decides_which_model_hears(anyform: Anyform, tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper")
    write_ct2_whisper(tmp_path / "models" / "english", english=True)
    write_ct2_whisper(tmp_path / "models" / "several", seed=1)
    command = ("transcribe", JFK, "--models", tmp_path / "models", "--json", *SURE)
    for language in ("german", "de", ""):
        assert said(anyform(*command, "--language", language))["model"] == "several"
    alone = anyform(*command, "--model", tmp_path / "models" / "english", "--language", "de")
    assert (alone.returncode, json.loads(alone.stderr)["error"]["code"]) == (1, "unsupported")


def test_nothing_is_said_of_a_context_where_there_is_none(anyform: Anyform, models: Path) -> None:
    pytest.importorskip("kokoro_onnx")
    spoken = anyform("say", TEXT, "--model", models / "kokoro", "-o", "out.wav", "--log-level", "info")
    told = spoken.stderr.decode()
    assert (spoken.returncode, "loaded by kokoro on cpu\n" in told, "context" in told) == (0, True, False)
    estimated = anyform("estimate", models / "kokoro", "--parallel", "4").stdout.decode()
    assert ("WEIGHTS" in estimated, "4 requests\n" in estimated) == (True, True)
    assert [word for word in ("CONTEXT", "KV CACHE", "context") if word in estimated] == []


def test_a_language_is_checked_before_the_model_is_loaded(anyform: Anyform, models: Path) -> None:
    pytest.importorskip("faster_whisper")
    command = ("transcribe", JFK, "--model", models / "whisper", "--log-level", "info", *SURE)
    for language, told in (("xx", "--language: 'xx' is no language"), ("ja", "it knows de, en, es, fr, zh")):
        refused = anyform(*command, "--language", language)
        assert (refused.returncode, told in refused.stderr.decode()) == (1, True)
        assert b"loaded by" not in refused.stderr


def test_a_sound_that_is_cut_off_is_told_in_the_command_lines_words(
    anyform: Anyform, models: Path, tmp_path: Path
) -> None:
    pytest.importorskip("faster_whisper")
    with av.open(str(tmp_path / "work" / "talk.m4a"), "w", format="ipod") as written:
        stream = written.add_stream("aac", rate=16_000)
        with av.open(str(JFK)) as read:
            for frame in read.decode(audio=0):
                written.mux(stream.encode(frame))
        written.mux(stream.encode(None))
    sound = (tmp_path / "work" / "talk.m4a").read_bytes()
    (tmp_path / "work" / "cut.m4a").write_bytes(sound[: len(sound) // 2])  # the table of its parts is at the end
    told = anyform("transcribe", "cut.m4a", "--model", models / "whisper").stderr.decode()
    assert told.startswith("anyform: cut.m4a: it cannot be decoded as sound: ")
    assert (told.count("cut.m4a"), "It may be cut off." in told, "Invalid '" in told) == (1, True, False)


def test_validate_names_models_as_list_does(anyform: Anyform, models: Path) -> None:
    listed = {one["name"] for one in said(anyform("list", "--models", models, "--json"))}
    assert {one["model"] for one in said(anyform("validate", models, "--json"))} == listed
    assert listed == {"kokoro", "piper", "whisper"}
    shutil.copytree(models / "piper", models.parent / f"{models.name}-one" / "v")
    assert said(anyform("validate", models.parent / f"{models.name}-one", "--json"))["model"] == "v"


def test_what_a_model_cannot_do_is_one_line(anyform: Anyform, models: Path) -> None:
    pytest.importorskip("kokoro_onnx")
    command = ("say", TEXT, "--model", models / "kokoro", "-o", "out.wav")
    for more, told in ((("--voice", "nobody"), "'nobody'"), (("--speed", "3"), "0.5 to 2")):
        refused = anyform(*command, *more)
        assert (refused.returncode, refused.stdout, told in refused.stderr.decode()) == (1, b"", True)
        assert len(refused.stderr.splitlines()) == 1
