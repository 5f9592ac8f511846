"""What an RKLLM model says of itself, and where each fact is from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Metadata
from anyform.kernel.files import FolderFiles
from anyform.testing import rkllm
from anyform.testing.damage import Remote
from anyform.testing.gguf import Tensor
from anyform_rkllm import detection, metadata, sidecar, validation

TOOLS = "{% if tools %}{{ tools }}{% endif %}{% if enable_thinking %}<think>{% endif %}"


def told(folder: Path) -> Metadata:
    files = FolderFiles(folder)
    (match,) = detection.detect(files)
    said = metadata.extract(files, match)
    assert json.loads(json.dumps(dict(said.extra))) == said.extra
    return said


def test_a_whole_folder(tmp_path: Path) -> None:
    said = told(rkllm.write_model(tmp_path / "Tiny-rk3588-1.1.0"))
    assert (said.name, said.version, said.architecture) == ("Tiny-Chat-0.1B", "3", "qwen2")
    assert said.tasks == ("chat", "complete", "embed")
    assert (said.parameters, said.context, said.quantization) == (100_000_000, 4096, "W8A8")
    assert (said.vocab_size, said.tensors, said.tokenizer, said.license) == (512, 20, "Qwen2Tokenizer", "apache-2.0")
    assert said.weight_bytes == (tmp_path / "Tiny-rk3588-1.1.0" / rkllm.NAME).stat().st_size
    extra = said.extra
    assert (extra["platforms"], extra["optimization"], extra["hybrid_ratio"]) == (["RK3588"], 1, 0.0)
    assert (extra["toolkit"], extra["base_model"]) == ("1.2.3", "Tiny-Chat-0.1B")
    assert (extra["layers"], extra["kv_heads"], extra["key_length"], extra["value_length"]) == (2, 2, 4, 4)
    assert (extra["chat_template"], extra["tokenizer"]) == (True, ["tokenizer.json", "tokenizer_config.json"])
    assert extra["sampling"] == {"temp": 0.7, "top_p": 0.8}
    assert extra["sources"] == {
        "toolkit": "trailer", "vocab_size": "header", "platforms": "name", "quantization": "name",
        "optimization": "name", "hybrid_ratio": "name", "parameters": "name", "base_model": "name",
        "context": "default",
    }  # fmt: skip


def test_the_context_is_no_promise_of_the_original(tmp_path: Path) -> None:
    """config.json tells what the original was trained for; the conversion's own limit lies masked in the file."""
    said = told(rkllm.write_model(tmp_path, config={"max_position_embeddings": 131072}))
    assert (said.context, said.extra["context_stated"], said.extra["original_context"]) == (4096, False, 131072)


@pytest.mark.parametrize(
    ("name", "meta", "context", "source"),
    [
        ("A_W8A8_RK3588_ctx8192", None, 8192, "name"),
        ("A_W8A8_RK3588-16k", None, 16384, "name"),
        ("A_W8A8_RK3588-16k", {"max_context": 2048}, 2048, "sidecar"),
        ("A_W8A8_RK3588-128k", None, 4096, "default"),
        ("A-4k-W8A8_RK3588", {"max_context": "4096"}, 4096, "default"),
        ("A_W8A8_RK3588", {"max_context": -5}, 4096, "default"),
        ("A_W8A8_RK3588", {"max_context": True}, 4096, "default"),
    ],
)
def test_a_context_that_is_stated(name: str, meta: Any, context: int, source: str, tmp_path: Path) -> None:
    said = told(rkllm.write_model(tmp_path, f"{name}.rkllm", meta=meta))
    assert (said.context, said.extra["sources"]["context"]) == (context, source)
    assert said.extra["context_stated"] is (source != "default")


def test_the_folder_tells_what_the_file_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "Qwen3-4B-rk3588-1.2.1-unsloth-16k"
    rkllm.write(folder / "model.rkllm", trailer=None)
    said = told(folder)
    assert (said.name, said.context, said.parameters) == ("Qwen3-4B", 16384, 4_000_000_000)
    assert (said.extra["platforms"], said.extra["toolkit"]) == (["RK3588"], "1.2.1")
    assert said.extra["sources"]["toolkit"] == "name"


def test_the_end_of_the_file_comes_first_then_meta_then_names(tmp_path: Path) -> None:
    meta = {
        "base_model": "Other/Name", "rkllm": {"toolkit_version": "1.2.0", "target_platform": "rk3576"},
        "quantized_dtype": "w4a16_g64", "optimization_level": 0, "hybrid_rate": 0.25,
    }  # fmt: skip
    said = told(rkllm.write_model(tmp_path / "end", "A_W8A8_RK3588_v1.1.4.rkllm", meta=meta, trailer="1.3.0"))
    assert (said.extra["toolkit"], said.quantization, said.extra["platforms"]) == ("1.3.0", "W4A16_G64", ["RK3576"])
    assert (said.extra["optimization"], said.extra["hybrid_ratio"], said.extra["base_model"]) == (0, 0.25, "A")
    said = told(rkllm.write_model(tmp_path / "meta", "A_W8A8_RK3588_v1.1.4.rkllm", meta=meta, trailer="unknown"))
    assert (said.extra["toolkit"], said.extra["sources"]["toolkit"]) == ("1.2.0", "sidecar")
    said = told(rkllm.write_model(tmp_path / "name", "A_W8A8_RK3588_v1.1.4.rkllm", trailer=None))
    assert (said.extra["toolkit"], said.extra["sources"]["toolkit"]) == ("1.1.4", "name")


def test_meta_of_any_kind_is_read() -> None:
    for content in ({}, {"toolkit": 5, "platform": [1, None, "rk3588"]}, {"dtype": {"a": "w8a8"}}, {"hybrid": 1e999}):
        sidecar.meta(content)
    assert sidecar.meta({"platform": [1, None, "rk3588s"]}).platforms == ("RK3588",)
    assert sidecar.meta({"a": {"model_dtype": "W8A8"}}).quantization == "W8A8"
    assert sidecar.meta({"toolkit": "v1.2.3 of June"}).toolkit == "1.2.3"
    assert sidecar.meta({"base_model": "a\0b\n" * 999}).base_model.isprintable()


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("Qwen3-Embedding-0.6B-rk3588-w8a8", ("embed",)),
        ("bge-m3-rk3588-w8a8", ("embed",)),
        ("Qwen3-Reranker-0.6B-rk3588-w8a8", ("complete",)),
        ("Qwen3-0.6B-rk3588-w8a8", ("chat",)),
        ("huge5-rk3588-w8a8", ("chat",)),
    ],
)
def test_what_it_is_for(name: str, tasks: tuple[str, ...], tmp_path: Path) -> None:
    rkllm.write(tmp_path / f"{name}.rkllm")
    assert told(tmp_path).tasks == tasks


@pytest.mark.parametrize("beside", ["tokenizer.json", "chat_template.jinja"])
def test_texts_as_they_are_need_a_tokenizer_or_a_template(beside: str, tmp_path: Path) -> None:
    """Else the library puts all that it reads into its own."""
    rkllm.write(tmp_path / "Qwen3-0.6B-rk3588-w8a8.rkllm")
    (tmp_path / beside).write_text("{}")
    assert told(tmp_path).tasks == ("chat", "complete", "embed")


def test_a_model_of_sentence_transformers_embeds(tmp_path: Path) -> None:
    rkllm.write_model(tmp_path, "A_W8A8_RK3588.rkllm")
    (tmp_path / "modules.json").write_text("[]")
    assert told(tmp_path).tasks == ("embed",)


def test_what_it_can_besides(tmp_path: Path) -> None:
    folder = rkllm.write_model(tmp_path / "a", "A_W8A8_RK3588.rkllm", template=TOOLS)
    (folder / "a_vision.onnx").write_bytes(b"12345")
    (folder / "a_vision.onnx.data").write_bytes(b"1234567890")
    said = told(folder)
    assert said.features == ("tools", "thinking", "vision")
    assert (said.extra["vision_encoder"], said.extra["vision_bytes"]) == ("a_vision.onnx", 15)
    assert told(rkllm.write_model(tmp_path / "b", template="plain")).features == ()
    rkllm.write(tmp_path / "c" / "DeepSeek-R1-Distill-Qwen-1.5B_W8A8_RK3588.rkllm")
    assert told(tmp_path / "c").features == ("thinking",)


def test_parameters_are_counted_where_the_directory_and_the_name_agree(tmp_path: Path) -> None:
    count = 1_100_000
    tensors = [Tensor("a", (1000, 1100), rkllm.PACKED, bytes(count))]
    for name, said, source in (("A-1M", count, "header"), ("A", count, "header"), ("A-7B", 7_000_000_000, "name")):
        rkllm.write(tmp_path / name / f"{name}.rkllm", tensors=tensors, stand_in=None)
        found = told(tmp_path / name)
        assert (found.parameters, found.extra["sources"]["parameters"]) == (said, source)


def test_a_broken_file_is_described_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "Qwen2.5-0.5B_W8A8_RK3588.rkllm").write_bytes(b"nothing")
    (tmp_path / "config.json").write_text('{"num_hidden_layers": "many", "vocab_size": 1e400, "model_type": 5}')
    said = told(tmp_path)
    assert (said.parameters, said.quantization, said.version, said.tensors) == (500_000_000, "W8A8", "", None)
    assert said.vocab_size is None


class Elsewhere(Remote):
    """A model on the Hub, as it would lie here if it were pulled."""

    path = Path("/nowhere/owner/Qwen3-4B-rk3588-1.2.1-unsloth-16k")


def test_a_repository_that_is_not_here_is_described_by_what_its_listing_has(tmp_path: Path) -> None:
    files = Elsewhere(rkllm.write_model(tmp_path, "Qwen3-4B-rk3588-w8a8.rkllm", config={"num_hidden_layers": 36}))
    (match,) = detection.detect(files)
    said = metadata.extract(files, match)
    assert (said.parameters, said.context, said.tensors, said.vocab_size) == (4_000_000_000, 16384, 20, 512)
    assert (said.extra["toolkit"], said.extra["sources"]["toolkit"]) == ("1.2.1", "name")
    assert (said.extra["sources"]["vocab_size"], said.extra["layers"]) == ("sidecar", 36)
    assert [one.code for one in validation.validate(files, match)] == ["rkllm.made_for"]
