"""The encoder as GGUF, from its Hugging Face folder, without torch.

Names of keys and tensors are llama.cpp's for the architecture `bert`. Its WordPiece spells tokens otherwise than
BERT: the first piece of a word has U+2581 before it, the others are bare instead of having `##`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anyform.testing.gguf import F32, FILE_TYPES, POOLING, TENSOR_TYPES, write_gguf
from anyform.testing.gguf_vocabulary import CONTROL, NORMAL
from anyform_samples import quantize, tensors

_SPECIAL = {"[PAD]": "padding", "[UNK]": "unknown", "[CLS]": "cls", "[SEP]": "seperator", "[MASK]": "mask"}
"""Special token -> its key in GGUF, spelled as llama.cpp spells it."""

_NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_LAYER = re.compile(r"encoder\.layer\.(\d+)\.(.+)")
_ADDED = ("position_embd.weight", "token_types.weight")
"""What llama.cpp adds to activations stays F32, as vectors do."""


def write(folder: Path, out: Path, quantization: str, name: str = "sample-embed") -> Path:
    """Write *out* from config.json, vocab.txt and model.safetensors in *folder*; *quantization* is F16 or Q8_0."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    vocabulary = (folder / "vocab.txt").read_text("utf-8").splitlines()
    keys = _model_keys(config, quantization, name) | _token_keys(vocabulary, config)
    kind = TENSOR_TYPES[quantization]
    found = {_named(name): array for name, array in tensors.read(folder / "model.safetensors").items()}
    parts = [quantize.tensor(name, array, F32 if name in _ADDED else kind) for name, array in found.items()]
    return write_gguf(out, keys, parts)


def _model_keys(config: Mapping[str, Any], quantization: str, name: str) -> dict[str, Any]:
    return {
        "general.architecture": "bert",
        "general.type": "model",
        "general.name": name,
        "general.license": "apache-2.0",
        "general.file_type": FILE_TYPES[quantization],
        "bert.context_length": config["max_position_embeddings"],
        "bert.embedding_length": config["hidden_size"],
        "bert.feed_forward_length": config["intermediate_size"],
        "bert.block_count": config["num_hidden_layers"],
        "bert.attention.head_count": config["num_attention_heads"],
        "bert.attention.layer_norm_epsilon": float(config["layer_norm_eps"]),
        "bert.attention.causal": False,
        "bert.pooling_type": POOLING["mean"],
    }


def _token_keys(vocabulary: list[str], config: Mapping[str, Any]) -> dict[str, Any]:
    keys: dict[str, Any] = {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [_spelled(token) for token in vocabulary],
        "tokenizer.ggml.token_type": [CONTROL if token in _SPECIAL else NORMAL for token in vocabulary],
        "tokenizer.ggml.token_type_count": config["type_vocab_size"],
        "tokenizer.ggml.normalizer.lowercase": True,
        "tokenizer.ggml.normalizer.strip_accents": True,
        "tokenizer.ggml.bos_token_id": vocabulary.index("[CLS]"),
    }
    return keys | {f"tokenizer.ggml.{key}_token_id": vocabulary.index(token) for token, key in _SPECIAL.items()}


def _spelled(token: str) -> str:
    if token in _SPECIAL:
        return token
    return token.removeprefix("##") if token.startswith("##") else f"\u2581{token}"


def _named(name: str) -> str:
    """A tensor's name in GGUF for its name in BertModel."""
    layer = _LAYER.fullmatch(name)
    block, rest = (f"blk.{layer[1]}.", layer[2]) if layer else ("", name)
    stem, _, ending = rest.rpartition(".")
    return f"{block}{_NAMES[stem]}.{ending}"
