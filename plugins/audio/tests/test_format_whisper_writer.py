"""The Whispers that tests write are those that CTranslate2's own converter makes of the same weights, and they run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Plan, Settings
from anyform.kernel.files import FolderFiles
from anyform.testing.ctranslate2 import write_ct2_whisper
from anyform.testing.whisper import voice, write_whisper
from anyform_audio.hearing import form
from anyform_audio.hearing.binary import binary

pytestmark = pytest.mark.engine


def contents(folder: Path) -> dict[str, Any]:
    """Name -> kind, shape and bytes of each variable; of aliases those that they stand for."""
    found = binary(FolderFiles(folder), "model.bin")
    assert found.read
    data = (folder / "model.bin").read_bytes()
    known = {
        name: (one.kind, one.shape, data[one.begin : one.begin + one.size]) for name, one in found.variables.items()
    }
    return known | {alias: known[meant] for alias, meant in found.aliases.items()}


@pytest.mark.parametrize("quantization", ["float32", "float16", "int8", "int8_float16"])
def test_files_are_those_of_the_converter(tmp_path: Path, quantization: str) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    converters = pytest.importorskip("ctranslate2.converters")
    source = write_whisper(tmp_path / "source", positions=448, seed=5)
    converters.TransformersConverter(str(source)).convert(str(tmp_path / "theirs"), quantization=quantization)
    ours = write_ct2_whisper(tmp_path / "ours", quantization=quantization, seed=5)
    assert contents(ours) == contents(tmp_path / "theirs")
    for name in ("config.json", "vocabulary.json"):
        assert json.loads((ours / name).read_text()) == json.loads((tmp_path / "theirs" / name).read_text())
    facts = [
        form.extract(FolderFiles(folder), form.detect(FolderFiles(folder))[0]) for folder in (ours, tmp_path / "theirs")
    ]
    assert facts[0].parameters == pytest.approx(facts[1].parameters, rel=0.01)
    assert facts[0].quantization == facts[1].quantization


@pytest.mark.parametrize(
    "given",
    [{}, {"english": True}, {"quantization": "int8", "bands": 128}, {"quantization": "float16"}, {"positions": 64}],
)
def test_faster_whisper_runs_them(tmp_path: Path, given: dict[str, Any]) -> None:
    faster_whisper = pytest.importorskip("faster_whisper")
    numpy = pytest.importorskip("numpy")
    folder = write_ct2_whisper(tmp_path, **given)
    whisper = faster_whisper.WhisperModel(str(folder), device="cpu", cpu_threads=1, local_files_only=True)
    files = FolderFiles(folder)
    facts = form.extract(files, form.detect(files)[0])
    assert whisper.model.is_multilingual is facts.extra["multilingual"]
    assert whisper.model.n_mels == facts.extra["mel_bands"]
    sound = numpy.array(voice(6), dtype=numpy.float32)
    segments, info = whisper.transcribe(
        sound, beam_size=1, temperature=0, max_new_tokens=20, word_timestamps=True, no_speech_threshold=None
    )
    first = next(iter(segments))
    assert first.tokens
    assert info.language in facts.extra["languages"]


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("english", [True, False])
def test_what_the_conversion_makes_is_sound(tmp_path: Path, english: bool, stated: bool) -> None:
    pytest.importorskip("numpy")
    from anyform_audio.hearing import conversion

    source, out = write_whisper(tmp_path / "source", english=english), tmp_path / "out"
    if not stated:
        (source / "generation_config.json").unlink()
    out.mkdir()
    files = FolderFiles(source)
    (match,) = form.detect(files)
    facts = form.extract(files, match)
    plan = Plan(
        plugin="audio", backend="faster_whisper", model="m", path=str(source), match=match, metadata=facts,
        settings=Settings(),
    )  # fmt: skip
    conversion.convert(plan, source, out)
    made = FolderFiles(out)
    (match,) = form.detect(made)
    assert form.validate(made, match) == []
    told = form.extract(made, match)
    assert (told.tasks, told.context, told.vocab_size) == (facts.tasks, facts.context, facts.vocab_size)
    assert told.extra["languages"] == facts.extra["languages"]
