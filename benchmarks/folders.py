"""Writes the Hugging Face folders that are benchmarked: models.py's random ones, float32, by the same numbers.

python benchmarks/folders.py 0.1B        # prints the folder; made on first use, in .bench/models
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import models
import numpy as np
from safetensors.numpy import save_file

NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    **{f"attn_{one}": f"self_attn.{one}_proj" for one in "qkv"},
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    **{f"ffn_{one}": f"mlp.{one}_proj" for one in ("gate", "up", "down")},
}
"""A GGUF's names of tensors, and those of transformers' Qwen3."""


def path_of(size: str, folder: Path = models.FOLDER) -> Path:
    """The folder of the model of that size, written first if it is not there yet."""
    target = folder / f"qwen3-random-{size}"
    if not target.exists():
        partial = target.with_suffix(f".{os.getpid()}.partial")
        try:
            write(partial, models.SHAPES[size])
            partial.replace(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return target


def write(folder: Path, shape: models.Shape) -> None:
    """Weights, configuration and tokenizer; the logits of what ends an answer are 0, which never wins."""
    folder.mkdir(parents=True)
    tensors = {_name(name): np.ascontiguousarray(values, np.float32) for name, values in models.tensors(shape)}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    tokens, merges = models.vocabulary(shape.vocabulary)
    first = len(tokens) - len(models.CONTROL)
    _put(folder / "config.json", _config(shape) | {"bos_token_id": first, "eos_token_id": first + 2})
    _put(folder / "generation_config.json", {"do_sample": False, "bos_token_id": first, "eos_token_id": first + 2})
    _put(folder / "tokenizer.json", _tokenizer(tokens, merges))
    _put(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": tokens[first + 2],
            "pad_token": tokens[first],
            "chat_template": models.TEMPLATE,
        },
    )


def _name(name: str) -> str:
    block = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
    if block:
        return f"model.layers.{block[1]}.{NAMES[block[2]]}.weight"
    return f"{NAMES[name.removesuffix('.weight')]}.weight"


def _config(shape: models.Shape) -> dict[str, Any]:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "dtype": "float32",
        "hidden_size": shape.embedding,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "intermediate_size": shape.feed_forward,
        "head_dim": shape.head_size,
        "max_position_embeddings": shape.context,
        "vocab_size": shape.vocabulary,
        "rope_theta": 1_000_000.0,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
    }


def _tokenizer(tokens: list[str], merges: list[str]) -> dict[str, Any]:
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
    control = [
        {
            "id": tokens.index(one),
            "content": one,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for one in models.CONTROL
    ]
    return {
        "version": "1.0",
        "added_tokens": control,
        "pre_tokenizer": level,
        "decoder": level,
        "model": {
            "type": "BPE",
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": merges,
        },
    }


def _put(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def main() -> None:
    """Print the folder of the model of the size named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=sorted(models.SHAPES), nargs="?", default="0.1B")
    print(path_of(parser.parse_args().size))


if __name__ == "__main__":
    main()
