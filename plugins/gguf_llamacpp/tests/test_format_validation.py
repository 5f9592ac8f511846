"""Findings: one for each way that a file can be broken, and none for a sound one."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Finding, Severity
from anyform.kernel.files import FolderFiles
from anyform.testing.gguf import (
    CHATML,
    F16,
    F32,
    INT32,
    UINT16,
    UINT64,
    Tensor,
    Typed,
    llama,
    write_bert,
    write_gguf,
    write_llama,
    write_lora,
    write_mmproj,
    write_split,
    write_vocab_only,
)
from anyform_gguf_llamacpp import plugin


def findings(path: Path) -> list[Finding]:
    files = FolderFiles(path)
    return [finding for match in plugin.detect_format(files) for finding in plugin.validate(files, match)]


def critical(path: Path) -> set[str]:
    return {finding.code for finding in findings(path) if finding.severity is Severity.CRITICAL}


@pytest.mark.parametrize("quantization", ["F32", "F16", "Q8_0"])
def test_sound_models_have_none(tmp_path: Path, quantization: str) -> None:
    write_llama(tmp_path / "a.gguf", quantization=quantization, chat_template=CHATML)
    write_bert(tmp_path / "b.gguf", quantization=quantization)
    write_bert(tmp_path / "c.gguf", quantization=quantization, pooling="rank")
    write_split(tmp_path, "d", 3, quantization=quantization)
    assert findings(tmp_path) == []


def test_the_sample_models_have_none() -> None:
    pytest.importorskip("anyform_samples.layout", exc_type=ImportError)
    from anyform_samples.embedding.layout import DATA
    from anyform_samples.layout import SAMPLE

    for folder in (SAMPLE, DATA):
        assert plugin.detect_format(FolderFiles(folder))
        assert findings(folder) == []


def test_a_truncated_file_says_so_once_and_how_often(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "a.gguf")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = findings(path)
    assert {finding.code for finding in found} == {"gguf.tensor_beyond_file"}
    assert len(found) == 4
    assert "truncated" in found[0].text
    assert "more of this kind" in found[-1].text


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "gguf.truncated"),
        (b"GGUF", "gguf.truncated"),
        (b"PK\3\4" + bytes(90), "gguf.wrong_magic"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "gguf.old_version"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "gguf.big_endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), "gguf.count_too_large"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 60), "gguf.length_too_large"),
    ],
)
def test_broken_beginnings(tmp_path: Path, data: bytes, code: str) -> None:
    (tmp_path / "a.gguf").write_bytes(data)
    assert critical(tmp_path) == {code}


def test_a_big_endian_file_is_called_that(tmp_path: Path) -> None:
    write_gguf(tmp_path / "a.gguf", {"general.architecture": "llama"}, big_endian=True)
    [finding] = findings(tmp_path)
    assert finding.code == "gguf.big_endian"
    assert "version 3" in finding.text


def test_a_newer_version_is_a_warning(tmp_path: Path) -> None:
    data = bytearray(write_llama(tmp_path / "a.gguf").read_bytes())
    data[4] = 4
    (tmp_path / "a.gguf").write_bytes(data)
    [finding] = findings(tmp_path)
    assert (finding.code, finding.severity) == ("gguf.unknown_version", Severity.WARNING)


def test_version_2_is_sound(tmp_path: Path) -> None:
    data = bytearray(write_llama(tmp_path / "a.gguf").read_bytes())
    data[4] = 2
    (tmp_path / "a.gguf").write_bytes(data)
    assert findings(tmp_path) == []


KEYS: dict[str, tuple[dict[str, Any], str]] = {
    "no architecture": ({"general.architecture": None}, "missing_key"),
    "architecture is a number": ({"general.architecture": 5}, "missing_key"),
    "no context": ({"llama.context_length": None}, "missing_key"),
    "no layers": ({"llama.block_count": None}, "missing_key"),
    "no width": ({"llama.embedding_length": None}, "missing_key"),
    "no tokenizer": ({"tokenizer.ggml.model": None}, "missing_key"),
    "no tokens": ({"tokenizer.ggml.tokens": None}, "missing_key"),
    "no merges": ({"tokenizer.ggml.model": "gpt2"}, "missing_key"),
    "context is text": ({"llama.context_length": "long"}, "wrong_type"),
    "context is 64 bits wide": ({"llama.context_length": Typed(UINT64, 256)}, "wrong_type"),
    "tokens are numbers": ({"tokenizer.ggml.tokens": [1, 2]}, "wrong_type"),
    "scores are texts": ({"tokenizer.ggml.scores": ["a"] * 500}, "wrong_type"),
    "an id is text": ({"tokenizer.ggml.bos_token_id": "<s>"}, "wrong_type"),
    "no layer": ({"llama.block_count": 0}, "bad_value"),
    "too many layers": ({"llama.block_count": 513}, "bad_value"),
    "endless context": ({"llama.context_length": (1 << 32) - 1}, "bad_value"),
    "no heads": ({"llama.attention.head_count": 0}, "bad_value"),
    "heads that cannot be shared": ({"llama.attention.head_count_kv": 3}, "bad_value"),
    "heads for too many layers": ({"llama.attention.head_count": [4, 4, 4]}, "bad_value"),
    "a layer without heads": ({"llama.attention.head_count_kv": [2, 0]}, "bad_value"),
    "keys longer than values": ({"llama.attention.key_length": 32}, "bad_value"),
    "odd rotation": ({"llama.rope.dimension_count": 7}, "bad_value"),
    "rotation over the head": ({"llama.rope.dimension_count": 64}, "bad_value"),
    "unknown scaling": ({"llama.rope.scaling.type": "magic"}, "bad_value"),
    "negative epsilon": ({"llama.attention.layer_norm_rms_epsilon": -1.0}, "bad_value"),
    "epsilon is no number": ({"llama.attention.layer_norm_rms_epsilon": float("nan")}, "bad_value"),
    "experts that are not there": ({"llama.expert_used_count": 2}, "bad_value"),
    "experts that are not used": ({"llama.expert_count": 4}, "bad_value"),
    "unknown pooling": ({"llama.pooling_type": 5}, "bad_value"),
    "wide output": ({"llama.embedding_length_out": 1 << 30}, "bad_value"),
    "more predicted layers than layers": ({"llama.nextn_predict_layers": 3}, "bad_value"),
    "alignment 0": ({"general.alignment": 0}, "bad_alignment"),
    "alignment 48": ({"general.alignment": 48}, "bad_alignment"),
    "alignment 8": ({"general.alignment": 8}, "bad_alignment"),
    "alignment is signed": ({"general.alignment": Typed(INT32, 32)}, "wrong_type"),
    "few scores": ({"tokenizer.ggml.scores": [0.0, 1.0]}, "array_too_short"),
    "few token types": ({"tokenizer.ggml.token_type": [1, 2]}, "array_too_short"),
}


@pytest.mark.parametrize("name", KEYS)
def test_keys_that_make_no_sense(tmp_path: Path, name: str) -> None:
    extra, code = KEYS[name]
    write_llama(tmp_path / "a.gguf", extra=extra)
    assert f"gguf.{code}" in critical(tmp_path)


def test_an_id_outside_the_vocabulary_is_a_warning(tmp_path: Path) -> None:
    write_llama(tmp_path / "a.gguf", extra={"tokenizer.ggml.eos_token_id": 99_999})
    [finding] = findings(tmp_path)
    assert (finding.code, finding.severity) == ("gguf.bad_token_id", Severity.WARNING)


def test_two_tokens_with_one_text(tmp_path: Path) -> None:
    """llama.cpp asserts that there are none. Empty tokens are given a text of their own."""
    path = write_bert(tmp_path / "a.gguf")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"[MASK]", b"[EASK]"))
    assert findings(tmp_path) == []
    path.write_bytes(data.replace(b"[PAD]", b"[CLS]"))
    assert critical(tmp_path) == {"gguf.duplicate_token"}


def test_twins_are_found_in_any_vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large vocabularies are looked through in several rounds."""
    path = write_llama(tmp_path / "a.gguf")
    monkeypatch.setattr("anyform_gguf_llamacpp.vocabulary.BATCH", 50)
    assert findings(tmp_path) == []
    path.write_bytes(path.read_bytes().replace(b"<0x41>", b"<0x42>"))
    assert "gguf.duplicate_token" in critical(tmp_path)


def test_a_byte_without_a_token(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "a.gguf")
    path.write_bytes(path.read_bytes().replace(b"<0xC3>", b"<0xG3>"))
    [finding] = findings(tmp_path)
    assert finding.code == "gguf.missing_bytes"
    assert "0xC3" in finding.text


def test_byte_tokens_in_a_word_vocabulary(tmp_path: Path) -> None:
    keys = {"tokenizer.ggml.token_type": [3] * 5 + [6] * 500}
    write_bert(tmp_path / "a.gguf", extra=keys)
    assert critical(tmp_path) == {"gguf.bad_token_type"}


def _written(path: Path, *tensors: Tensor) -> Path:
    """A sound llama's keys with other tensors."""
    return write_gguf(path, {"general.architecture": "mamba", "general.type": "model"}, tensors)


SHAPES = {
    "removed type": (Tensor("a.weight", (32,), 4, bytes(128)), "bad_tensor_type"),
    "rows that are no blocks": (Tensor("a.weight", (31, 2), 8, bytes(128)), "bad_tensor_type"),
    "half-precision norm": (Tensor("output_norm.weight", (32,), F16, bytes(64)), "bad_tensor_type"),
    "integers as weights": (Tensor("output.weight", (32, 2), 26, bytes(256)), "bad_tensor_type"),
    "no elements": (Tensor("a.weight", (32, 0), F32, b""), "bad_shape"),
    "more than a number holds": (Tensor("a.weight", (1 << 40, 1 << 40), F32, bytes(128)), "bad_shape"),
    "beyond the file": (Tensor("a.weight", (1000,), F32, bytes(32)), "tensor_beyond_file"),
    "long name": (Tensor("a" * 64, (32,), F32, bytes(128)), "tensor_name_too_long"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_tensors_that_make_no_sense(tmp_path: Path, name: str) -> None:
    tensor, code = SHAPES[name]
    _written(tmp_path / "a.gguf", tensor)
    assert f"gguf.{code}" in critical(tmp_path)


def test_a_newer_tensor_type_is_a_warning(tmp_path: Path) -> None:
    keys, [first, *others] = llama()
    write_gguf(tmp_path / "a.gguf", keys, [replace(first, kind=99), *others])
    [finding] = findings(tmp_path)
    assert (finding.code, finding.severity) == ("gguf.unknown_tensor_type", Severity.WARNING)


def test_tensors_in_the_wrong_place(tmp_path: Path) -> None:
    first, second = Tensor("a.weight", (32,), F32, bytes(128)), Tensor("b.weight", (32,), F32, bytes(128))
    path = _written(tmp_path / "a.gguf", first, second)
    data = path.read_bytes()
    offset = struct.pack("<IQ", F32, 128)
    for wrong, code in (
        (64, "gguf.tensor_misplaced"),
        (4, "gguf.tensor_misaligned"),
        (1 << 50, "gguf.tensor_beyond_file"),
    ):
        path.write_bytes(data.replace(offset, struct.pack("<IQ", F32, wrong)))
        assert code in critical(tmp_path)


def test_twins_among_keys_and_tensors(tmp_path: Path) -> None:
    tensor = Tensor("a.weight", (32,), F32, bytes(128))
    path = write_gguf(
        tmp_path / "a.gguf", {"general.architecture": "mamba", "key.one": 1, "key.two": 2}, [tensor, tensor]
    )
    path.write_bytes(path.read_bytes().replace(b"key.two", b"key.one"))
    assert {"gguf.duplicate_key", "gguf.duplicate_tensor"} <= critical(tmp_path)


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_missing_shard_is_named(tmp_path: Path, gone: int) -> None:
    paths = write_split(tmp_path, "a", 3)
    paths[gone].unlink()
    missing = [finding for finding in findings(tmp_path) if finding.code == "gguf.missing_shard"]
    assert len(missing) == 1
    assert paths[gone].name in missing[0].text


def test_shards_that_do_not_belong_together(tmp_path: Path) -> None:
    one, two = write_split(tmp_path, "a", 2)
    swapped = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(swapped)
    assert "gguf.shard_mismatch" in critical(tmp_path)


def test_a_renamed_shard(tmp_path: Path) -> None:
    one, two = write_split(tmp_path, "a", 2)
    one.rename(tmp_path / "a.gguf")
    two.unlink()
    assert critical(tmp_path) == {"gguf.shard_mismatch"}


def test_a_shard_whose_number_has_another_type(tmp_path: Path) -> None:
    """llama.cpp asserts on it."""
    one, two = write_split(tmp_path, "a", 2)
    key = struct.pack("<Q", 8) + b"split.no"
    two.write_bytes(two.read_bytes().replace(key + struct.pack("<IH", UINT16, 1), key + struct.pack("<Ih", 3, 1)))
    assert critical(tmp_path) == {"gguf.shard_mismatch"}
    assert one.exists()


def test_a_tensor_in_two_shards(tmp_path: Path) -> None:
    one, two = write_split(tmp_path, "a", 2)
    assert b"blk.0.attn_norm.weight" in one.read_bytes()
    data = two.read_bytes()
    two.write_bytes(data.replace(b"blk.1.attn_norm.weight", b"blk.0.attn_norm.weight"))
    assert two.read_bytes() != data
    assert critical(tmp_path) == {"gguf.duplicate_tensor"}


@pytest.mark.parametrize(
    ("write", "code"),
    [(write_vocab_only, "vocab_only"), (write_mmproj, "companion"), (write_lora, "companion")],
)
def test_what_is_no_model(tmp_path: Path, write: Any, code: str) -> None:
    write(tmp_path / "x.gguf")
    assert critical(tmp_path) == {f"gguf.{code}"}


def test_a_broken_projector_is_found(tmp_path: Path) -> None:
    write_llama(tmp_path / "a.gguf")
    path = write_mmproj(tmp_path / "mmproj-F16.gguf")
    path.write_bytes(path.read_bytes()[:200])
    [finding] = findings(tmp_path)
    assert finding.severity is Severity.CRITICAL
    assert finding.text.startswith("mmproj-F16.gguf")


PROJECTORS: dict[str, tuple[dict[str, Any], str]] = {
    "no width": ({"clip.vision.embedding_length": None}, "missing_key"),
    "width is signed": ({"clip.vision.embedding_length": Typed(INT32, 32)}, "wrong_type"),
    "another width": ({"clip.vision.embedding_length": 64}, "bad_shape"),
    "no heads": ({"clip.vision.attention.head_count": 0}, "bad_value"),
    "heads that do not divide the width": ({"clip.vision.attention.head_count": 5}, "bad_value"),
    "more layers than there are": ({"clip.vision.block_count": 3}, "bad_shape"),
    "a patch over the picture": ({"clip.vision.patch_size": 64}, "bad_value"),
    "more patches than places": ({"clip.vision.image_size": 56}, "bad_shape"),
    "colours are numbers": ({"clip.vision.image_mean": [1, 1, 1]}, "wrong_type"),
    "two colours": ({"clip.vision.image_std": [0.5, 0.5]}, "bad_value"),
    "epsilon is no number": ({"clip.vision.attention.layer_norm_epsilon": float("nan")}, "bad_value"),
    "an encoder is a number": ({"clip.has_vision_encoder": 1}, "wrong_type"),
}


@pytest.mark.parametrize("name", PROJECTORS)
def test_projectors_that_make_no_sense(tmp_path: Path, name: str) -> None:
    extra, code = PROJECTORS[name]
    write_llama(tmp_path / "a.gguf")
    write_mmproj(tmp_path / "mmproj-F16.gguf", extra=extra)
    assert f"gguf.{code}" in critical(tmp_path)


def test_projectors_of_other_kinds_are_not_judged_by_their_shapes(tmp_path: Path) -> None:
    write_llama(tmp_path / "a.gguf")
    other = {"clip.projector_type": "gemma4uv", "clip.vision.attention.head_count": 0}
    write_mmproj(tmp_path / "mmproj-F16.gguf", extra=other)
    assert findings(tmp_path) == []


def test_a_sound_projector_has_no_findings(tmp_path: Path) -> None:
    write_llama(tmp_path / "a.gguf")
    write_mmproj(tmp_path / "mmproj-F16.gguf")
    assert findings(tmp_path) == []


def test_a_file_that_vanished(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "a.gguf")
    files = FolderFiles(tmp_path)
    [match] = plugin.detect_format(files)
    path.unlink()
    [finding] = plugin.validate(files, match)
    assert (finding.code, finding.severity) == ("gguf.unreadable", Severity.CRITICAL)
    assert plugin.extract_metadata(files, match).tasks == ()


def test_every_text_is_a_sentence(tmp_path: Path) -> None:
    for name, (extra, _) in KEYS.items():
        write_llama(tmp_path / name.replace(" ", "-") / "a.gguf", extra=extra)
    for finding in findings(tmp_path):
        assert finding.code.startswith("gguf.")
        assert finding.text.endswith(".")
        assert len(finding.text) < 300
