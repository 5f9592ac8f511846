"""The trained encoder as a Hugging Face folder that transformers and sentence-transformers load, and as GGUF."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from anyform_samples.embedding import gguf, vocabulary
from anyform_samples.embedding.layout import DATA, GGUF

_CONFIG = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
    "hidden_dropout_prob", "attention_probs_dropout_prob", "max_position_embeddings", "type_vocab_size",
    "initializer_range", "layer_norm_eps", "pad_token_id",
)  # fmt: skip
_MODULES = ("Transformer", "1_Pooling", "2_Normalize")


def write(model: Any, tokenizer: Tokenizer, folder: Path = DATA) -> None:
    """Write the folder with F16 weights, and the Q8_0 GGUF into it."""
    folder.mkdir(parents=True, exist_ok=True)
    context = model.config.max_position_embeddings
    weights = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = {"architectures": ["BertModel"], "model_type": "bert", "torch_dtype": str(torch.float16).split(".")[-1]}
    _json(folder / "config.json", config | {name: getattr(model.config, name) for name in _CONFIG})
    vocabulary.save(tokenizer, folder, context)
    _sentence_transformers(folder, model.config.hidden_size, context)
    gguf.write(folder, folder / GGUF, "Q8_0")


def _sentence_transformers(folder: Path, dimensions: int, context: int) -> None:
    """What that package reads beside the model: which modules follow each other, and how they are set."""
    modules = [
        {
            "idx": place,
            "name": str(place),
            "path": name if place else "",
            "type": f"sentence_transformers.models.{name.split('_')[-1]}",
        }
        for place, name in enumerate(_MODULES)
    ]
    _json(folder / "modules.json", modules)
    _json(folder / "sentence_bert_config.json", {"max_seq_length": context, "do_lower_case": False})
    pooling = {"word_embedding_dimension": dimensions, "pooling_mode_mean_tokens": True}
    _json(folder / "1_Pooling" / "config.json", pooling | {"pooling_mode_cls_token": False})


def _json(path: Path, value: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", "utf-8")
