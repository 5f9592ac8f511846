"""Which models are found in a folder, by what name, and what is left alone."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Evidence, FormatMatch
from anyform.kernel.files import FolderFiles
from anyform.testing.damage import Remote, write_strangers
from anyform.testing.safetensors import (
    tensor,
    write_adapter,
    write_bert,
    write_json,
    write_llama,
    write_modules,
    write_pickled,
    write_safetensors,
    write_sharded,
)
from anyform_hf_transformers import detection

WEIGHTS = [tensor("a.weight", 2, 2)]


def detect(path: Path) -> list[FormatMatch]:
    return detection.detect(FolderFiles(path))


def write_config(folder: Path, **content: Any) -> Path:
    return write_json(folder / "config.json", {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **content})


def test_a_file(tmp_path: Path) -> None:
    write_llama(tmp_path)
    [match] = detect(tmp_path)
    assert (match.format, match.entry, match.name, match.variant) == ("safetensors", "model.safetensors", "", "")
    assert match.evidence is Evidence.LAYOUT
    assert match.why == "model.safetensors, LlamaForCausalLM"
    assert set(match.files) == {
        "model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pickled", "format", "entry"),
    [(False, "safetensors", "model.safetensors.index.json"), (True, "pytorch", "pytorch_model.bin.index.json")],
)
def test_shards_with_their_index(tmp_path: Path, pickled: bool, format: str, entry: str) -> None:
    write_llama(tmp_path, shards=3, pickled=pickled)
    [match] = detect(tmp_path)
    assert (match.format, match.entry) == (format, entry)
    assert sum("-of-00003." in name for name in match.files) == 3


def test_shards_without_an_index(tmp_path: Path) -> None:
    write_llama(tmp_path, shards=2)
    (tmp_path / "model.safetensors.index.json").unlink()
    [match] = detect(tmp_path)
    assert match.entry == "model-00001-of-00002.safetensors"


def test_an_index_whose_shards_have_other_names(tmp_path: Path) -> None:
    write_config(tmp_path)
    write_safetensors(tmp_path / "part_a.safetensors", WEIGHTS)
    write_json(tmp_path / "model.safetensors.index.json", {"weight_map": {"a.weight": "part_a.safetensors"}})
    [match] = detect(tmp_path)
    assert "part_a.safetensors" in match.files


def test_an_index_alone_is_a_model_that_is_not_whole(tmp_path: Path) -> None:
    write_llama(tmp_path, shards=2)
    for path in tmp_path.glob("*-of-*"):
        path.unlink()
    [match] = detect(tmp_path)
    assert match.files[0] == match.entry == "model.safetensors.index.json"


def test_a_pickle_beside_safetensors_is_one_more_form_of_the_same(tmp_path: Path) -> None:
    write_llama(tmp_path)
    write_llama(tmp_path, pickled=True)
    first, second = detect(tmp_path)
    assert (first.format, second.format) == ("safetensors", "pytorch")
    assert (first.name, first.variant) == (second.name, second.variant) == ("", "")
    assert first.order < second.order


def test_variants(tmp_path: Path) -> None:
    write_llama(tmp_path)
    shutil.copy(tmp_path / "model.safetensors", tmp_path / "model.fp16.safetensors")
    shutil.copy(tmp_path / "model.safetensors", tmp_path / "model.fp8.safetensors")
    found = {match.entry: (match.variant, match.order) for match in detect(tmp_path)}
    assert found == {
        "model.safetensors": ("F32", 100),
        "model.fp16.safetensors": ("F16", 101),
        "model.fp8.safetensors": ("FP8", 101),
    }


def test_sharded_variants(tmp_path: Path) -> None:
    write_config(tmp_path)
    write_sharded(tmp_path, WEIGHTS * 2, 2)
    for number in (1, 2):
        shutil.copy(
            tmp_path / f"model-{number:05}-of-00002.safetensors",
            tmp_path / f"model.fp16-{number:05}-of-00002.safetensors",
        )
    shutil.copy(tmp_path / "model.safetensors.index.json", tmp_path / "model.safetensors.index.fp16.json")
    main, half = detect(tmp_path)
    assert (main.entry, half.entry) == ("model.safetensors.index.json", "model.safetensors.index.fp16.json")
    assert half.files[1:3] == ("model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors")
    assert (main.variant, half.variant) == ("F32", "F16")


def test_a_variant_alone_needs_no_name(tmp_path: Path) -> None:
    write_config(tmp_path)
    write_safetensors(tmp_path / "model.fp16.safetensors", WEIGHTS)
    [match] = detect(tmp_path)
    assert match.variant == ""


def test_two_variants_of_one_precision_are_told_apart(tmp_path: Path) -> None:
    write_config(tmp_path, torch_dtype="float16")
    for name in ("model.safetensors", "model.fp16.safetensors"):
        write_safetensors(tmp_path / name, WEIGHTS)
    assert [match.variant for match in detect(tmp_path)] == ["main", "F16"]


def test_the_modules_of_an_encoder_belong_to_it(tmp_path: Path) -> None:
    write_bert(tmp_path, pooling="mean")
    write_safetensors(tmp_path / "2_Dense" / "model.safetensors", WEIGHTS)
    write_json(tmp_path / "2_Dense" / "config.json", {"model_type": "bert"})
    listed = FolderFiles(tmp_path).head("modules.json", 10_000).decode()
    (tmp_path / "modules.json").write_text(listed.replace("2_Normalize", "2_Dense").replace("models.Norm", "models.D"))
    [match] = detect(tmp_path)
    assert match.entry == "model.safetensors"
    assert {"modules.json", "1_Pooling/config.json", "2_Dense/model.safetensors"} <= set(match.files)


def test_an_encoder_in_a_folder_of_its_own_module(tmp_path: Path) -> None:
    write_bert(tmp_path / "0_Transformer")
    write_modules(tmp_path, "mean")
    listed = (tmp_path / "modules.json").read_text()
    (tmp_path / "modules.json").write_text(listed.replace('"path": ""', '"path": "0_Transformer"'))
    [match] = detect(tmp_path)
    assert match.entry == "0_Transformer/model.safetensors"
    assert match.name == ""
    assert {"modules.json", "1_Pooling/config.json", "0_Transformer/config.json"} <= set(match.files)


def test_an_adapter(tmp_path: Path) -> None:
    write_adapter(tmp_path, base="owner/model")
    [match] = detect(tmp_path)
    assert (match.format, match.entry, match.variant) == ("peft", "adapter_model.safetensors", "adapter")
    assert match.why.endswith("an adapter for owner/model")


def test_an_adapter_beside_its_model_comes_after_it(tmp_path: Path) -> None:
    write_llama(tmp_path)
    write_adapter(tmp_path)
    model, adapter = sorted(detect(tmp_path), key=lambda match: match.order)
    assert (model.format, adapter.format) == ("safetensors", "peft")
    assert not {"adapter_model.safetensors", "adapter_config.json"} & set(model.files)


def test_models_in_folders_below_have_names(tmp_path: Path) -> None:
    write_llama(tmp_path)
    write_llama(tmp_path / "checkpoint-500")
    assert {match.name for match in detect(tmp_path)} == {"", "checkpoint-500"}


def test_the_parts_of_a_diffusers_pipeline_are_no_models(tmp_path: Path) -> None:
    write_json(tmp_path / "model_index.json", {"_class_name": "StableDiffusionPipeline"})
    write_bert(tmp_path / "text_encoder")
    assert detect(tmp_path) == []


@pytest.mark.parametrize(
    "names",
    [
        ("config.json", "onnx/model.onnx"),
        ("config.json", "model.bin", "tokenizer.json", "vocabulary.json"),
        ("config.json", "tf_model.h5"),
        ("consolidated.safetensors", "params.json"),
        ("model.safetensors",),
        ("lora.safetensors", "config.json"),
    ],
    ids=["onnx", "ctranslate2", "tensorflow", "mistral's own", "no config, no tokenizer", "another name"],
)
def test_what_is_not_for_transformers_is_left_alone(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        write_json(tmp_path / name, {"architectures": ["X"], "model_type": "x"})
    assert detect(tmp_path) == []


def test_a_config_of_something_else_is_left_alone(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model.safetensors", WEIGHTS)
    write_json(tmp_path / "config.json", {"architecture": "vit_base_patch16_224", "num_classes": 1000})
    assert detect(tmp_path) == []


def test_strangers_are_left_alone(tmp_path: Path) -> None:
    write_strangers(tmp_path)
    assert detect(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe"])
def test_a_broken_config_is_recognised_by_names_only(tmp_path: Path, content: bytes) -> None:
    write_llama(tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    [match] = detect(tmp_path)
    assert match.evidence is Evidence.NAME
    assert "config.json" in match.why


def test_a_missing_config_is_noticed_where_a_tokenizer_is(tmp_path: Path) -> None:
    write_llama(tmp_path)
    (tmp_path / "config.json").unlink()
    [match] = detect(tmp_path)
    assert match.evidence is Evidence.NAME


def test_code_that_comes_with_a_model_belongs_to_it(tmp_path: Path) -> None:
    write_llama(tmp_path, auto_map={"AutoModelForCausalLM": "modeling_odd.OddForCausalLM"}, model_type="odd")
    (tmp_path / "modeling_odd.py").write_text("")
    [match] = detect(tmp_path)
    assert "modeling_odd.py" in match.files


def test_no_weights_are_read(tmp_path: Path) -> None:
    write_llama(tmp_path, shards=2)
    write_pickled(tmp_path / "pytorch_model.bin", WEIGHTS)
    files = _Counting(tmp_path)
    assert len(detection.detect(files)) == 2
    assert files.asked == {"config.json"}


class _Counting(Remote):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked: set[str] = set()

    def head(self, name: str, size: int = 4096) -> bytes:
        self.asked.add(name)
        return super().head(name, size)

    def json(self, name: str) -> Any:
        self.asked.add(name)
        return super().json(name)


def test_a_thousand_folders_are_looked_at_within_two_seconds(tmp_path: Path) -> None:
    """Of which most goes to the operating system; listing remembers the answers besides."""
    write_llama(tmp_path / "0")
    for number in range(1, 100):
        shutil.copytree(tmp_path / "0", tmp_path / str(number))
    listed = [FolderFiles(folder) for folder in tmp_path.iterdir()] * 10
    for files in listed:
        assert files.files
    began = time.process_time()
    assert all(len(detection.detect(files)) == 1 for files in listed)
    assert time.process_time() - began < 2
