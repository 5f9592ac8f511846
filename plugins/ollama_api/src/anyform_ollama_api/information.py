"""`model_info`: what a model's files say, by the keys that a GGUF has, whatever form they are in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from anyform.contract.facts import Metadata
from anyform.dialect import Entry

KEYS = {
    "embedding_length": "embedding_length", "layers": "block_count", "feed_forward_length": "feed_forward_length",
    "heads": "attention.head_count", "kv_heads": "attention.head_count_kv", "key_length": "attention.key_length",
    "value_length": "attention.value_length", "sliding_window": "attention.sliding_window",
    "rope_freq_base": "rope.freq_base", "experts": "expert_count", "experts_used": "expert_used_count",
}  # fmt: skip
"""Our name of a fact -> key below the architecture's name."""
TOKENS = {
    "bos": "bos_token_id", "eos": "eos_token_id", "eot": "eot_token_id", "unknown": "unknown_token_id",
    "padding": "padding_token_id",
}  # fmt: skip
"""Our name of a token -> key below `tokenizer.ggml`."""
GENERAL = ("basename", "finetune", "languages", "organization", "size_label", "tags")
"""Facts that are called so below `general`."""
FILE_TYPES = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K_S": 11, "Q3_K_M": 12,
    "Q3_K_L": 13, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_S": 16, "Q5_K_M": 17, "Q6_K": 18, "BF16": 32,
}  # fmt: skip
"""llama.h's llama_ftype."""


def information(entry: Entry, said: Metadata) -> dict[str, Any]:
    """Never null, and without the lists of tokens, which nothing here needs to read."""
    family = said.architecture or entry.match.format
    told = {"general.architecture": family, **dict(_general(said)), **dict(_own(family, said))}
    return {key: told[key] for key in sorted(told) if told[key] not in (None, "", [], {})}


def _general(said: Metadata) -> Iterator[tuple[str, Any]]:
    yield "general.parameter_count", said.parameters
    yield "general.file_type", FILE_TYPES.get(said.quantization)
    yield "general.name", said.name
    yield "general.license", said.license
    for name in GENERAL:
        yield f"general.{name}", said.extra.get(name)
    yield "tokenizer.ggml.model", said.tokenizer
    tokens = said.extra.get("special_tokens")
    for name, number in tokens.items() if isinstance(tokens, dict) else ():
        if name in TOKENS and isinstance(number, int):
            yield f"tokenizer.ggml.{TOKENS[name]}", number


def _own(family: str, said: Metadata) -> Iterator[tuple[str, Any]]:
    yield f"{family}.context_length", said.context
    yield f"{family}.vocab_size", said.vocab_size
    for name, key in KEYS.items():
        yield f"{family}.{key}", said.extra.get(name)


def projector(said: Metadata) -> dict[str, Any]:
    """`projector_info` of a model that sees; empty for others."""
    if "vision" not in said.features:
        return {}
    told = {"general.architecture": "clip", "clip.has_vision_encoder": True, "clip.has_audio_encoder": False}
    return told | ({"clip.has_audio_encoder": True} if "audio" in said.features else {})
