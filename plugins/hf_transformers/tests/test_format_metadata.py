"""What folders say of themselves: tasks, features, numbers, precision; and that nothing raises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Metadata
from anyform.kernel.files import FolderFiles
from anyform.testing.safetensors import (
    CHATML,
    tensor,
    write_adapter,
    write_bert,
    write_json,
    write_llama,
    write_modules,
    write_safetensors,
    write_tokenizer,
)
from anyform_hf_transformers import detection, metadata

WEIGHTS = [tensor("a.weight", 4, 8)]
SEES = {"vision_config": {"hidden_size": 8}, "text_config": {"hidden_size": 16, "vocab_size": 32}}


def read(folder: Path) -> Metadata:
    files = FolderFiles(folder)
    return metadata.extract(files, detection.detect(files)[0])


def write(folder: Path, architecture: str, kind: str = "x", template: str = "", **config: Any) -> Path:
    """A folder with some weights and a config."""
    write_json(folder / "config.json", {"architectures": [architecture], "model_type": kind, **config})
    write_safetensors(folder / "model.safetensors", WEIGHTS)
    write_tokenizer(folder, template=template)
    return folder


def test_a_llama(tmp_path: Path) -> None:
    found = read(write_llama(tmp_path, dtype="F16", template=CHATML, num_hidden_layers=3))
    assert found.tasks == ("chat", "complete")
    assert (found.architecture, found.context, found.vocab_size, found.tensors) == ("llama", 128, 32, 29)
    assert (found.quantization, found.parameters, found.weight_bytes) == ("F16", 7536, 15072)
    assert found.tokenizer == "PreTrainedTokenizerFast"
    wanted = {
        "embedding_length": 16, "layers": 3, "feed_forward_length": 32, "heads": 4, "kv_heads": 2, "key_length": 4,
        "value_length": 4, "rope_freq_base": 10000.0, "special_tokens": {"bos": 4, "eos": 5}, "chat_template": CHATML,
        "tensor_types": {"F16": 29}, "architectures": ["LlamaForCausalLM"], "dtype": "F32",
    }  # fmt: skip
    assert found.extra == wanted


def test_shards_are_counted_together(tmp_path: Path) -> None:
    whole, parts = read(write_llama(tmp_path / "a")), read(write_llama(tmp_path / "b", shards=3))
    for name in ("parameters", "weight_bytes", "tensors"):
        assert getattr(parts, name) == getattr(whole, name)
    assert parts.extra["shards"] == 3


def test_pickles_tell_bytes_and_no_parameters(tmp_path: Path) -> None:
    found = read(write_llama(tmp_path, pickled=True))
    assert found.parameters is None
    assert found.weight_bytes == (tmp_path / "pytorch_model.bin").stat().st_size
    assert found.quantization == "F32"


@pytest.mark.parametrize(
    ("architecture", "kind", "config", "tasks", "features"),
    [
        ("LlamaForCausalLM", "llama", {}, ("complete",), ()),
        ("GPT2LMHeadModel", "gpt2", {}, ("complete",), ()),
        ("BertModel", "bert", {"vocab_size": 9}, ("embed",), ()),
        ("Qwen3Model", "qwen3", {"vocab_size": 9}, ("embed",), ()),
        ("T5EncoderModel", "t5", {"vocab_size": 9}, (), ()),
        ("XLMRobertaForSequenceClassification", "xlm-roberta", {"num_labels": 1}, ("rerank",), ()),
        ("BertForSequenceClassification", "bert", {"id2label": {"0": "LABEL_0"}}, ("rerank",), ()),
        ("BertForSequenceClassification", "bert", {"id2label": {"0": "bad", "1": "good"}}, ("classify",), ()),
        ("BertForSequenceClassification", "bert", {}, ("classify",), ()),
        (
            "BartForSequenceClassification", "bart",
            {"id2label": {"0": "contradiction", "1": "neutral", "2": "entailment"}}, ("zero_shot", "classify"), (),
        ),
        ("BertForMaskedLM", "bert", {}, (), ()),
        ("BertForTokenClassification", "bert", {}, (), ()),
        ("MarianMTModel", "marian", {"vocab_size": 9}, (), ()),
        ("BartForConditionalGeneration", "bart", {"vocab_size": 9}, (), ()),
        ("WhisperForConditionalGeneration", "whisper", {"vocab_size": 51865}, ("transcribe", "translate"), ("audio",)),
        ("WhisperForConditionalGeneration", "whisper", {"vocab_size": 51864}, ("transcribe",), ("audio",)),
        ("Wav2Vec2ForCTC", "wav2vec2", {"vocab_size": 32}, ("transcribe",), ("audio",)),
        ("Wav2Vec2Model", "wav2vec2", {"vocab_size": 32}, (), ()),
        ("ViTForImageClassification", "vit", {}, ("classify",), ()),
        ("Dinov2Model", "dinov2", {}, ("embed",), ()),
        ("CLIPModel", "clip", SEES, ("zero_shot", "embed"), ("vision",)),
        ("SiglipModel", "siglip", SEES, ("zero_shot", "embed"), ("vision",)),
        ("BlipForConditionalGeneration", "blip", SEES, ("caption",), ("vision",)),
        ("BlipForQuestionAnswering", "blip", SEES, ("answer",), ("vision",)),
        ("Blip2ForConditionalGeneration", "blip-2", SEES, ("caption", "answer"), ("vision",)),
        ("VisionEncoderDecoderModel", "vision-encoder-decoder", {}, ("caption",), ("vision",)),
        ("LlavaForConditionalGeneration", "llava", SEES, ("complete", "caption", "answer"), ("vision",)),
        ("SomethingElse", "odd", {}, (), ()),
        ("", "odd", {"vocab_size": 9}, (), ()),
    ],
)  # fmt: skip
def test_tasks_by_class(
    tmp_path: Path, architecture: str, kind: str, config: Any, tasks: tuple[str, ...], features: tuple[str, ...]
) -> None:
    found = read(write(tmp_path, architecture, kind, **config))
    assert (found.tasks, found.features) == (tasks, features)


def test_a_template_makes_a_chat_model_and_tells_what_it_can(tmp_path: Path) -> None:
    template = "{% if tools %}{{ tools }}{% endif %}{% if enable_thinking %}<think>{% endif %}"
    found = read(write(tmp_path, "LlavaForConditionalGeneration", "llava", template, **SEES))
    assert found.tasks == ("chat", "complete", "caption", "answer")
    assert found.features == ("tools", "thinking", "vision")


def test_where_templates_lie(tmp_path: Path) -> None:
    write_llama(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config["chat_template"] = [{"name": "default", "template": "old"}, {"name": "tool_use", "template": "tools"}, 3]
    write_json(tmp_path / "tokenizer_config.json", config)
    assert read(tmp_path).extra["chat_template"] == "old"
    assert read(tmp_path).extra["chat_templates"] == {"tool_use": "tools"}
    write_json(tmp_path / "chat_template.json", {"chat_template": "newer"})
    assert read(tmp_path).extra["chat_template"] == "newer"
    (tmp_path / "chat_template.jinja").write_text("newest")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("rag")
    found = read(tmp_path).extra
    assert (found["chat_template"], found["chat_templates"]) == ("newest", {"tool_use": "tools", "rag": "rag"})


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_an_encoder_with_modules(tmp_path: Path, pooling: str) -> None:
    found = read(write_bert(tmp_path, pooling=pooling))
    assert found.tasks == ("embed",)
    assert {name: found.extra[name] for name in ("pooling", "normalize", "dimensions")} == {
        "pooling": pooling, "normalize": True, "dimensions": 16,
    }  # fmt: skip


def test_modules_make_a_masked_model_embed(tmp_path: Path) -> None:
    write_bert(tmp_path, pooling="mean", architectures=["BertForMaskedLM"])
    assert read(tmp_path).tasks == ("embed",)


def test_the_limits_of_an_encoder(tmp_path: Path) -> None:
    write_bert(tmp_path)
    assert read(tmp_path).context == 64
    write_modules(tmp_path, "mean", limit=48)
    assert read(tmp_path).context == 48
    write_tokenizer(tmp_path, model_max_length=40)
    assert read(tmp_path).context == 40
    write_tokenizer(tmp_path, model_max_length=10**30)
    assert read(tmp_path).context == 48


def test_positions_that_begin_after_the_padding(tmp_path: Path) -> None:
    config = {"max_position_embeddings": 514, "vocab_size": 9, "pad_token_id": 1}
    assert read(write(tmp_path, "XLMRobertaModel", "xlm-roberta", **config)).context == 512


def test_a_text_models_tokenizer_limits_nothing(tmp_path: Path) -> None:
    write_llama(tmp_path, max_position_embeddings=4096)
    assert read(tmp_path).context == 4096


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"num_attention_heads": 8, "hidden_size": 64}, {"heads": 8, "kv_heads": 8, "key_length": 8}),
        ({"n_head": 8, "n_embd": 64, "n_layer": 3}, {"heads": 8, "kv_heads": 8, "layers": 3, "embedding_length": 64}),
        ({"num_attention_heads": 71, "multi_query": True}, {"kv_heads": 1}),
        ({"sliding_window": 4096}, {"sliding_window": 4096}),
        ({"sliding_window": 4096, "use_sliding_window": False}, {"sliding_window": None}),
        (
            {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]},
            {"window_pattern": [True, False], "layer_types": ["sliding_attention", "full_attention"]},
        ),
        ({"rope_scaling": {"type": "yarn", "original_max_position_embeddings": 9}}, {"rope_scaling": "yarn"}),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5}}, {"rope_freq_base": 5.0, "rope_scaling": None}),
        ({"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 96},
         {"key_length": 192, "value_length": 96, "kv_lora_rank": 512}),
        ({"n_routed_experts": 8, "num_experts_per_tok": 2}, {"experts": 8, "experts_used": 2}),
        ({"text_config": {"hidden_size": 32, "num_attention_heads": 4}}, {"embedding_length": 32, "heads": 4}),
        ({"hidden_size": "wide", "num_attention_heads": None, "head_dim": -1}, {"embedding_length": None}),
        ({"hidden_size": True, "num_attention_heads": 0}, {"embedding_length": None, "heads": 0}),
    ],
)  # fmt: skip
def test_the_networks_shape(tmp_path: Path, config: Any, wanted: dict[str, Any]) -> None:
    extra = read(write(tmp_path, "XForCausalLM", "x", **config)).extra
    assert {name: extra.get(name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("config", "tensors", "quantization", "parameters"),
    [
        ({"quant_method": "awq", "bits": 4}, [("a.qweight", 4, 8, "I32"), ("a.scales", 4, 8, "F16")], "AWQ-4bit", 256),
        ({"quant_method": "gptq", "bits": 8}, [("a.qweight", 4, 8, "I32"), ("a.g_idx", 4, 8, "I32")], "GPTQ-8bit", 128),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, [("a.weight", 32, 1, "U8")], "BNB-4bit", 64),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, [("a.weight", 4, 8, "I8")], "BNB-8bit", 32),
        ({"quant_method": "fp8"}, [("a.weight", 4, 8, "F8_E4M3"), ("a.weight_scale_inv", 1, 1, "F32")], "FP8", 32),
        (None, [("a.weight", 4, 8, "F8_E4M3"), ("b", 1, 1, "F32")], "FP8", 33),
        (None, [("a.weight", 4, 8, "BF16"), ("b", 1, 1, "F32")], "BF16", 33),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 4}}}},
            [("a.weight_packed", 4, 8, "I32"), ("a.weight_scale", 4, 8, "BF16")], "CT-4bit", 256,
        ),
    ],
)  # fmt: skip
def test_quantized_weights(tmp_path: Path, config: Any, tensors: Any, quantization: str, parameters: int) -> None:
    write(tmp_path, "LlamaForCausalLM", "llama", **({"quantization_config": config} if config else {}))
    made = [tensor(name, *shape, dtype=dtype) for name, *shape, dtype in tensors]
    write_safetensors(tmp_path / "model.safetensors", made)
    found = read(tmp_path)
    assert (found.quantization, found.parameters) == (quantization, parameters)


def test_sampling_and_special_tokens(tmp_path: Path) -> None:
    write_llama(tmp_path)
    said = {"do_sample": True, "temperature": 0.6, "top_k": 20, "repetition_penalty": 1.1, "eos_token_id": [7, 8]}
    write_json(tmp_path / "generation_config.json", said)
    extra = read(tmp_path).extra
    assert extra["sampling"] == {"temp": 0.6, "top_k": 20, "penalty_repeat": 1.1}
    assert extra["special_tokens"] == {"bos": 4, "eos": 7}


def test_code_of_its_own_is_told_where_transformers_has_none(tmp_path: Path) -> None:
    own = {"auto_map": {"AutoConfig": "configuration_odd.Odd", "AutoModel": ["modeling_odd.Odd", None]}}
    found = read(write(tmp_path / "a", "OddForCausalLM", "odd", **own)).extra
    assert found["remote_code"] == ["configuration_odd.Odd", "modeling_odd.Odd"]
    assert "remote_code" not in read(write(tmp_path / "b", "LlamaForCausalLM", "llama", **own)).extra


def test_the_licence_of_the_model_card(tmp_path: Path) -> None:
    write_llama(tmp_path)
    (tmp_path / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\nlicense: none\n")
    assert read(tmp_path).license == "apache-2.0"


def test_an_adapter(tmp_path: Path) -> None:
    found = read(write_adapter(tmp_path, base="owner/model"))
    assert (found.tasks, found.parameters, found.architecture) == (("complete",), 128, "lora")
    assert found.extra["adapter"]["base"] == "owner/model"


def test_the_file_variant_is_told_to_who_loads_it(tmp_path: Path) -> None:
    write_llama(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "model.fp16.safetensors")
    assert read(tmp_path).extra["file_variant"] == "fp16"
