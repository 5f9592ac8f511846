"""Which models are found in a folder, and what they are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from anyform.contract.facts import Evidence, FormatMatch
from anyform.kernel.files import FolderFiles
from anyform.testing.damage import Remote, write_strangers
from anyform.testing.gguf import (
    F32,
    Tensor,
    llama_keys,
    write_bert,
    write_gguf,
    write_llama,
    write_lora,
    write_mmproj,
    write_split,
    write_vocab_only,
)
from anyform_gguf_llamacpp import detection, plugin


def detect(path: Path) -> list[FormatMatch]:
    found = plugin.detect_format(FolderFiles(path))
    assert len({(match.name, match.variant) for match in found}) == len(found)
    if path.is_dir():
        assert plugin.detect_format(Remote(path)) == found
    return found


def test_one_file(tmp_path: Path) -> None:
    write_llama(tmp_path / "tiny-Q8_0.gguf", quantization="Q8_0")
    [match] = detect(tmp_path)
    assert match.format == "gguf"
    assert match.entry == "tiny-Q8_0.gguf"
    assert match.files == ("tiny-Q8_0.gguf",)
    assert match.evidence is Evidence.MAGIC
    assert (match.name, match.variant) == ("tiny", "Q8_0")
    assert match.why == "GGUF version 3, llama, Q8_0"


def test_quantizations_are_variants_the_preferred_first(tmp_path: Path) -> None:
    for quantization in ("F32", "BF16", "F16", "IQ2_M", "Q2_K", "Q4_K_S", "Q4_K_M", "Q5_K_M", "Q8_0", "Q6_K", "Q3_K_M"):
        write_llama(tmp_path / f"tiny-{quantization}.gguf")
    found = detect(tmp_path)
    assert {match.name for match in found} == {"tiny"}
    assert [match.variant for match in sorted(found, key=lambda match: match.order)] == [
        "Q4_K_M", "Q5_K_M", "Q8_0", "Q6_K", "Q4_K_S", "Q3_K_M", "Q2_K", "F16", "BF16", "F32", "IQ2_M",
    ]  # fmt: skip


def test_a_quantization_that_only_the_header_tells(tmp_path: Path) -> None:
    """llama-quantize writes the file type last, after the vocabulary."""
    keys = llama_keys("Q8_0", context=64, layers=1, embedding=64, heads=4, kv_heads=2, feed_forward=96)
    last = keys.pop("general.file_type")
    words = {"tokenizer.ggml.tokens": [f"token {number}" for number in range(10_000)]}
    weight = Tensor("token_embd.weight", (32,), F32, bytes(128))
    write_gguf(tmp_path / "tiny.gguf", keys | words | {"general.file_type": last}, [weight])
    [alone] = detect(tmp_path)
    assert alone.variant == ""
    write_llama(tmp_path / "tiny-F16.gguf")
    assert {match.variant for match in detect(tmp_path)} == {"F16", "Q8_0"}


def test_a_quantization_that_nothing_tells(tmp_path: Path) -> None:
    write_llama(tmp_path / "tiny.gguf", extra={"general.file_type": None})
    write_llama(tmp_path / "tiny-F16.gguf")
    assert {match.variant for match in detect(tmp_path)} == {"F16", "tiny"}


def test_a_quantization_that_name_and_header_tell_twice(tmp_path: Path) -> None:
    write_llama(tmp_path / "tiny.gguf", quantization="F16")
    write_llama(tmp_path / "tiny-F16.gguf", quantization="F16")
    assert {match.variant for match in detect(tmp_path)} == {"tiny", "tiny-F16"}


def test_different_models_have_their_own_names(tmp_path: Path) -> None:
    write_llama(tmp_path / "tiny-F16.gguf")
    write_bert(tmp_path / "words.gguf")
    assert {(match.name, match.variant) for match in detect(tmp_path)} == {("tiny", "F16"), ("words", "")}


@pytest.mark.parametrize("stem", ["model", "ggml-model-f16", "F16"])
def test_names_that_say_nothing(tmp_path: Path, stem: str) -> None:
    write_llama(tmp_path / f"{stem}.gguf")
    [match] = detect(tmp_path)
    assert match.name == ""


def test_shards_are_one_model(tmp_path: Path) -> None:
    paths = write_split(tmp_path, "tiny-F16", 3)
    [match] = detect(tmp_path)
    assert (match.name, match.variant) == ("tiny", "F16")
    assert match.entry == paths[0].name
    assert match.files == tuple(path.name for path in paths)
    assert "3 shards" in match.why


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_missing_shard_leaves_the_model(tmp_path: Path, gone: int) -> None:
    paths = write_split(tmp_path, "tiny-F16", 3)
    paths[gone].unlink()
    [match] = detect(tmp_path)
    left = [path.name for path in paths if path != paths[gone]]
    assert match.entry == left[0]
    assert match.files == tuple(left)
    assert detection.missing_shards(match.entry, left) == [paths[gone].name]


def test_quantizations_in_folders_of_their_own(tmp_path: Path) -> None:
    write_split(tmp_path / "Q8_0", "tiny-Q8_0", 2, quantization="Q8_0")
    write_llama(tmp_path / "F16" / "tiny-F16.gguf")
    assert {(match.entry, match.variant) for match in detect(tmp_path)} == {
        ("F16/tiny-F16.gguf", "F16"),
        ("Q8_0/tiny-Q8_0-00001-of-00002.gguf", "Q8_0"),
    }


def test_one_name_in_several_folders_stays_apart(tmp_path: Path) -> None:
    write_llama(tmp_path / "a" / "tiny-F16.gguf")
    write_llama(tmp_path / "b" / "tiny-F16.gguf")
    assert {match.variant for match in detect(tmp_path)} == {"a/tiny-F16", "b/tiny-F16"}


def test_a_projector_belongs_to_the_model_beside_it(tmp_path: Path) -> None:
    write_llama(tmp_path / "seer-Q8_0.gguf", quantization="Q8_0")
    write_llama(tmp_path / "seer-F16.gguf")
    for name in ("mmproj-F32", "mmproj-F16", "mmproj-BF16"):
        write_mmproj(tmp_path / f"{name}.gguf")
    found = detect(tmp_path)
    assert {match.files for match in found} == {
        ("seer-F16.gguf", "mmproj-F16.gguf"),
        ("seer-Q8_0.gguf", "mmproj-F16.gguf"),
    }


def test_among_several_models_a_projector_is_matched_by_name(tmp_path: Path) -> None:
    write_llama(tmp_path / "seer-F16.gguf")
    write_llama(tmp_path / "other-F16.gguf")
    write_bert(tmp_path / "words-F16.gguf")
    write_mmproj(tmp_path / "mmproj-seer-F16.gguf")
    assert {match.files for match in detect(tmp_path)} == {
        ("seer-F16.gguf", "mmproj-seer-F16.gguf"),
        ("other-F16.gguf",),
        ("words-F16.gguf",),
    }


def test_projectors_and_models_of_other_folders_do_not_mix(tmp_path: Path) -> None:
    write_llama(tmp_path / "a" / "seer-F16.gguf")
    write_mmproj(tmp_path / "b" / "mmproj-F16.gguf")
    assert {match.files for match in detect(tmp_path)} == {("a/seer-F16.gguf",), ("b/mmproj-F16.gguf",)}


def test_a_projector_is_known_by_what_it_holds(tmp_path: Path) -> None:
    write_llama(tmp_path / "seer.gguf")
    write_mmproj(tmp_path / "eyes.gguf")
    [match] = detect(tmp_path)
    assert match.files == ("seer.gguf", "eyes.gguf")


def test_companions_are_shown_only_alone(tmp_path: Path) -> None:
    write_lora(tmp_path / "style.gguf")
    write_gguf(tmp_path / "tiny-imatrix.gguf", {"general.type": "imatrix", "imatrix.chunk_count": 1})
    write_mmproj(tmp_path / "mmproj-F16.gguf")
    alone = detect(tmp_path)
    assert {match.name for match in alone} == {"style", "tiny-imatrix", "mmproj-F16"}
    assert all("not a model" in match.why for match in alone)
    write_llama(tmp_path / "tiny-F16.gguf")
    [match] = detect(tmp_path)
    assert match.files == ("tiny-F16.gguf", "mmproj-F16.gguf")


def test_a_vocabulary_comes_after_models(tmp_path: Path) -> None:
    write_vocab_only(tmp_path / "ggml-vocab-tiny.gguf")
    write_llama(tmp_path / "tiny-IQ1_S.gguf")
    first, second = sorted(detect(tmp_path), key=lambda match: match.order)
    assert first.entry == "tiny-IQ1_S.gguf"
    assert "a vocabulary without a model" in second.why


@pytest.mark.parametrize("name", ["sha256-0123abcd", "tiny.bin", "tiny.GGUF"])
def test_other_names_are_known_by_magic(tmp_path: Path, name: str) -> None:
    write_llama(tmp_path / name)
    [match] = detect(tmp_path)
    assert match.evidence is Evidence.MAGIC


@pytest.mark.parametrize("data", [b"", b"GG", b"PK\3\4" + bytes(100), bytes(5000)])
def test_a_wrong_gguf_is_known_by_its_name_only(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.gguf").write_bytes(data)
    (tmp_path / "x.bin").write_bytes(data)
    (tmp_path / "x").write_bytes(data)
    [match] = detect(tmp_path)
    assert match.entry == "x.gguf"
    assert match.evidence is Evidence.NAME


def test_strangers_are_left_alone(tmp_path: Path) -> None:
    write_strangers(tmp_path)
    assert detect(tmp_path) == []


def test_naming_a_file_finds_its_siblings(tmp_path: Path) -> None:
    paths = write_split(tmp_path, "tiny-F16", 2)
    [match] = detect(paths[1])
    assert match.entry == paths[0].name


def test_little_is_read(tmp_path: Path) -> None:
    """A remote listing pays for each byte: one small head a file is enough for ordinary names."""
    write_vocab_only(tmp_path / "big.gguf", tokens=100_000)
    write_llama(tmp_path / "tiny-F16.gguf")
    files = _Counting(tmp_path)
    assert len(detection.detect(files)) == 2
    assert files.asked == {"big.gguf": [4096], "tiny-F16.gguf": [4096]}


class _Counting(Remote):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked: dict[str, list[int]] = {}

    def head(self, name: str, size: int = 4096) -> bytes:
        self.asked.setdefault(name, []).append(size)
        return super().head(name, size)


def test_general_keys_may_come_late(tmp_path: Path) -> None:
    """The head grows until it tells what the file is."""
    keys = {f"general.base_model.{number}.name": "x" * 100 for number in range(300)}
    write_gguf(tmp_path / "x.gguf", {**keys, "general.architecture": "clip", "a": 1})
    [match] = detect(tmp_path)
    assert "projector" in match.why
