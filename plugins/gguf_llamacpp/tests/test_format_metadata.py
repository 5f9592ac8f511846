"""What a model says of itself, and how much memory it will take."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Invalid
from anyform.contract.facts import Metadata, Settings
from anyform.kernel.files import FolderFiles
from anyform.testing.gguf import (
    CHATML,
    F16,
    Tensor,
    write_bert,
    write_gguf,
    write_llama,
    write_lora,
    write_mmproj,
    write_split,
    write_vocab_only,
)
from anyform_gguf_llamacpp import memory, plugin

SHARED = Path(__file__).parents[4] / "shared"


def read(path: Path) -> Metadata:
    files = FolderFiles(path)
    [match] = plugin.detect_format(files)
    metadata = plugin.extract_metadata(files, match)
    assert json.loads(json.dumps(metadata.extra, allow_nan=False)) == metadata.extra
    return metadata


def test_a_chat_model(tmp_path: Path) -> None:
    metadata = read(write_llama(tmp_path / "tiny-Q8_0.gguf", quantization="Q8_0", chat_template=CHATML))
    assert metadata.name == "Tiny random llama"
    assert metadata.version == "3"
    assert metadata.architecture == "llama"
    assert metadata.tasks == ("chat", "complete")
    assert metadata.context == 256
    assert metadata.quantization == "Q8_0"
    assert metadata.license == "apache-2.0"
    assert metadata.tokenizer == "llama"
    assert metadata.vocab_size is not None
    width, forward, tokens = 64, 96, metadata.vocab_size
    layer = 2 * width * width + 2 * width * width // 2 + 3 * width * forward + 2 * width
    assert metadata.parameters == 2 * width * tokens + width + 2 * layer
    assert metadata.tensors == 3 + 2 * 9
    vectors = 5 * width
    assert metadata.weight_bytes == (metadata.parameters - vectors) // 32 * 34 + vectors * 4
    wanted = {
        "kind": "model", "embedding_length": 64, "layers": 2, "feed_forward_length": 96, "heads": 4, "kv_heads": 2,
        "key_length": 16, "value_length": 16, "chat_template": CHATML, "file_type": "Q8_0",
        "tensor_types": {"Q8_0": 16, "F32": 5}, "special_tokens": {"bos": 1, "eos": 2, "unknown": 0},
        "matrix_bytes": {"Q8_0": (width * tokens + 2 * (layer - 2 * width)) // 32 * 34},
    }  # fmt: skip
    assert metadata.extra == wanted


def test_a_model_without_a_template_only_completes(tmp_path: Path) -> None:
    assert read(write_llama(tmp_path / "tiny.gguf")).tasks == ("complete",)


TWO = Settings(parallel=2)
"""Small models are computed exactly, with two sequences at the least."""


@pytest.mark.parametrize(
    ("pooling", "tasks"), [("mean", ("embed",)), ("cls", ("embed",)), ("none", ("embed",)), ("rank", ("rerank",))]
)
def test_pooling_decides_the_task(tmp_path: Path, pooling: str, tasks: tuple[str, ...]) -> None:
    metadata = read(write_bert(tmp_path / "tiny.gguf", pooling=pooling))
    assert metadata.tasks == tasks
    assert metadata.extra["pooling"] == pooling


@pytest.mark.parametrize(
    ("extra", "tasks"),
    [
        ({"llama.pooling_type": 3}, ("embed",)),
        ({"llama.pooling_type": 4}, ("rerank",)),
        ({"llama.pooling_type": 0}, ("complete",)),
        ({"llama.attention.causal": False}, ("embed",)),
        ({"general.architecture": "dream"}, ()),
        ({"general.architecture": "t5"}, ()),
    ],
)
def test_other_hints_of_the_task(tmp_path: Path, extra: dict[str, Any], tasks: tuple[str, ...]) -> None:
    assert read(write_llama(tmp_path / "tiny.gguf", extra=extra)).tasks == tasks


@pytest.mark.parametrize("write", [write_vocab_only, write_mmproj, write_lora])
def test_what_is_no_model_has_no_task(tmp_path: Path, write: Any) -> None:
    assert read(write(tmp_path / "x.gguf")).tasks == ()


def test_shards_count_together(tmp_path: Path) -> None:
    one = read(write_llama(tmp_path / "one" / "tiny.gguf"))
    write_split(tmp_path / "three", "tiny", 3)
    three = read(tmp_path / "three")
    assert (three.parameters, three.tensors, three.weight_bytes) == (one.parameters, one.tensors, one.weight_bytes)
    assert three.extra == {**one.extra, "shards": 3}


def test_tensors_are_believed_over_the_file_type(tmp_path: Path) -> None:
    metadata = read(write_llama(tmp_path / "tiny.gguf", quantization="Q8_0", extra={"general.file_type": 15}))
    assert metadata.quantization == "Q8_0"
    assert metadata.extra["quantization_note"] == "general.file_type says Q4_K_M, but most weights are Q8_0"


def test_without_a_file_type_the_tensors_tell(tmp_path: Path) -> None:
    metadata = read(write_llama(tmp_path / "tiny.gguf", quantization="F16", extra={"general.file_type": None}))
    assert metadata.quantization == "F16"
    assert "quantization_note" not in metadata.extra


def test_vectors_do_not_decide_the_quantization(tmp_path: Path) -> None:
    tensors = [Tensor(f"v{number}.weight", (4,), 0, bytes(16)) for number in range(9)]
    tensors.append(Tensor("m.weight", (4, 4), F16, bytes(32)))
    assert read(write_gguf(tmp_path / "x.gguf", {"general.architecture": "x"}, tensors)).quantization == "F16"


@pytest.mark.parametrize(
    ("template", "features"),
    [
        (CHATML, ()),
        ("{% if tools %}{{ tools | tojson }}{% endif %}", ("tools",)),
        ("{% if enable_thinking is false %}<think>\n\n</think>{% endif %}", ("thinking",)),
        ("{{ message.reasoning_content }}{% for tool in tools %}{% endfor %}", ("tools", "thinking")),
    ],
)
def test_the_template_tells_features(tmp_path: Path, template: str, features: tuple[str, ...]) -> None:
    assert read(write_llama(tmp_path / "tiny.gguf", chat_template=template)).features == features


def test_a_projector_gives_sight(tmp_path: Path) -> None:
    write_llama(tmp_path / "tiny.gguf")
    size = write_mmproj(tmp_path / "mmproj-F16.gguf").stat().st_size
    metadata = read(tmp_path)
    assert metadata.features == ("vision",)
    assert metadata.extra["mmproj"] == "mmproj-F16.gguf"
    assert metadata.extra["mmproj_bytes"] == size
    blind = metadata.weight_bytes or 0
    assert memory.estimate(metadata, Settings()).weights_bytes == blind + size


@pytest.mark.parametrize("old", [False, True])
def test_tokens_for_filling_in(tmp_path: Path, old: bool) -> None:
    names = ("prefix", "suffix", "middle") if old else ("fim_pre", "fim_suf", "fim_mid")
    extra = {f"tokenizer.ggml.{name}_token_id": 10 + place for place, name in enumerate(names)}
    metadata = read(write_llama(tmp_path / "tiny.gguf", extra=extra))
    assert metadata.features == ("fim",)
    assert metadata.extra["special_tokens"]["fim_middle"] == 12


def test_other_facts_are_kept(tmp_path: Path) -> None:
    extra = {
        "general.sampling.temp": 0.5,
        "general.sampling.top_k": 20,
        "general.languages": ["en", "de"],
        "general.size_label": "0.1M",
        "llama.attention.sliding_window": 128,
        "llama.rope.freq_base": 1e6,
        "llama.attention.head_count_kv": [2, 2],
        "tokenizer.chat_template.tool_use": "{{ tools }}",
        "tokenizer.ggml.eot_token_id": 99_999,
        "general.description": None,
    }
    metadata = read(write_llama(tmp_path / "tiny.gguf", extra=extra))
    facts = metadata.extra
    assert facts["sampling"] == {"temp": 0.5, "top_k": 20}
    assert facts["languages"] == ["en", "de"]
    assert facts["sliding_window"] == 128
    assert facts["rope_freq_base"] == 1e6
    assert facts["kv_heads"] == [2, 2]
    assert facts["chat_templates"] == {"tool_use": "{{ tools }}"}
    assert "eot" not in facts["special_tokens"]
    assert metadata.features == ("tools",)


def test_numbers_that_json_cannot_hold_are_left_out(tmp_path: Path) -> None:
    metadata = read(write_llama(tmp_path / "tiny.gguf", extra={"llama.rope.freq_base": float("nan")}))
    assert "rope_freq_base" not in metadata.extra


@pytest.mark.parametrize("data", [b"", b"GGUF", bytes(300)])
def test_a_broken_file_says_little_and_raises_nothing(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.gguf").write_bytes(data)
    metadata = read(tmp_path)
    assert metadata.tasks == ()
    assert metadata.parameters is None


def test_the_sample_model() -> None:
    layout = pytest.importorskip("anyform_samples.layout", exc_type=ImportError)
    metadata = read(layout.SAMPLE / layout.SAMPLE_GGUF)
    assert (metadata.name, metadata.architecture, metadata.quantization) == ("sample", "qwen3", "Q8_0")
    assert 3e6 < (metadata.parameters or 0) < 6e6
    assert (metadata.context or 0) >= 1024
    assert {"chat", "complete"} <= set(metadata.tasks)
    assert "tools" in metadata.features


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real models are not beside this checkout")
def test_a_real_model() -> None:
    files = FolderFiles(SHARED / "models" / "stories260K-gguf" / "stories260K-Q8_0.gguf")
    match = next(match for match in plugin.detect_format(files) if match.variant == "Q8_0")
    metadata = plugin.extract_metadata(files, match)
    assert (metadata.name, metadata.license, metadata.quantization) == ("stories260K", "mit", "Q8_0")
    assert (metadata.parameters, metadata.vocab_size, metadata.context) == (292_800, 512, 512)
    assert metadata.extra["tensor_types"] == {"Q8_0": 32, "F32": 11, "F16": 5}


def test_kv_cache_is_counted_exactly(tmp_path: Path) -> None:
    """2 layers x 2 heads x (16 + 16) numbers x 2 bytes; of one sequence alone, a second one's beside it."""
    metadata = read(write_llama(tmp_path / "tiny.gguf"))
    assert plugin.estimate_memory(metadata, Settings()).bytes_per_token == 2 * (2 * 2 * 32 * 2)
    estimate = plugin.estimate_memory(metadata, TWO)
    assert estimate.bytes_per_token == 2 * 2 * 32 * 2
    assert estimate.weights_bytes == metadata.weight_bytes
    more = estimate.at(Settings(context=1000, parallel=4)) - estimate.at(Settings())
    assert more == 4000 * estimate.bytes_per_token


@pytest.mark.parametrize(("kind", "each"), [("f32", 4.0), ("q8_0", 34 / 32), ("q4_0", 18 / 32)])
def test_cache_types_count(tmp_path: Path, kind: str, each: float) -> None:
    metadata = read(write_llama(tmp_path / "tiny.gguf"))
    options = {"cache_type_k": kind, "cache_type_v": kind}
    assert memory.estimate(metadata, replace(TWO, options=options)).bytes_per_token == 2 * 2 * 32 * each


def test_a_cache_type_that_is_unknown_is_refused(tmp_path: Path) -> None:
    metadata = read(write_llama(tmp_path / "tiny.gguf"))
    with pytest.raises(Invalid, match="unheard of"):
        memory.estimate(metadata, Settings(options={"cache_type_k": "unheard of"}))


def test_heads_may_differ_by_layer(tmp_path: Path) -> None:
    metadata = read(write_llama(tmp_path / "tiny.gguf", extra={"llama.attention.head_count_kv": [2, 1]}))
    assert memory.estimate(metadata, TWO).bytes_per_token == 3 * 32 * 2


def test_latent_attention_keeps_one_vector_a_layer() -> None:
    facts = {"layers": 27, "heads": 16, "kv_heads": 1, "key_length": 576, "value_length": 512, "kv_lora_rank": 512}
    metadata = Metadata(architecture="deepseek2", tasks=("complete",), extra=facts)
    assert memory.estimate(metadata, TWO).bytes_per_token == 27 * 576 * 2


def test_what_keeps_no_cache_needs_none(tmp_path: Path) -> None:
    assert memory.estimate(read(write_bert(tmp_path / "b.gguf")), Settings()).bytes_per_token == 0
    assert memory.estimate(Metadata(architecture="mamba", tasks=("complete",)), Settings()).bytes_per_token == 0


def test_a_guess_says_that_it_is_one() -> None:
    blind = memory.estimate(Metadata(tasks=("complete",), weight_bytes=10), Settings())
    assert blind.confidence < 0.5
    assert blind.at(Settings(context=100)) > 10
    assert blind.why


def test_smaller_micro_batches_need_less() -> None:
    metadata = Metadata(vocab_size=32_000, tasks=("complete",), extra={"embedding_length": 1024})
    large, small = (memory.estimate(metadata, Settings(options={"ubatch": size})) for size in (512, 64))
    assert small.overhead_bytes < large.overhead_bytes
