"""What is read of ONNX models without an engine: numbers, lengths, tasks, and what lies beside the graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Metadata
from anyform.kernel.files import FolderFiles
from anyform.testing.onnx import Graph, write_onnx
from anyform.testing.onnxdecoder import write_decoder
from anyform.testing.onnxencoder import write_encoder
from anyform.testing.onnxpicture import LABELS, SIDE, write_classifier, write_dual
from anyform.testing.safetensors import write_bert
from anyform_onnx import detection, metadata

TOOLS = "{% if tools %}{{ tools }}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}{{ enable_thinking }}"


def described(folder: Path, variant: str = "") -> Metadata:
    """Of the model of *folder* whose variant is that; else of the only one."""
    files = FolderFiles(folder)
    found = detection.detect(files)
    [match] = [one for one in found if one.variant == variant or len(found) == 1]
    return metadata.extract(files, match)


def stated(path: Path, **more: Any) -> None:
    """Lay *more* over the JSON object in *path*."""
    said = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**said, **more}))


@pytest.mark.parametrize("layout", ["onnx", "onnx_genai", "onnx_export"])
def test_a_decoder_in_three_layouts(tmp_path: Path, layout: str) -> None:
    found = described(write_decoder(tmp_path / "m", layout=layout, template=TOOLS, max_position_embeddings=96))
    assert found.tasks == ("chat", "complete")
    assert found.features == ("tools", "thinking")
    assert (found.architecture, found.quantization, found.context) == ("llama", "F32", 96)
    assert found.version == f"opset {found.extra['opset']}"
    facts = found.extra
    assert facts["role"] == "decoder"
    assert (facts["layers"], facts["heads"], facts["kv_heads"]) == (2, 4, 2)
    assert facts["cache_bytes"] == 2 * 2 * 2 * facts["head_size"] * 4
    assert facts["inputs"]["input_ids"]["dtype"] == "I64"
    assert facts["chat_template"] == TOOLS
    assert found.vocab_size
    assert facts["outputs"]["logits"]["shape"][-1] == found.vocab_size
    assert facts["special_tokens"]["eos"]
    assert json.loads(json.dumps(dict(facts))) == dict(facts)


def test_caches_are_told_once(tmp_path: Path) -> None:
    inputs = described(write_decoder(tmp_path / "m")).extra["inputs"]
    assert set(inputs) == {
        "input_ids", "attention_mask", "position_ids", "past_key_values.*.key", "past_key_values.*.value",
    }  # fmt: skip
    assert inputs["past_key_values.*.key"]["count"] == 2
    assert inputs["past_key_values.*.key"]["shape"][1] == 2


def test_weights_are_counted_wherever_they_lie(tmp_path: Path) -> None:
    inside, outside = described(write_decoder(tmp_path / "a")), described(write_decoder(tmp_path / "b", external=True))
    assert inside.parameters == outside.parameters
    assert inside.weight_bytes == outside.weight_bytes
    assert "external_bytes" not in inside.extra
    lies = (tmp_path / "b/model.onnx_data").stat().st_size
    assert 0 < outside.extra["external_bytes"] <= lies
    assert inside.weight_bytes
    assert inside.parameters
    assert inside.parameters <= inside.weight_bytes // 4


def test_two_graphs_of_one_network_have_its_parameters_once_and_their_bytes_twice(tmp_path: Path) -> None:
    found = described(write_decoder(tmp_path / "m", layout="onnx_export"))
    assert found.weight_bytes
    assert found.parameters
    assert found.weight_bytes > 1.5 * 4 * found.parameters
    assert found.extra["graphs"] == {"decode": "decode.onnx", "prefill": "prefill.onnx"}


@pytest.mark.parametrize(
    ("variant", "precision", "called"), [("fp16", "F16", "F16"), ("int8", "I8", "INT8"), ("", "F32", "F32")]
)
def test_quantizations_by_what_lies_in_the_file(tmp_path: Path, variant: str, precision: str, called: str) -> None:
    entry = f"onnx/model_{variant}.onnx" if variant else "onnx/model.onnx"
    found = described(write_decoder(tmp_path / "m", entry=entry, precision=precision), variant)
    assert found.quantization == called
    whole = described(write_decoder(tmp_path / "whole"))
    assert found.parameters
    assert whole.parameters
    assert whole.parameters <= found.parameters < 1.5 * whole.parameters  # quantized, the output is a matrix of its own


def test_a_genai_config_says_more_than_config_json(tmp_path: Path) -> None:
    folder = write_decoder(tmp_path / "m", layout="onnx_genai")
    said = json.loads((folder / "genai_config.json").read_text())
    said["model"] |= {"context_length": 77, "vocab_size": 999, "type": "qwen3"}
    said["model"]["decoder"]["session_options"] = {"provider_options": [{"cuda": {"enable_cuda_graph": "0"}}]}
    said["search"] |= {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95}
    (folder / "genai_config.json").write_text(json.dumps(said))
    (folder / "config.json").unlink()
    (folder / "generation_config.json").unlink(missing_ok=True)
    found = described(folder)
    assert (found.context, found.vocab_size, found.architecture) == (77, 999, "qwen3")
    assert found.extra["providers"] == ["cuda"]
    assert found.extra["sampling"]["temp"] == 0.6
    assert found.extra["sampling"]["top_k"] == 20
    assert found.extra["shares_cache"] is True


def test_a_builders_defaults_are_no_sampling(tmp_path: Path) -> None:
    folder = write_decoder(tmp_path / "m", layout="onnx_genai")
    (folder / "generation_config.json").unlink(missing_ok=True)
    assert "sampling" not in described(folder).extra


def test_an_embedding_model_beside_its_modules(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "m", entry="onnx/model.onnx", pooling="cls")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    stated(folder / "sentence_bert_config.json", max_seq_length=24)
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"})
    (folder / "modules.json").write_text(json.dumps(modules))
    stated(folder / "config_sentence_transformers.json", prompts={"query": "query: ", "document": ""})
    found = described(folder)
    assert (found.tasks, found.context, found.license) == (("embed",), 24, "apache-2.0")
    facts = found.extra
    assert (facts["role"], facts["pooling"], facts["normalize"], facts["max_tokens"]) == ("embedding", "cls", True, 24)
    assert facts["dimensions"] == facts["outputs"]["last_hidden_state"]["shape"][-1]
    assert facts["prompts"] == {"query": "query: ", "document": ""}
    assert "pooled" not in facts


def test_a_graph_that_pools_by_itself(tmp_path: Path) -> None:
    assert described(write_encoder(tmp_path / "m", output="sentence_embedding")).extra["pooled"] is True


@pytest.mark.parametrize(
    ("labels", "tasks"),
    [
        (["score"], ("rerank",)),
        (["joy", "anger", "fear"], ("classify",)),
        (["entailment", "neutral", "contradiction"], ("zero_shot", "classify")),
    ],
)
def test_classifiers_by_their_labels(tmp_path: Path, labels: list[str], tasks: tuple[str, ...]) -> None:
    found = described(write_encoder(tmp_path / "m", labels=labels))
    assert found.tasks == tasks
    assert found.extra["labels"] == labels


def test_a_classifier_of_pictures(tmp_path: Path) -> None:
    write_classifier(tmp_path / "m")
    found = described(tmp_path / "m")
    assert (found.tasks, found.features, found.context) == (("classify",), ("vision",), None)
    assert found.extra["image_size"] == SIDE
    assert found.extra["labels"] == list(LABELS)


@pytest.mark.parametrize("pair", [False, True])
def test_pictures_and_texts_in_one_space(tmp_path: Path, pair: bool) -> None:
    """In one graph, or in two, whose numbers are counted together."""
    write_dual(tmp_path / "m", joint=not pair, pair=pair)
    found = described(tmp_path / "m")
    assert (found.tasks, found.features) == (("zero_shot", "embed"), ("vision",))
    assert found.extra["role"] == "dual"
    assert ("graphs" in found.extra) == pair
    write_dual(tmp_path / "other", joint=pair, pair=not pair)
    assert found.parameters == pytest.approx(described(tmp_path / "other").parameters, rel=0.1)


def test_a_graph_for_texts_of_one_length(tmp_path: Path) -> None:
    made = Graph()
    made.input("input_ids", "I64", [1, 16])
    words = made.weights("words", "F32", [32, 8], bytes(32 * 8 * 4))
    made.nodes_of("Gather", [words, "input_ids"], ["last_hidden_state"])
    made.output("last_hidden_state", "F32", [1, 16, 8])
    folder = write_bert(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    write_onnx(folder / "model.onnx", made)
    found = described(folder)
    assert (found.context, found.tasks) == (16, ("embed",))


def test_of_a_graph_that_is_not_here_the_config_tells_what_it_does(tmp_path: Path) -> None:
    """As of a repository: names and sizes, JSON, and the first bytes of the rest."""
    folder = write_decoder(tmp_path / "m")

    class Remote:
        path = tmp_path / "nowhere"
        files = dict.fromkeys(FolderFiles(folder).files, 0) | FolderFiles(folder).files | {"model.onnx": 1 << 30}

        def head(self, name: str, size: int = 4096) -> bytes:
            return (folder / name).read_bytes()[: min(size, 256)]

        def json(self, name: str) -> Any:
            return FolderFiles(folder).json(name)

    files = Remote()
    [match] = detection.detect(files)
    found = metadata.extract(files, match)
    assert found.tasks == ("chat", "complete")
    assert found.weight_bytes == 1 << 30
    assert found.context == 128


@pytest.mark.parametrize("content", [b"", b"\x00", b"\x08\x08\x3a\xff\xff\xff\x7f", b"not an onnx file at all"])
def test_what_is_damaged_tells_less_and_raises_nothing(tmp_path: Path, content: bytes) -> None:
    folder = write_decoder(tmp_path / "m")
    (folder / "model.onnx").write_bytes(content)
    found = described(folder)
    assert found.parameters is None
    assert found.architecture == "llama"


def test_nothing_of_a_broken_folder_raises(tmp_path: Path) -> None:
    for layout, entry in (("onnx_genai", "genai_config.json"), ("onnx_export", "export.json")):
        folder = write_decoder(tmp_path / layout, layout=layout)
        for strange in ({"model": 3}, {"components": [1]}, {"model": {"decoder": {"filename": 1}}, "search": []}):
            (folder / entry).write_text(json.dumps(strange))
            (folder / "config.json").write_text("[]")
            for match in detection.detect(FolderFiles(folder)):
                assert isinstance(metadata.extract(FolderFiles(folder), match), Metadata)
