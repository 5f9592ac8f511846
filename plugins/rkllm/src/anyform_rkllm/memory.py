"""How much memory a model takes on an NPU, which has none of its own: weights, KV cache, and the library's buffers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anyform.contract.facts import MemoryEstimate, Metadata, Settings

NUMBER_BYTES = 2
"""Of a number in the cache: half precision."""
OVERHEAD_BYTES = 256 << 20
"""Guessed: the library's and the driver's buffers, and this process. Nobody measured it here."""
VISION_FACTOR = 1.5
"""Guessed: an encoder's file and what it computes with."""
LEAST_TOKEN_BYTES, TOKEN_BYTES_PER_BILLION = 112 << 10, 16 << 10
"""A token of the cache where config.json does not tell: no less than small models of today take (Qwen3-0.6B: 112 KiB;
Qwen2.5-1.5B: 28), and with the parameters as larger ones do (Qwen2.5-14B: 192 KiB; Llama-3.1-8B: 128). Models without
grouped heads take up to three times as much (deepseek-llm-7b: 480)."""
MOST_TOKEN_BYTES = 1 << 30
UNTOLD_PARAMETERS = 3 * 10**9


def estimate(metadata: Metadata, settings: Settings) -> MemoryEstimate:
    """Memory of a model with these settings; nothing of it was measured on a board.

    weights   the file's bytes, all of which the library reads, and an encoder of pictures with what it computes with
    cache     2 bytes x layers x KV heads x (key + value length) a token, of one request: others wait for it
    overhead  256 MiB
    """
    parallel = settings.parallel or 1
    told = _token_bytes(metadata.extra)
    token = told or _guessed(metadata.parameters)
    vision = round(VISION_FACTOR * int(metadata.extra.get("vision_bytes") or 0))
    return MemoryEstimate(
        weights_bytes=(metadata.weight_bytes or 0) + vision,
        bytes_per_token=-(-token // parallel),
        overhead_bytes=OVERHEAD_BYTES,
        confidence=0.4 if told else 0.2,
        why="weights as in the file"
        + (" + an encoder of pictures" if vision else "")
        + (
            " + 2 bytes x layers x KV heads x (key + value length) a token"
            if told
            else f" + {token >> 10} KiB a token, guessed from the parameters, for there is no config.json"
        )
        + " + 256 MiB for the library, guessed: nothing was measured on a board",
    )


def _token_bytes(extra: Mapping[str, Any]) -> int:
    """A token of the cache by config.json; 0 where it does not say."""
    layers, heads, key, value = (_number(extra.get(n)) for n in ("layers", "kv_heads", "key_length", "value_length"))
    return min(NUMBER_BYTES * layers * heads * (key + value), MOST_TOKEN_BYTES)


def _number(value: Any) -> int:
    """A whole number that a network can have, else 0."""
    return value if type(value) is int and 0 < value < 1 << 20 else 0


def _guessed(parameters: int | None) -> int:
    billions = (parameters or UNTOLD_PARAMETERS) / 10**9
    return LEAST_TOKEN_BYTES + round(TOKEN_BYTES_PER_BILLION * min(billions, 1000))
