"""The decoder as GGUF, from its Hugging Face folder, without torch.

Names of keys and tensors are llama.cpp's for the architecture `qwen3`
(https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/constants.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anyform.testing.gguf import FILE_TYPES, TENSOR_TYPES, Tensor, write_gguf
from anyform.testing.gguf_vocabulary import CONTROL, NORMAL
from anyform_samples import quantize, tensors

USER_DEFINED = 4
"""The token type of marks that are shown as text (llama.h, llama_token_type)."""

_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")


def write(folder: Path, out: Path, quantization: str) -> Path:
    """Write *out* from the files of *folder*; *quantization* is F16, Q8_0 or F32."""
    return write_gguf(out, *parts(folder, quantization))


def parts(folder: Path, quantization: str) -> tuple[dict[str, Any], list[Tensor]]:
    """The keys and tensors that `write` writes."""
    config = _json(folder / "config.json")
    template = (folder / "chat_template.jinja").read_text("utf-8")
    keys = _model_keys(config, quantization, folder.name)
    keys |= _token_keys(_json(folder / "tokenizer.json"), _json(folder / "tokenizer_config.json"))
    keys["tokenizer.chat_template"] = template
    found = tensors.read(folder / "model.safetensors")
    kind = TENSOR_TYPES[quantization]
    return keys, [quantize.tensor(_named(name), array, kind) for name, array in found.items()]


def _json(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return value


def _model_keys(config: Mapping[str, Any], quantization: str, name: str) -> dict[str, Any]:
    return {
        "general.architecture": "qwen3",
        "general.type": "model",
        "general.name": name,
        "general.license": "apache-2.0",
        "general.file_type": FILE_TYPES[quantization],
        "general.sampling.temp": 0.0,
        "qwen3.context_length": config["max_position_embeddings"],
        "qwen3.embedding_length": config["hidden_size"],
        "qwen3.block_count": config["num_hidden_layers"],
        "qwen3.feed_forward_length": config["intermediate_size"],
        "qwen3.attention.head_count": config["num_attention_heads"],
        "qwen3.attention.head_count_kv": config["num_key_value_heads"],
        "qwen3.attention.key_length": config["head_dim"],
        "qwen3.attention.value_length": config["head_dim"],
        "qwen3.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "qwen3.rope.freq_base": float(config["rope_parameters"]["rope_theta"]),
        "qwen3.vocab_size": config["vocab_size"],
    }


def _token_keys(tokenizer: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    kinds = {token["content"]: CONTROL if token["special"] else USER_DEFINED for token in tokenizer["added_tokens"]}
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [kinds.get(token, NORMAL) for token in tokens],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in tokenizer["model"]["merges"]],
        "tokenizer.ggml.eos_token_id": vocabulary[config["eos_token"]],
        "tokenizer.ggml.padding_token_id": vocabulary[config["pad_token"]],
        "tokenizer.ggml.bos_token_id": vocabulary[config["pad_token"]],
        "tokenizer.ggml.add_bos_token": False,
    }


def _named(name: str) -> str:
    """A tensor's name in GGUF for its name in Qwen3ForCausalLM."""
    layer = _LAYER.fullmatch(name)
    block, rest = (f"blk.{layer[1]}.", layer[2]) if layer else ("", name)
    return f"{block}{_NAMES[rest.removesuffix('.weight')]}.weight"
