"""How much memory llama.cpp takes for a model: weights, KV cache, compute buffers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anyform.contract.facts import MemoryEstimate, Metadata, Settings
from anyform_gguf_llamacpp import options as load_options

CACHE_BYTES: Mapping[str, float] = {
    "f32": 4, "f16": 2, "bf16": 2, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32, "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}  # fmt: skip
"""Bytes of one cached number, by the type of the cache."""
CACHE_TYPE = "f16"
MICRO_BATCH = 512
"""llama.cpp's default `n_ubatch`: tokens that one graph works on."""
ENGINE_BYTES = 64 << 20
"""Code, thread pools, graphs and vocabulary: what an empty process with the engine takes, roughly."""

RECURRENT = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
"""Architectures whose state does not grow with the context (llama-arch.cpp, llm_arch_is_recurrent)."""


def estimate(metadata: Metadata, settings: Settings) -> MemoryEstimate:
    """Memory of a model with these settings.

    weights        the tensors' bytes, as they lie in the file (llama.cpp maps or copies them unchanged), and the
                   projector's file
    KV a token     sum over layers of kv_heads x (key_length + value_length) x bytes of the cache type
                   (llama-kv-cache.cpp: K and V of n_embd_k_gqa and n_embd_v_gqa elements a layer and cell)
    compute        n_ubatch x (max(vocabulary + 2 x embedding, 4 x feed_forward) + embedding) x 4 bytes: the logits of a
                   micro-batch beside its activations, or the feed-forward's (within 5% of what llama.cpp reports for
                   llama graphs with flash attention)
    engine         64 MiB

    Raises Invalid for an option that the backend does not know, so that it is refused before anything is loaded.
    Sliding windows and hybrid layers need less than this; it is an upper bound for them, with less confidence.
    """
    load_options.read(settings.options)
    facts = metadata.extra
    per_token = _cache_bytes_per_token(metadata, settings.options)
    overhead = ENGINE_BYTES + _compute_bytes(metadata, settings.options)
    known = per_token is not None
    sparse = any(name in facts for name in ("sliding_window", "state_size", "kv_lora_rank"))
    return MemoryEstimate(
        weights_bytes=(metadata.weight_bytes or 0) + int(facts.get("mmproj_bytes", 0)),
        bytes_per_token=per_token or 0,
        overhead_bytes=overhead,
        confidence=0.3 if not known else 0.6 if sparse else 0.8,
        why="weights as in the file + layers x KV heads x (key + value length) x cache type a token"
        " + micro-batch x (vocabulary or activations) x 4 bytes + 64 MiB for the engine",
    )


def _cache_bytes_per_token(metadata: Metadata, options: Mapping[str, Any]) -> int | None:
    """None where the file does not say enough."""
    if metadata.architecture in RECURRENT or not _generates(metadata):
        return 0
    facts = metadata.extra
    layers, key, value = facts.get("layers"), facts.get("key_length"), facts.get("value_length")
    if not isinstance(layers, int) or not isinstance(key, int) or not isinstance(value, int):
        return None
    heads = _kv_heads(facts.get("kv_heads"), layers)
    if facts.get("kv_lora_rank"):
        heads, value = layers, 0  # latent attention keeps one compressed vector a layer, of key_length
    return round(heads * (key * _bytes(options, "cache_type_k") + value * _bytes(options, "cache_type_v")))


def _generates(metadata: Metadata) -> bool:
    return bool({"chat", "complete"} & set(metadata.tasks)) or metadata.extra.get("pooling") in ("last", "rank", "none")


def _kv_heads(stated: Any, layers: int) -> int:
    """KV heads of all layers together."""
    if isinstance(stated, list):
        return sum(number for number in stated if isinstance(number, int))
    return stated * layers if isinstance(stated, int) else layers


def _bytes(options: Mapping[str, Any], name: str) -> float:
    return CACHE_BYTES.get(str(options.get(name, CACHE_TYPE)).lower(), CACHE_BYTES[CACHE_TYPE])


def _compute_bytes(metadata: Metadata, options: Mapping[str, Any]) -> int:
    facts = metadata.extra
    batch = options.get("ubatch")
    tokens = batch if isinstance(batch, int) and batch > 0 else MICRO_BATCH
    width = _largest(facts.get("embedding_length"))
    forward = _largest(facts.get("feed_forward_length"))
    return tokens * (max((metadata.vocab_size or 0) + 2 * width, 4 * forward) + width) * 4


def _largest(stated: Any) -> int:
    numbers = stated if isinstance(stated, list) else [stated]
    return max((number for number in numbers if isinstance(number, int)), default=0)
