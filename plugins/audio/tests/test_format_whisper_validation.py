"""What is wrong with a Whisper is said before an engine sees it."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Finding, Severity
from anyform.kernel.files import FolderFiles
from anyform.testing.ctranslate2 import Variable, assemble, ct2_config, ct2_variables, write_ct2_whisper
from anyform.testing.safetensors import assemble as assemble_tensors
from anyform.testing.safetensors import described, write_safetensors, write_sharded
from anyform.testing.whisper import tensors, vocabulary, write_whisper
from anyform_audio.hearing import form

WORDS = vocabulary(False)
VARIABLES = ct2_variables(tensors(len(WORDS), positions=448))
QUANTIZED = ct2_variables(tensors(len(WORDS), positions=448), "int8")
PROJECTION = {"decoder/projection/weight": "decoder/embeddings/weight"}
Harm = Callable[[Path], Any]


def findings(folder: Path) -> list[Finding]:
    files = FolderFiles(folder)
    return [finding for match in form.detect(files) for finding in form.validate(files, match)]


def refused(folder: Path) -> dict[str, str]:
    """Code -> text of what is critical."""
    return {one.code: one.text for one in reversed(findings(folder)) if one.severity is Severity.CRITICAL}


def binary(**given: Any) -> Harm:
    return lambda folder: (folder / "model.bin").write_bytes(assemble(VARIABLES, PROJECTION, **given))


def variables(made: list[Variable], aliases: Mapping[str, str] = PROJECTION) -> Harm:
    return lambda folder: (folder / "model.bin").write_bytes(assemble(made, aliases))


def without(name: str, among: list[Variable] = VARIABLES) -> Harm:
    left = [one for one in among if not one.name.startswith(name)]
    assert len(left) < len(among)
    return variables(left)


def other(name: str, **changes: Any) -> Harm:
    return variables([replace(one, **changes) if one.name == name else one for one in VARIABLES])


def patched(name: str, place: int, data: bytes) -> Harm:
    """Other bytes behind a variable's name."""

    def harm(folder: Path) -> None:
        whole = (folder / "model.bin").read_bytes()
        at = whole.index(name.encode() + b"\0") + len(name) + 1 + place
        (folder / "model.bin").write_bytes(whole[:at] + data + whole[at + len(data) :])

    return harm


def cut(count: int) -> Harm:
    return lambda folder: (folder / "model.bin").write_bytes((folder / "model.bin").read_bytes()[:count])


def gone(name: str) -> Harm:
    return lambda folder: (folder / name).unlink()


def written(name: str, content: Any) -> Harm:
    text = content if isinstance(content, str) else json.dumps(content)
    return lambda folder: (folder / name).write_text(text)


def said(name: str, **changes: Any) -> Harm:
    def harm(folder: Path) -> None:
        known = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(known | changes))

    return harm


CTRANSLATE2: Mapping[str, tuple[Harm, str, str]] = {
    "cut in a variable": (cut(200_000), "truncated", "has 200000 bytes, and decoder/embeddings/weight would end"),
    "cut in the header": (cut(30), "truncated", "has 30 bytes"),
    "cut before the aliases": (
        lambda folder: (folder / "model.bin").write_bytes(assemble(VARIABLES, {})[:-4]),
        "truncated",
        "the number of its aliases would end",
    ),
    "newer": (binary(version=7), "newer", "binary version 7, and 6 is the newest"),
    "older": (binary(version=3), "older", "binary version 3"),
    "another revision": (binary(revision=4), "wrong_revision", "is revision 4 of WhisperSpec; 1 to 3 are known"),
    "no such type": (
        patched("decoder/embeddings/weight", 9, b"\x09"),
        "bad_header",
        "decoder/embeddings/weight is of type 9",
    ),
    "size and shape disagree": (
        patched("decoder/embeddings/weight", 1, struct.pack("<I", 5)),
        "bad_header",
        "of shape [5, 32] needs 640",
    ),
    "billions of variables": (
        lambda folder: (folder / "model.bin").write_bytes(
            (data := (folder / "model.bin").read_bytes())[:22] + b"\xff" * 4 + data[26:]
        ),
        "bad_header",
        "says that it has 4294967295 variables",
    ),
    "one twice": (variables([*VARIABLES, VARIABLES[8]]), "bad_header", "twice"),
    "an alias of nothing": (variables(VARIABLES, {"decoder/projection/weight": "x"}), "bad_header", "stands for x"),
    "no projection": (variables(VARIABLES, {}), "missing_variable", "lacks decoder/projection/weight"),
    "a layer is gone": (without("decoder/layer_0/"), "missing_variable", "lacks decoder/layer_0/self_attention"),
    "all layers are gone": (without("encoder/layer_"), "not_whole", "no layers"),
    "a norm is gone": (without("encoder/layer_norm/gamma"), "missing_variable", "lacks encoder/layer_norm/gamma"),
    "scales are gone": (
        without("encoder/layer_0/ffn/linear_0/weight_scale", QUANTIZED),
        "bad_scale",
        "is int8, and needs scales; it has none",
    ),
    "another shape": (
        other("encoder/layer_0/ffn/linear_1/weight", shape=(16, 32), data=bytes(2048)),
        "bad_shape",
        "linear_1/weight has the shape [16, 32]; the rest of the model needs [32, 32]",
    ),
    "another type": (
        other("encoder/layer_norm/gamma", kind="int32", data=bytes(128)),
        "unknown_quantization",
        "encoder/layer_norm/gamma is int32; it has to be one of float32, float16, bfloat16",
    ),
    "no heads": (other("decoder/num_heads", data=b"\0\0"), "bad_heads", "decoder/num_heads is missing"),
    "heads of uneven width": (other("decoder/num_heads", data=b"\3\0"), "bad_heads", "decoder/num_heads is 3; 32"),
    "no magic": (
        lambda folder: (folder / "model.bin").write_bytes(b"PK\3\4" + bytes(90)),
        "no_magic",
        "it is no model of CTranslate2",
    ),
    "Git's pointer": (
        written("model.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        "git_lfs",
        "git lfs pull",
    ),
    "a web page": (written("tokenizer.json", "<!DOCTYPE html><html></html>"), "web_page", "is a web page"),
    "no config": (gone("config.json"), "missing_config", "config.json is missing"),
    "no tokenizer": (gone("tokenizer.json"), "missing_tokenizer", "tokenizer.json is missing"),
    "no tokenizer in it": (written("tokenizer.json", {"a": 1}), "bad_tokenizer", "it has no model"),
    "no vocabulary": (gone("vocabulary.json"), "missing_vocabulary", "vocabulary.json is missing"),
    "fewer tokens": (
        written("vocabulary.json", WORDS[:-5]),
        "other_vocabulary",
        "has 1909 tokens, and the model knows",
    ),
    "no list of tokens": (written("vocabulary.json", {"a": 1}), "bad_vocabulary", "is no list of tokens"),
    "a number among tokens": (written("vocabulary.json", [*WORDS[:-1], 1]), "bad_vocabulary", "is no list of tokens"),
    "tokens of another model": (
        written("vocabulary.json", [word.replace("transcri", "trans") for word in WORDS]),
        "missing_token",
        "lacks <|startoftranscript|>, <|transcribe|>",
    ),
    "heads beyond the layers": (said("config.json", alignment_heads=[[9, 0]]), "bad_config", "a layer below 2"),
    "heads that are none": (said("config.json", alignment_heads="all"), "bad_config", "alignment_heads is 'all'"),
    "languages beyond the tokens": (said("config.json", lang_ids=[9999]), "bad_config", "numbers below 1914"),
    "nothing said of tokens": (written("config.json", {"lang_ids": [402]}), "bad_config", "suppress_ids is None"),
    "config is a list": (written("config.json", []), "no_object", "holds no JSON object"),
    "other bands": (
        said("preprocessor_config.json", feature_size=128),
        "other_preprocessor",
        "feature_size is 128, and the model needs 80",
    ),
    "another rate": (said("preprocessor_config.json", sampling_rate=8000), "other_preprocessor", "needs 16000"),
}


@pytest.mark.parametrize("what", CTRANSLATE2)
def test_what_is_wrong_is_said(tmp_path: Path, what: str) -> None:
    harm, code, text = CTRANSLATE2[what]
    harm(write_ct2_whisper(tmp_path))
    found = refused(tmp_path)
    assert text in found.get(f"ctranslate2.{code}", ""), found


@pytest.mark.parametrize("given", [{}, {"english": True}, {"quantization": "int8"}, {"quantization": "int8_float16"}])
@pytest.mark.parametrize("bands", [80, 128])
def test_sound_ones_have_nothing(tmp_path: Path, given: dict[str, Any], bands: int) -> None:
    assert findings(write_ct2_whisper(tmp_path / "a", bands=bands, **given)) == []
    assert findings(write_whisper(tmp_path / "b", bands=bands, english="english" in given)) == []


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("revision", [1, 2])
def test_what_the_engine_reads_of_old_is_sound(tmp_path: Path, version: int, revision: int) -> None:
    binary(version=version, revision=revision)(write_ct2_whisper(tmp_path))
    assert findings(tmp_path) == []


def test_words_without_times_are_a_note(tmp_path: Path) -> None:
    (finding,) = findings(write_ct2_whisper(tmp_path, heads=False))
    assert (finding.code, finding.severity) == ("ctranslate2.no_word_times", Severity.INFO)
    written("config.json", ct2_config() | {"alignment_heads": []})(tmp_path)
    assert [one.code for one in findings(tmp_path)] == ["ctranslate2.no_word_times"]


@pytest.mark.parametrize(("bands", "severity"), [(80, Severity.INFO), (128, Severity.CRITICAL)])
@pytest.mark.parametrize("write", [write_ct2_whisper, write_whisper])
def test_without_a_preprocessor_sounds_have_80_bands(
    tmp_path: Path, bands: int, severity: Severity, write: Callable[..., Path]
) -> None:
    gone("preprocessor_config.json")(write(tmp_path, bands=bands))
    (finding,) = findings(tmp_path)
    assert (finding.code.partition(".")[2], finding.severity) == ("missing_preprocessor", severity)


def test_bytes_behind_the_end_are_a_warning(tmp_path: Path) -> None:
    """The engine reads no further."""
    path = write_ct2_whisper(tmp_path) / "model.bin"
    path.write_bytes(path.read_bytes() + bytes(9))
    (finding,) = findings(tmp_path)
    assert (finding.code, finding.severity) == ("ctranslate2.too_long", Severity.WARNING)


def header(change: Callable[[dict[str, Any]], Any]) -> Harm:
    """Something else in the header of model.safetensors."""

    def harm(folder: Path) -> None:
        parts = tensors(len(WORDS))
        known = described(parts)
        change(known)
        (folder / "model.safetensors").write_bytes(assemble_tensors(known, b"".join(one.data for one in parts)))

    return harm


def sharded(change: Callable[[Path, dict[str, Any]], Any]) -> Harm:
    def harm(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        index = write_sharded(folder, tensors(len(WORDS)), 3)
        known = json.loads(index.read_text())
        change(folder, known)
        index.write_text(json.dumps(known))

    return harm


EMBEDDING = "model.decoder.embed_tokens.weight"
WHISPER: Mapping[str, tuple[Harm, str, str]] = {
    "cut": (
        lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:90_000]),
        "truncated",
        "it is cut off",
    ),
    "no header": (written("model.safetensors", "x" * 99), "truncated", "its header alone would have"),
    "no JSON": (
        lambda folder: (folder / "model.safetensors").write_bytes(struct.pack("<Q", 9) + b"[1, 2, 3]"),
        "bad_header",
        "it is no object",
    ),
    "no such type": (header(lambda known: known[EMBEDDING].update(dtype="F7")), "unknown_dtype", "has the type 'F7'"),
    "size and shape": (header(lambda known: known[EMBEDDING].update(shape=[5, 32])), "bad_size", "its shape needs 640"),
    "a gap": (
        header(lambda known: known[EMBEDDING]["data_offsets"].__setitem__(0, known[EMBEDDING]["data_offsets"][0] + 4)),
        "bad_place",
        "the one before ends at",
    ),
    "no shape": (header(lambda known: known[EMBEDDING].pop("shape")), "bad_header", "is not described by dtype"),
    "a tensor is gone": (
        lambda folder: write_safetensors(
            folder / "model.safetensors", [one for one in tensors(len(WORDS)) if "conv1.bias" not in one.name]
        ),
        "missing_tensor",
        "the tensor model.encoder.conv1.bias is missing",
    ),
    "another shape": (said("config.json", vocab_size=1913), "bad_shape", "and config.json says [1913, 32]"),
    "quantized numbers": (
        lambda folder: write_safetensors(
            folder / "model.safetensors",
            [
                replace(one, dtype="I8", data=bytes(len(one.data) // 4)) if one.name == EMBEDDING else one
                for one in tensors(len(WORDS))
            ],
        ),
        "quantized",
        "is I8; only F32, F16, BF16 can be converted",
    ),
    "says that it is quantized": (
        said("config.json", quantization_config={"quant_method": "awq"}),
        "quantized",
        "says that the weights are quantized",
    ),
    "no width": (said("config.json", d_model=0), "bad_config", "d_model is 0; it has to be 1 to"),
    "layers without end": (said("config.json", decoder_layers=10**9), "bad_config", "decoder_layers is 1000000000"),
    "heads of uneven width": (
        said("config.json", encoder_attention_heads=3),
        "bad_config",
        "encoder_attention_heads is 3",
    ),
    "another activation": (said("config.json", activation_function="relu"), "bad_config", "only 'gelu' can be run"),
    "another window": (said("config.json", max_source_positions=100), "bad_config", "max_source_positions is 100"),
    "other bands": (said("preprocessor_config.json", feature_size=128), "other_preprocessor", "the model needs 80"),
    "no tokenizer": (gone("tokenizer.json"), "missing_tokenizer", "tokenizer.json is missing"),
    "an empty tokenizer": (written("tokenizer.json", ""), "empty_file", "tokenizer.json is empty"),
    "a shard is gone": (
        sharded(lambda folder, known: (folder / "model-00002-of-00003.safetensors").unlink()),
        "missing_shard",
        "model-00002-of-00003.safetensors is missing",
    ),
    "a shard elsewhere": (
        sharded(lambda folder, known: known["weight_map"].update(x="../other.safetensors")),
        "bad_index",
        "names '../other.safetensors', which is no file beside it",
    ),
    "no shards": (sharded(lambda folder, known: known.pop("weight_map")), "bad_index", "has no weight_map"),
}


@pytest.mark.parametrize("what", WHISPER)
def test_what_is_wrong_with_transformers_files_is_said(tmp_path: Path, what: str) -> None:
    harm, code, text = WHISPER[what]
    harm(write_whisper(tmp_path))
    found = refused(tmp_path)
    assert text in found.get(f"whisper.{code}", ""), found


def test_no_generation_config_is_a_warning(tmp_path: Path) -> None:
    gone("generation_config.json")(write_whisper(tmp_path))
    (finding,) = findings(tmp_path)
    assert (finding.code, finding.severity) == ("whisper.missing_generation", Severity.WARNING)
