"""How much memory transformers takes for a model: weights, KV cache, activations, and what comes with any torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anyform.contract.facts import MemoryEstimate, Metadata, Saving, Settings
from anyform_hf_transformers import options as load_options
from anyform_hf_transformers.options import Options

PROCESS_BYTES = 368 << 20
"""Python, torch, transformers with one model's code, llguidance: what the rest of the formula leaves of the VmHWM of a
process that has loaded and run a model of 5 to 100 million parameters (torch 2.13 for CPUs, Linux, x86)."""
DEVICE_BYTES = 600 << 20
"""What a CUDA context and its libraries take of an accelerator; a guess, not measured here."""
UNTOLD_CONTEXT = 8192
"""As loading.py: the context where neither settings nor model name one."""
FEWEST_SLOTS, SMALL_MODEL_BYTES = 4, 32 << 20
"""As generation.py and loading.py: models under it have so many slots at the least, on a CPU."""
BLOCK = 64
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "F32": 4, "F16": 2, "BF16": 2, "F64": 8}


def estimate(metadata: Metadata, settings: Settings) -> MemoryEstimate:
    """Memory of a model with these settings.

    weights      parameters x the bytes of the numbers computed in: on a CPU 4 unless the option dtype says otherwise
                 (bfloat16 files stay so where the CPU has it: not known here, so counted in full), on an accelerator
                 those of the file; quantized files as they lie
    cache        2 x layers x KV heads x head size x bytes a token, for the whole context of each slot
    activations  `batch` tokens x 2 x (2 x feed-forward + 6 x width + mask of the context) x bytes, one layer's keys and
                 values again, once for each query head, and logits
    process      368 MiB; on an accelerator 600 MiB there

    Not in it: the pages of a file whose numbers become others while they are read (they show in a process's peak, but
    are clean, and given back to whoever needs memory).

    Raises Invalid for an option that the backend does not know, so that it is refused before anything is loaded.
    """
    options = load_options.read(settings.options)
    on_cpu = settings.device in (None, "cpu")
    each = _number_bytes(metadata, options, on_cpu)
    weights = _weights(metadata, each)
    facts = metadata.extra
    makes_vectors = metadata.tasks[:1] in (("embed",), ("rerank",))
    context = settings.context or min(metadata.context or UNTOLD_CONTEXT, UNTOLD_CONTEXT)
    token_bytes = 0 if makes_vectors else _token_bytes(facts, each)
    parallel = settings.parallel or 1
    exact = on_cpu and (weights < SMALL_MODEL_BYTES if options.exact is None else options.exact)
    slots = max(parallel, FEWEST_SLOTS) if exact else parallel
    columns = -(-context // BLOCK) * BLOCK + 1
    # asked for as context x parallel tokens; what blocks and spare slots add comes on top
    beyond = token_bytes * (columns * slots - (settings.context or 0) * parallel)
    compute = _compute(metadata, options, context, 0 if makes_vectors else slots, each)
    return MemoryEstimate(
        weights_bytes=weights,
        bytes_per_token=token_bytes,
        overhead_bytes=max(beyond, 0) + compute + (PROCESS_BYTES if on_cpu else DEVICE_BYTES),
        confidence=0.6 if facts.get("layers") and metadata.parameters else 0.3,
        why="parameters x bytes of a number + 2 x layers x KV heads x head size x bytes a token"
        " + a batch's activations and mask + logits + the process",
        savings=tuple(_savings(options, each, weights, token_bytes * columns * slots)),
    )


def _number_bytes(metadata: Metadata, options: Options, on_cpu: bool) -> int:
    if options.dtype:
        return _BYTES[options.dtype]
    return 4 if on_cpu else _BYTES.get(str(metadata.extra.get("dtype", "")), 4)


def _weights(metadata: Metadata, each: int) -> int:
    stored = metadata.weight_bytes or 0
    if metadata.extra.get("quantization_config"):
        return stored
    if metadata.parameters:
        return metadata.parameters * each
    return stored * each // _BYTES.get(str(metadata.extra.get("dtype", "")), each)


def _token_bytes(facts: Mapping[str, Any], each: int) -> int:
    layers, heads = _number(facts, "layers"), _number(facts, "kv_heads") or _number(facts, "heads")
    key = _number(facts, "key_length") or _number(facts, "embedding_length") // max(_number(facts, "heads"), 1)
    value = _number(facts, "value_length") or key
    return layers * heads * (key + value) * each


def _compute(metadata: Metadata, options: Options, context: int, slots: int, each: int) -> int:
    facts = metadata.extra
    width, forward = _number(facts, "embedding_length"), _number(facts, "feed_forward_length")
    forward *= max(_number(facts, "experts_used"), 1)
    tokens = options.batch if slots else max(options.batch, context)
    looks = context if slots else context * max(_number(facts, "heads"), 1)
    logits = 2 * 4 * (metadata.vocab_size or 0) * slots
    again = 2 * _number(facts, "heads") * _number(facts, "key_length") * context
    return each * (2 * tokens * (2 * forward + 6 * width + looks) + again) + logits


def _savings(options: Options, each: int, weights: int, cache: int) -> list[Saving]:
    if each <= 2 or options.dtype:
        return []
    return [
        Saving(
            options={"dtype": "bfloat16"},
            bytes=(weights + cache) // 2,
            why="numbers of half the size: hardly another answer, but slow on a CPU that lacks them",
        )
    ]


def _number(facts: Mapping[str, Any], name: str) -> int:
    """A fact that is a number, or the largest of several."""
    value = facts.get(name)
    values = value if isinstance(value, list) else [value]
    return max((one for one in values if isinstance(one, int)), default=0)
