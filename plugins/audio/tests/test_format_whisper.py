"""What Whispers in a folder say of themselves, as CTranslate2 keeps them and as transformers does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Invalid
from anyform.contract.facts import Evidence, FormatMatch, Metadata, Settings
from anyform.kernel.files import FolderFiles
from anyform.testing.ctranslate2 import assemble, ct2_variables, write_ct2_whisper
from anyform.testing.safetensors import write_sharded
from anyform.testing.whisper import LANGUAGES, tensors, vocabulary, write_whisper
from anyform_audio.hearing import form
from anyform_audio.hearing.metadata import size
from anyform_audio.hearing.network import Network


def found(folder: Path) -> FormatMatch:
    (match,) = form.detect(FolderFiles(folder))
    return match


def facts_of(folder: Path) -> Metadata:
    return form.extract(FolderFiles(folder), found(folder))


def test_ctranslate2_is_known_by_how_model_bin_begins(tmp_path: Path) -> None:
    match = found(write_ct2_whisper(tmp_path))
    assert (match.format, match.entry, match.evidence) == ("ctranslate2", "model.bin", Evidence.MAGIC)
    beside = ("config.json", "vocabulary.json", "tokenizer.json", "preprocessor_config.json")
    assert match.files == ("model.bin", *beside)


def test_a_whisper_of_transformers_is_known_by_its_config(tmp_path: Path) -> None:
    match = found(write_whisper(tmp_path))
    assert (match.format, match.entry, match.evidence) == ("whisper", "model.safetensors", Evidence.LAYOUT)
    assert match.files[1:] == ("config.json", "generation_config.json", "tokenizer.json", "preprocessor_config.json")


def test_shards_belong_to_it(tmp_path: Path) -> None:
    write_whisper(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    write_sharded(tmp_path, tensors(len(vocabulary(False))), 2)
    match = found(tmp_path)
    assert match.entry == "model.safetensors.index.json"
    assert sum(name.endswith(".safetensors") for name in match.files) == 2
    assert form.validate(FolderFiles(tmp_path), match) == []
    assert facts_of(tmp_path).tensors == len(tensors(len(vocabulary(False))))


def test_one_that_tells_sounds_apart_is_none(tmp_path: Path) -> None:
    write_whisper(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["WhisperForAudioClassification"]}))
    assert form.detect(FolderFiles(tmp_path)) == []


def test_both_in_one_repository(tmp_path: Path) -> None:
    write_whisper(tmp_path)
    write_ct2_whisper(tmp_path / "ct2")
    matches = form.detect(FolderFiles(tmp_path))
    assert {(match.format, match.name, match.entry) for match in matches} == {
        ("whisper", "", "model.safetensors"),
        ("ctranslate2", "ct2", "ct2/model.bin"),
    }
    for match in matches:
        assert form.validate(FolderFiles(tmp_path), match) == []


@pytest.mark.parametrize("spec", ["TransformerSpec", "TransformerDecoderSpec", "Wav2Vec2Spec"])
def test_other_models_of_ctranslate2_are_told_apart(tmp_path: Path, spec: str) -> None:
    write_ct2_whisper(tmp_path)
    (tmp_path / "model.bin").write_bytes(assemble(ct2_variables(tensors(100)), spec=spec))
    (tmp_path / "config.json").write_text("{}")
    match = found(tmp_path)
    assert match.format == "ctranslate2_other"
    (finding,) = form.validate(FolderFiles(tmp_path), match)
    text = f"model.bin is a CTranslate2 model of the kind {spec}; of those only WhisperSpec is run."
    assert (finding.code, finding.text) == ("ctranslate2.other_kind", text)
    facts = form.extract(FolderFiles(tmp_path), match)
    assert facts.tasks == ()
    assert facts.architecture == spec.removesuffix("Spec").lower()


def test_what_a_model_of_several_languages_says(tmp_path: Path) -> None:
    facts = facts_of(write_ct2_whisper(tmp_path))
    assert (facts.architecture, facts.version, facts.tasks) == ("whisper", "6.3", ("transcribe", "translate"))
    assert (facts.context, facts.vocab_size, facts.features) == (448, len(vocabulary(False)), ("audio",))
    assert facts.extra["languages"] == list(LANGUAGES)
    told = {name: facts.extra[name] for name in ("multilingual", "sample_rate", "mel_bands", "layers", "heads")}
    assert told == {"multilingual": True, "sample_rate": 16_000, "mel_bands": 80, "layers": 2, "heads": 2}
    assert (facts.extra["encoder_layers"], facts.extra["word_times"]) == (1, True)
    assert facts.weight_bytes == pytest.approx(4 * (facts.parameters or 0), rel=0.001)


def test_what_one_of_english_says(tmp_path: Path) -> None:
    facts = facts_of(write_ct2_whisper(tmp_path, english=True, heads=False, bands=128))
    assert facts.tasks == ("transcribe",)
    told = {name: facts.extra[name] for name in ("languages", "multilingual", "mel_bands", "word_times")}
    assert told == {"languages": ["en"], "multilingual": False, "mel_bands": 128, "word_times": False}


def test_both_forms_of_a_model_say_the_same(tmp_path: Path) -> None:
    ours = facts_of(write_ct2_whisper(tmp_path / "a"))
    theirs = facts_of(write_whisper(tmp_path / "b", positions=448))
    assert (ours.tasks, ours.context, ours.vocab_size) == (theirs.tasks, theirs.context, theirs.vocab_size)
    shared = set(ours.extra) & set(theirs.extra)
    assert {name: ours.extra[name] for name in shared} == {name: theirs.extra[name] for name in shared}
    assert len(shared) == len(ours.extra) - 1
    assert ours.parameters == pytest.approx(theirs.parameters, rel=0.01)


@pytest.mark.parametrize("english", [True, False])
def test_without_a_generation_config_the_tokens_tell_languages(tmp_path: Path, english: bool) -> None:
    before = facts_of(write_whisper(tmp_path, english=english))
    (tmp_path / "generation_config.json").unlink()
    assert facts_of(tmp_path) == before


@pytest.mark.parametrize("given", ["float32", "float16", "int8", "int8_float16"])
def test_quantizations_by_ctranslate2s_names(tmp_path: Path, given: str) -> None:
    facts = facts_of(write_ct2_whisper(tmp_path, quantization=given))
    assert facts.quantization == {"int8": "int8_float32"}.get(given, given)
    assert facts.parameters == facts_of(write_ct2_whisper(tmp_path / "plain")).parameters


def test_a_vocabulary_of_lines(tmp_path: Path) -> None:
    write_ct2_whisper(tmp_path)
    before = facts_of(tmp_path)
    (tmp_path / "vocabulary.json").unlink()
    (tmp_path / "vocabulary.txt").write_text("\n".join(vocabulary(False)) + "\n")
    assert facts_of(tmp_path) == before
    assert form.validate(FolderFiles(tmp_path), found(tmp_path)) == []


@pytest.mark.parametrize(
    ("width", "layers", "bands", "several", "name"),
    [
        (384, (4, 4), 80, True, "tiny"),
        (512, (6, 6), 80, False, "base.en"),
        (768, (12, 12), 80, True, "small"),
        (1024, (24, 24), 80, False, "medium.en"),
        (1280, (32, 32), 80, True, "large"),
        (1280, (32, 32), 128, True, "large-v3"),
        (1280, (32, 4), 128, True, "large-v3-turbo"),
        (1280, (32, 2), 128, False, "distil-large-v3"),
        (768, (12, 4), 80, False, "distil-small.en"),
        (32, (1, 2), 80, True, ""),
    ],
)
def test_sizes_have_names(width: int, layers: tuple[int, int], bands: int, several: bool, name: str) -> None:
    shape = Network(width=width, encoder_layers=layers[0], decoder_layers=layers[1], bands=bands)
    assert size(shape, several) == name


class Elsewhere:
    """A model's files as a hub lists them: beginnings can be read, and there is no folder."""

    def __init__(self, folder: Path) -> None:
        self._local = FolderFiles(folder)
        self.path, self.files = Path("/nowhere/at/all"), self._local.files

    def head(self, name: str, size: int = 4096) -> bytes:
        return self._local.head(name, size)

    def json(self, name: str) -> Any:
        return self._local.json(name)


def test_a_beginning_tells_most(tmp_path: Path) -> None:
    write_ct2_whisper(tmp_path)
    files = Elsewhere(tmp_path)
    (match,) = form.detect(files)
    facts = form.extract(files, match)
    assert form.validate(files, match) == []
    assert (facts.tasks, facts.vocab_size) == (("transcribe", "translate"), len(vocabulary(False)))
    assert facts.quantization == "float32"
    assert facts.weight_bytes == (tmp_path / "model.bin").stat().st_size
    assert facts.parameters is None


def of_base(quantization: str, parameters: int = 72_600_000) -> Metadata:
    facts = {"embedding_length": 512, "layers": 6, "heads": 8, "mel_bands": 80}
    each = 1 if quantization.startswith("int8") else 2 if quantization in ("float16", "BF16") else 4
    return Metadata(
        architecture="whisper", tasks=("transcribe",), parameters=parameters, context=448, vocab_size=51_865,
        quantization=quantization, weight_bytes=parameters * each, extra=facts,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("stored", "asked", "device", "each"),
    [
        ("float32", "default", "cpu", 4),
        ("float16", "default", "cpu", 4),
        ("int8_float16", "default", "cpu", 1),
        ("float32", "int8", "cpu", 1),
        ("float32", "auto", "cpu", 1),
        ("float32", "int16", "cpu", 2),
        ("int8_float32", "float32", "cpu", 4),
        ("BF16", "default", "cpu", 4),
        ("F16", "default", "cuda:0", 2),
        ("float32", "float16", "cuda:0", 2),
        ("float32", "int8_float16", "cuda:0", 1),
    ],
)
def test_weights_take_what_they_are_computed_with(stored: str, asked: str, device: str, each: int) -> None:
    facts = of_base(stored)
    settings = Settings(device=device, options={"compute_type": asked})
    assert form.estimate(facts, settings).weights_bytes == pytest.approx(72_600_000 * each, rel=0.06)


def test_more_takes_more() -> None:
    def taken(parallel: int = 1, **options: Any) -> int:
        settings = Settings(parallel=parallel, options={"audio_seconds": 60, **options})
        return form.estimate(of_base("int8_float32"), settings).at(settings)

    assert taken(beam_size=8) > taken() > taken(beam_size=1, best_of=1)
    assert taken(beam_size=1, fallback=False) < taken(beam_size=1)
    hour = taken(audio_seconds=3600) - taken()
    assert hour == pytest.approx(3 * 3600 * 64_000 + 3600 * 32_000 + 300 * 1_250_000, rel=0.15)
    shared = [taken(parallel) for parallel in (1, 2, 3)]
    assert shared[2] - shared[1] == shared[1] - shared[0] < taken(), "workers share the weights, the sound, the process"


def test_files_larger_than_what_becomes_of_them_count_while_they_are_read() -> None:
    settings = Settings(options={"compute_type": "int8", "audio_seconds": 1})
    large = of_base("float32", parameters=1_500_000_000)
    estimate = form.estimate(large, settings)
    assert estimate.at(settings) > 4 * 1_500_000_000 > 3 * estimate.weights_bytes


def test_a_context_changes_nothing() -> None:
    estimate = form.estimate(of_base("float32"), Settings())
    assert estimate.at(Settings(context=448)) == estimate.at(Settings(context=8, parallel=4))


def test_what_would_save_memory() -> None:
    savings = form.estimate(of_base("float32"), Settings()).savings
    assert [saving.options for saving in savings] == [{"compute_type": "int8"}, {"audio_seconds": 600.0}]
    for saving in savings:
        plain, less = (form.estimate(of_base("float32"), Settings(options=one)) for one in ({}, saving.options))
        assert plain.at(Settings()) - less.at(Settings()) == pytest.approx(saving.bytes, abs=1 << 20)


def test_an_accelerator_holds_the_network_and_not_the_sound() -> None:
    estimate = form.estimate(of_base("float16"), Settings(device="cuda:0", options={"compute_type": "float16"}))
    there = estimate.spread(Settings(), "cuda:0")
    assert there["cuda:0"] > estimate.weights_bytes
    assert there["cpu"] > 7200 * 64_000 * 3


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(Invalid, match="beams"):
        form.estimate(of_base("float32"), Settings(options={"beams": 2}))


def test_a_copy_of_the_weights_is_not_needed_to_read_them(tmp_path: Path) -> None:
    """What lies between two headers is stepped over: a file with a hole in the place of numbers reads the same."""
    write_ct2_whisper(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    data = (tmp_path / "a" / "model.bin").read_bytes()
    place = data.index(b"decoder/embeddings/weight\0") + 200
    (tmp_path / "b" / "model.bin").write_bytes(data[:place] + bytes(100_000) + data[place + 100_000 :])
    assert facts_of(tmp_path / "a") == facts_of(tmp_path / "b")
