"""What the writer of ONNX encoders writes; read without an engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anyform.kernel.files import FolderFiles
from anyform.onnx import graph as onnx
from anyform.testing.onnxencoder import write_encoder
from anyform.testing.safetensors import write_bert

INPUTS = ["input_ids", "attention_mask", "token_type_ids"]


def outputs(folder: Path, name: str = "model.onnx") -> dict[str, tuple[int | str, ...]]:
    found = onnx.read(FolderFiles(folder), name)
    assert found.whole
    assert not found.troubles
    assert [one.name for one in found.inputs] == INPUTS
    return {one.name: one.shape for one in found.outputs}


def test_an_encoder_gives_each_token_s_numbers(tmp_path: Path) -> None:
    assert outputs(write_encoder(tmp_path, pooling="mean")) == {
        "last_hidden_state": ("batch_size", "sequence_length", 16)
    }
    assert json.loads((tmp_path / "modules.json").read_text("utf-8"))[1]["path"] == "1_Pooling"
    assert (tmp_path / "1_Pooling/config.json").is_file()


def test_sentence_transformers_two_outputs(tmp_path: Path) -> None:
    found = outputs(write_encoder(tmp_path, output="sentence_embedding"))
    assert found["sentence_embedding"] == ("batch_size", 16)
    assert found["token_embeddings"] == ("batch_size", "sequence_length", 16)


@pytest.mark.parametrize("labels", [("one",), ("bad", "good", "neither")])
def test_a_classifier_gives_a_number_for_each_label(tmp_path: Path, labels: tuple[str, ...]) -> None:
    assert outputs(write_encoder(tmp_path, labels=labels)) == {"logits": ("batch_size", len(labels))}
    assert json.loads((tmp_path / "config.json").read_text("utf-8"))["id2label"]["0"] == labels[0]


def test_variants_and_sources(tmp_path: Path) -> None:
    source = write_bert(tmp_path / "source", pooling="cls")
    folder = tmp_path / "made"
    write_encoder(folder, source, entry="onnx/model.onnx", external=True)
    write_encoder(folder, source, entry="onnx/model_int8.onnx", precision="I8", opset=21)
    assert outputs(folder, "onnx/model.onnx") == outputs(folder, "onnx/model_int8.onnx")
    assert (folder / "onnx/model.onnx_data").is_file()
    small = onnx.read(FolderFiles(folder), "onnx/model_int8.onnx")
    assert small.operators["MatMulInteger"] == 12
    assert small.operators["DynamicQuantizeLinear"] == 8
    assert (folder / "modules.json").read_bytes() == (source / "modules.json").read_bytes()


def test_token_types_may_be_left_out(tmp_path: Path) -> None:
    write_encoder(tmp_path, token_types=False)
    found = onnx.read(FolderFiles(tmp_path), "model.onnx")
    assert [one.name for one in found.inputs] == INPUTS[:2]


def test_what_it_does_not_know_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the head is other"):
        write_encoder(tmp_path, head="other")
    with pytest.raises(ValueError, match="the output pooled"):
        write_encoder(tmp_path, output="pooled")
