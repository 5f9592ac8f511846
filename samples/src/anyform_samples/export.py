"""The trained decoder as a Hugging Face folder and GGUF: `python -m anyform_samples.export`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from anyform_samples import gguf
from anyform_samples.corpus import CHAT_TEMPLATE
from anyform_samples.decoder import NORM_EPSILON, ROPE_BASE, Shape
from anyform_samples.layout import SAMPLE, SAMPLE_GGUF
from anyform_samples.tokenizer import END, TURN_END


def write(weights: Mapping[str, torch.Tensor], shape: Shape, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the folder with F16 weights, and the Q8_0 GGUF into it."""
    folder.mkdir(parents=True, exist_ok=True)
    halves = {f"model.{name}": tensor.half().contiguous() for name, tensor in weights.items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    ends = {"eos_token_id": tokenizer.token_to_id(TURN_END), "pad_token_id": tokenizer.token_to_id(END)}
    _json(folder / "config.json", _config(shape) | ends)
    _json(folder / "generation_config.json", {"do_sample": False, **ends})
    tokenizer.save(str(folder / "tokenizer.json"))
    _json(folder / "tokenizer_config.json", _tokenizer_config(shape))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, "utf-8")
    gguf.write(folder, folder / SAMPLE_GGUF, "Q8_0")


def _config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "dtype": "float16",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": NORM_EPSILON,
        "rope_theta": ROPE_BASE,
        "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_BASE},
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "use_cache": True,
    }


def _tokenizer_config(shape: Shape) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": TURN_END,
        "pad_token": END,
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": shape.context,
        "chat_template": CHAT_TEMPLATE,
    }


def _json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")


def main(words: Sequence[str] | None = None) -> int:
    """Export a folder that training left."""
    parser = argparse.ArgumentParser(prog="python -m anyform_samples.export", description=__doc__)
    parser.add_argument("--from", type=Path, default=Path(".samples/sample"), dest="training")
    parser.add_argument("--out", type=Path, default=SAMPLE)
    asked = parser.parse_args(words)
    state: dict[str, Any] = torch.load(asked.training / "checkpoint.pt", weights_only=True)
    tokenizer = Tokenizer.from_file(str(asked.training / "tokenizer.json"))
    write(state["decoder"], Shape(**state.get("shape", {})), tokenizer, asked.out)
    for path in sorted(asked.out.iterdir()):
        sys.stdout.write(f"{path}: {path.stat().st_size:,} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
