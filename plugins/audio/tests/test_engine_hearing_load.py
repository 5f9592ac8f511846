"""Loading for hearing: options, devices, what is missing, and what a folder may hold."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import EngineMissing, Invalid, LoadFailed
from anyform.contract.facts import Settings
from anyform.contract.jobs import Sound, Transcribe
from anyform.contract.model import LoadedModel, Stop
from anyform_audio.hearing.options import Options, read

pytest.importorskip("numpy")
faster_whisper = pytest.importorskip("faster_whisper")
ctranslate2 = pytest.importorskip("ctranslate2")
pytest.importorskip("av")
pytestmark = pytest.mark.engine

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("compute_type", "int4"),
        ("threads", 0),
        ("beam_size", 0),
        ("beam_size", 1000),
        ("best_of", "many"),
        ("patience", 0),
        ("patience", True),
        ("length_penalty", float("nan")),
        ("repetition_penalty", -1),
        ("fallback", "maybe"),
        ("log_prob_threshold", 1),
        ("no_speech_threshold", 2),
        ("hotwords", 5),
        ("audio_seconds", -1),
        ("vad_threshold", 0),
        ("vad_max_speech_s", 0),
        ("vad_pad_ms", -5),
        ("beam", 5),
    ],
)
def test_an_option_that_cannot_be_is_named(name: str, value: object) -> None:
    with pytest.raises(Invalid) as caught:
        read({name: value})
    assert caught.value.details["option"] == name
    assert caught.value.hint


def test_options_may_be_text_as_a_command_line_has_them() -> None:
    made = read({"beam_size": "2", "patience": "1.5", "fallback": "off", "vad": "true", "compute_type": "int8"})
    assert made == Options(beam_size=2, patience=1.5, fallback=False, vad=True, compute_type="int8")


def test_defaults_are_faster_whispers() -> None:
    from inspect import signature

    from faster_whisper.vad import VadOptions

    from anyform_audio.hearing.listener import TEMPERATURES, vad_options

    theirs = signature(faster_whisper.WhisperModel.transcribe).parameters
    ours = Options()
    shared = [field.name for field in fields(Options) if field.name in theirs and field.name != "hotwords"]
    assert len(shared) > 8
    assert {name: getattr(ours, name) for name in shared} == {name: theirs[name].default for name in shared}
    assert list(TEMPERATURES) == theirs["temperature"].default
    assert vad_options(ours) == VadOptions()


def test_every_option_is_in_the_readme() -> None:
    content = README.read_text(encoding="utf-8")
    assert [
        field.name for field in fields(Options) if f"`{field.name}`" not in content and field.name != "patience"
    ] == []


def test_what_it_computes_in_is_what_the_processor_does(hearing: Any, converted: Path) -> None:
    from anyform_audio.hearing import backend

    with pytest.raises(Invalid, match="float16") as caught:
        backend.load(hearing.plan(converted, compute_type="float16"))
    assert "int8" in caught.value.hint
    assert caught.value.details["option"] == "compute_type"


def test_the_probe_tells_what_is_there() -> None:
    from anyform_audio.hearing import backend

    found = backend.probe()
    assert faster_whisper.__version__ in found.engine_version
    assert ctranslate2.__version__ in found.engine_version
    assert found.devices == (("cpu", "cuda") if ctranslate2.get_cuda_device_count() else ("cpu",))


@pytest.mark.parametrize("device", ["metal", "cuda:99"])
def test_a_device_that_is_not_there(hearing: Any, converted: Path, device: str) -> None:
    from anyform_audio.hearing import backend

    with pytest.raises((LoadFailed, Invalid)):
        backend.load(hearing.plan(converted, device=device))


@pytest.mark.parametrize("parallel", [0, -1, 1000])
def test_how_many_at_once(hearing: Any, converted: Path, parallel: int) -> None:
    from anyform_audio.hearing import backend

    with pytest.raises(Invalid, match="parallel"):
        backend.load(hearing.plan(converted, parallel=parallel))


def test_one_at_once_unless_more_are_asked_for(loaded: Callable[..., LoadedModel], converted: Path) -> None:
    assert loaded(converted, parallel=None).parallel == 1


def test_threads_change_nothing_of_the_answer(
    loaded: Callable[..., LoadedModel], converted: Path, hearing: Any
) -> None:
    file = hearing.sound(10)
    answers = [hearing.hear(loaded(converted, threads=threads), file, temperature=0.0).tokens for threads in (1, 2)]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("name", ["model.bin", "config.json", "tokenizer.json", "vocabulary.json"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut"])
def test_a_folder_that_is_not_whole(hearing: Any, converted: Path, tmp_path: Path, name: str, damage: str) -> None:
    from anyform_audio.hearing import backend

    for path in converted.iterdir():
        data = path.read_bytes()
        if path.name == name and damage == "gone":
            continue
        cut = {"empty": 0, "cut": len(data) // 2, "gone": 0}[damage] if path.name == name else len(data)
        (tmp_path / path.name).write_bytes(data[:cut])
    asked = replace(hearing.plan(converted), path=str(tmp_path), settings=Settings(parallel=1))
    with pytest.raises(LoadFailed) as caught:
        backend.load(asked).close()
    assert caught.value.hint


def test_without_the_engine_the_command_is_told() -> None:
    program = """
import sys
sys.modules["ctranslate2"] = None
from anyform.contract.errors import EngineMissing
try:
    import anyform_audio.hearing.backend
except EngineMissing as error:
    print(error)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert "pip install faster-whisper" in ended.stdout


def test_without_what_reads_sound_the_command_is_told(
    hearing: Any, converted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anyform_audio.hearing import backend

    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(EngineMissing, match="pip install av"):
        backend.load(hearing.plan(converted))


def test_nothing_that_is_no_sound_reaches_the_line(loaded: Callable[..., LoadedModel], converted: Path) -> None:
    """It is refused while all places are taken, before any event."""
    model = loaded(converted, parallel=1)
    with pytest.raises(Invalid) as caught:
        model.generate(Transcribe(audio=Sound(data=b"no sound at all" * 100)), Stop())
    assert caught.value.details["param"] == "file"
