"""What the writer of ONNX decoders writes, layout by layout; read without an engine."""

from __future__ import annotations

import json
import struct
from array import array
from pathlib import Path

import pytest

from anyform.kernel.files import FolderFiles
from anyform.onnx import graph as onnx
from anyform.onnx.graph import Model
from anyform.testing.onnxdecoder import write_decoder
from anyform.testing.onnxlayer import Weights, quantized, read_weights, transposed
from anyform.testing.safetensors import Tensor, byte_words, write_llama

LAYERS = range(2)


def read(folder: Path, name: str = "model.onnx") -> Model:
    found = onnx.read(FolderFiles(folder), name)
    assert found.whole
    assert not found.troubles
    return found


def shapes(values: list[onnx.Value]) -> dict[str, tuple[int | str, ...]]:
    return {one.name: one.shape for one in values}


def test_optimum_s_names_and_shapes(tmp_path: Path) -> None:
    found = read(write_decoder(tmp_path))
    past = {f"past_key_values.{n}.{kind}" for n in LAYERS for kind in ("key", "value")}
    given, returned = shapes(found.inputs), shapes(found.outputs)
    assert set(given) == {"input_ids", "attention_mask", "position_ids", *past}
    assert set(returned) == {"logits", *(name.replace("past_key_values", "present") for name in past)}
    assert given["past_key_values.1.value"] == ("batch_size", 2, "past_sequence_length", 16)
    assert returned["logits"] == ("batch_size", "sequence_length", byte_words()["vocab_size"])
    assert found.opsets == {"": 17}


def test_genai_s_graph_and_what_its_config_says_of_it(tmp_path: Path) -> None:
    found = read(write_decoder(tmp_path, layout="onnx_genai"))
    config = json.loads((tmp_path / "genai_config.json").read_text("utf-8"))
    decoder = config["model"]["decoder"]
    assert found.operators["com.microsoft.GroupQueryAttention"] == decoder["num_hidden_layers"] == len(LAYERS)
    assert "position_ids" not in shapes(found.inputs)
    shape = shapes(found.inputs)[decoder["inputs"]["past_key_names"] % 1]
    assert shape == ("batch_size", decoder["num_key_value_heads"], "past_sequence_length", decoder["head_size"])
    assert shapes(found.outputs)["logits"][-1] == config["model"]["vocab_size"]
    assert config["model"]["eos_token_id"] == byte_words()["eos_token_id"]
    assert {one.location for one in found.external} == {"model.onnx.data"}


@pytest.mark.parametrize(("padded", "batch"), [(False, 1), (True, "s3")])
def test_transformers_two_graphs(tmp_path: Path, padded: bool, batch: int | str) -> None:
    write_decoder(tmp_path, layout="onnx_export", padded=padded)
    files = {
        name: one["file"] for name, one in json.loads((tmp_path / "export.json").read_text())["components"].items()
    }
    prefill, decode = read(tmp_path, files["prefill"]), read(tmp_path, files["decode"])
    assert ("attention_mask" in shapes(prefill.inputs)) is ("attention_mask" in shapes(decode.inputs)) is padded
    assert not [name for name in shapes(prefill.inputs) if "past" in name]
    assert shapes(decode.inputs)["input_ids"] == (batch, 1)
    kept = {name for name in shapes(decode.inputs) if name.startswith("input.past_key_values.layers.")}
    assert {f"input.{name}" for name in shapes(prefill.outputs) if name != "logits"} == kept
    assert {name.replace("output.", "input.") for name in shapes(decode.outputs) if name != "logits"} == kept


def test_variants_lie_in_one_folder(tmp_path: Path) -> None:
    write_decoder(tmp_path, entry="onnx/model.onnx", external=True)
    write_decoder(tmp_path, entry="onnx/model_quantized.onnx", precision="I8")
    write_decoder(tmp_path, entry="onnx/model_fp16.onnx", precision="F16", opset=21)
    plain, small, half = (read(tmp_path, f"onnx/model{end}.onnx") for end in ("", "_quantized", "_fp16"))
    assert {one.location for one in plain.external} == {"model.onnx_data"}
    assert small.operators["MatMulInteger"] == 7 * len(LAYERS) + 1
    assert {one.dtype for one in half.inputs if one.name.startswith("past")} == {"F16"}
    assert half.opsets == {"": 21}
    assert half.weight_bytes < plain.weight_bytes / 1.9


def test_a_source_s_weights_and_tokenizer_are_taken(tmp_path: Path) -> None:
    source = write_llama(tmp_path / "source", shards=2, template="{{ messages }}")
    folder = write_decoder(tmp_path / "made", source, external=False)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (folder / name).read_bytes() == (source / name).read_bytes()
    table = read_weights(source).floats("model.embed_tokens.weight").tobytes()
    assert table in (folder / "model.onnx").read_bytes()


def test_a_quantized_table_that_is_tied_is_there_twice(tmp_path: Path) -> None:
    found = read(write_decoder(tmp_path, precision="I8"))
    assert found.operators["Gather"] >= 1
    elements = byte_words()["vocab_size"] * 16
    assert found.weights["I8"].elements > elements
    assert found.weights["F32"].elements > elements


def test_heads_that_the_operator_does_not_take_are_widened(tmp_path: Path) -> None:
    write_decoder(tmp_path, layout="onnx_genai", head_dim=4)
    assert json.loads((tmp_path / "genai_config.json").read_text())["model"]["decoder"]["head_size"] == 16


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"layout": "other"}, "the layout is other"),
        ({"precision": "I3"}, "the precision is I3"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "scaled by yarn"),
        ({"layout": "onnx_genai", "model_type": "qwen3", "head_dim": 4}, "heads of 4 that have norms"),
    ],
)
def test_what_it_does_not_know_is_said(tmp_path: Path, said: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        write_decoder(tmp_path, **said)  # type: ignore[arg-type]


def test_halves_and_short_floats_are_read_as_floats() -> None:
    values = [1.5, -2.0, 0.25]
    wide = struct.pack("<3f", *values)
    short = b"".join(wide[at + 2 : at + 4] for at in (0, 4, 8))
    kinds = {"F32": wide, "F16": struct.pack("<3e", *values), "BF16": short}
    weights = Weights([Tensor(kind, (3,), kind, data) for kind, data in kinds.items()])
    assert {kind: weights.floats(kind).tolist() for kind in kinds} == dict.fromkeys(kinds, values)
    with pytest.raises(ValueError, match="I64"):
        Weights([Tensor("x", (1,), "I64", bytes(8))]).floats("x")


def test_a_matrix_is_turned() -> None:
    assert transposed(array("f", range(6)), 2, 3).tolist() == [0, 3, 1, 4, 2, 5]


def test_each_row_is_quantized_by_its_own_scale() -> None:
    values = array("f", [1.0, -2.0, 0.5, 0.0, 0.0, 0.0, 100.0, 50.0, -25.0])
    small, scales = quantized(values, 3, 3)
    assert max(map(abs, small)) == 127
    assert small[3:6].tolist() == [0, 0, 0]
    back = [small[place] * scales[place // 3] for place in range(9)]
    assert all(
        abs(one - other) <= scales[at // 3] * 0.501 for at, (one, other) in enumerate(zip(back, values, strict=True))
    )
