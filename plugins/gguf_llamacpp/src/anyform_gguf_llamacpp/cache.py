"""How much memory llama.cpp's caches take: keys and values by layer and cell, windows, recurrent states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anyform.contract.facts import Metadata
from anyform_gguf_llamacpp.options import Options

ENCODERS = frozenset({
    "bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3", "eurobert",
    "t5encoder", "gemma-embedding", "llama-embed",
})  # fmt: skip
"""Architectures of llama.cpp that embed and do not generate."""
CACHE_BYTES: Mapping[str, float] = {
    "f32": 4, "f16": 2, "bf16": 2, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32, "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}  # fmt: skip
"""Bytes of one cached number, by the type of the cache."""
CELLS = 256
"""llama.cpp rounds a sequence's cells up to it."""
UNTOLD_CONTEXT = 1 << 40

RECURRENT = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
"""Architectures whose state does not grow with the context (llama-arch.cpp, llm_arch_is_recurrent)."""
WINDOWS: Mapping[str, tuple[int, bool]] = {
    "afmoe": (4, False), "cohere2": (4, False), "cohere2moe": (4, True), "exaone-moe": (4, False),
    "exaone4": (4, False), "gemma2": (2, False), "gemma3": (6, False), "gemma3n": (5, False), "gpt-oss": (2, False),
    "laguna": (4, True), "mellum": (4, False), "olmo2": (4, False), "plamo3": (8, False), "smallthinker": (4, True),
}  # fmt: skip
"""Architectures with windowed layers: every n-th layer sees all, the last of the n or (True) the first (llama.cpp's
src/models/*.cpp, load_swa_pattern); a pattern in the file goes over it."""


@dataclass(frozen=True, slots=True)
class Kept:
    """bytes_per_token: of one sequence, beside what is fixed; total_bytes: at the context that was asked about."""

    bytes_per_token: int
    fixed_bytes: int = 0
    total_bytes: int = 0
    windowed: bool = False
    confidence: float = 0.9


def kept(metadata: Metadata, options: Options, context: int | None, parallel: int) -> Kept:
    """The caches of *parallel* sequences; *context* None: larger than any window.

    A layer keeps kv_heads x (key_length x bytes of K's type + value_length x bytes of V's) a cell (llama-kv-cache.cpp:
    n_embd_k_gqa and n_embd_v_gqa elements), for every token of the context; a windowed one for
    min(context, window + n_ubatch) rounded up to 256 (llama-kv-cache-iswa.cpp). Latent attention keeps one vector of
    key_length. The last shared_kv_layers keep none. Embedding models share one context among all sequences.
    """
    state = _state(metadata) * parallel
    if metadata.architecture in RECURRENT or not _caches(metadata):
        return Kept(0, state, state, confidence=0.8)
    layers = _layers(metadata, options)
    if layers is None:
        return Kept(0, confidence=0.3)
    window = numbers(metadata.extra.get("sliding_window"))
    spans = _windowed(metadata, len(layers)) if window and not options.swa_full else [False] * len(layers)
    cells = -(-(max(window, default=0) + options.ubatch) // CELLS) * CELLS
    narrow = sum(size for size, spanned in zip(layers, spans, strict=True) if spanned)
    if cells >= (context or UNTOLD_CONTEXT):
        narrow = 0
    shared = parallel if makes_vectors(metadata) else 1
    each = round((sum(layers) - narrow) / shared)
    fixed = round(narrow * cells * parallel / shared) + state
    hybrid = bool(state or metadata.extra.get("kv_lora_rank"))
    return Kept(each, fixed, fixed + each * (context or 0) * parallel, narrow > 0, 0.6 if hybrid else 0.9)


def of_type(cache_bytes: int, options: Options, kind: str) -> int:
    """Bytes that caches of *kind* would save, keys and values alike; 0 or less if they would not."""
    now = CACHE_BYTES[options.cache_type_k] + CACHE_BYTES[options.cache_type_v]
    return round(cache_bytes * (1 - 2 * CACHE_BYTES[kind] / now))


def makes_vectors(metadata: Metadata) -> bool:
    return bool(metadata.tasks) and metadata.tasks[0] in ("embed", "rerank")


def numbers(stated: Any) -> list[int]:
    """The numbers of a key that is one number or one for each layer."""
    listed = stated if isinstance(stated, list) else [stated]
    return [number for number in listed if isinstance(number, int)]


def _caches(metadata: Metadata) -> bool:
    """Whether a model keeps anything by token: not an encoder."""
    if {"chat", "complete"} & set(metadata.tasks):
        return True
    return metadata.architecture not in ENCODERS and metadata.extra.get("pooling") in ("last", "rank", "none")


def _layers(metadata: Metadata, options: Options) -> list[float] | None:
    """Bytes of a cell, by layer; None where the file does not say enough."""
    facts = metadata.extra
    count, key, value = facts.get("layers"), facts.get("key_length"), facts.get("value_length")
    if not isinstance(count, int) or not isinstance(key, int) or not isinstance(value, int):
        return None
    stated = numbers(facts.get("kv_heads"))
    heads = stated if len(stated) > 1 else (stated or [1]) * count
    if facts.get("kv_lora_rank"):
        heads, value = [1] * count, 0
    shared = facts.get("shared_kv_layers")
    own = len(heads) - shared if isinstance(shared, int) else len(heads)
    each = key * CACHE_BYTES[options.cache_type_k] + value * CACHE_BYTES[options.cache_type_v]
    return [number * each for number in heads[:own]]


def _windowed(metadata: Metadata, layers: int) -> list[bool]:
    """Which layers see a window only."""
    stated = metadata.extra.get("window_pattern")
    if isinstance(stated, list):
        return [bool(layer) for layer in (*stated, *[False] * layers)][:layers]
    period, first = WINDOWS.get(metadata.architecture, (1, False))
    if isinstance(stated, int) and not isinstance(stated, bool):
        period = stated
    if period <= 1:
        return [period == 0] * layers
    return [layer % period != 0 if first else layer % period < period - 1 for layer in range(layers)]


def _state(metadata: Metadata) -> int:
    """Bytes of one sequence's recurrent state in F32, all layers (llama-hparams.cpp, n_embd_r and n_embd_s)."""
    facts = metadata.extra
    state, inner, kernel = (numbers(facts.get(name)) for name in ("state_size", "inner_size", "conv_kernel"))
    layers = numbers(facts.get("layers"))
    if not state or not inner or not layers:
        return 0
    groups = max(numbers(facts.get("group_count")), default=0)
    rolling = (max(kernel, default=1) - 1) * (inner[0] + 2 * groups * state[0])
    return 4 * layers[0] * (rolling + state[0] * inner[0])
