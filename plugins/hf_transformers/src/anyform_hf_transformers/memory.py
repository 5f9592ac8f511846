"""How much memory transformers takes for a model: weights, KV cache, activations, and what comes with any torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from anyform.contract.facts import MemoryEstimate, Metadata, Saving, Settings
from anyform.picture.memory import PHOTO_BYTES
from anyform.picture.pixels import PREPARED
from anyform_hf_transformers import adapter, foreign, gguf, picturememory, placement, quantization, speechmemory
from anyform_hf_transformers import options as load_options
from anyform_hf_transformers.options import Options
from anyform_hf_transformers.requirement import missing, require

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
_PAGES = "; the cache twice, since plain requests run in transformers' continuous batching, where it works"
BATCHES_AT_ONCE = 4
"""Of texts to embed or classify, on a CPU; a text that is longer than all of them is alone."""
_CONVERTED_BYTES = 2
"""Of a number that is made of a GGUF on an accelerator."""


def estimate(metadata: Metadata, settings: Settings) -> MemoryEstimate:
    """Memory of a model with these settings.

    weights      parameters x the bytes of the numbers computed in: on a CPU 4 unless the option dtype says otherwise
                 (bfloat16 files stay so where the CPU has it: not known here, so counted in full), on an accelerator
                 those of the file; quantized files as they lie, unless they are unpacked there; with the option
                 quantization the linear layers by what that makes of them; of a GGUF all numbers, in 16 bits on an
                 accelerator; an adapter's with its base's; with a device_map one accelerator's share, and a layer
    cache        2 x layers x KV heads x head size x bytes a token, for the whole context of each slot; twice that
                 where plain requests run in pages
    activations  `batch` tokens (of an encoder on a CPU four times as many) x 2 x (2 x feed-forward + 6 x width + mask
                 of the context) x bytes, one layer's keys and values again, once for each query head, and logits
    pictures     tokens of the largest one that fits, where they are more than `batch`; its patches x (2 x feed-forward
                 + 6 x width) x bytes of the network that looks; and those that are decoded meanwhile (picturememory.py)
    output       once more where it shares its matrix with the embeddings, on a CPU (option packed)
    process      368 MiB; on an accelerator 600 MiB there

    Not in it: the pages of a file whose numbers become others while they are read (they show in a process's peak, but
    are clean, and given back to whoever needs memory).

    Raises, so that it is refused before anything is loaded: Invalid for an option that the backend does not know;
    Unsupported for a model whose code is not there or not trusted, a GGUF that transformers does not convert, and a
    quantization that the device cannot have; EngineMissing for a package; LoadFailed for an adapter without its base.
    """
    options = load_options.read(settings.options)
    makes_vectors = metadata.tasks[:1] in (("embed",), ("rerank",), ("classify",), ("zero_shot",))
    metadata, adapting = _network(metadata, options)
    foreign.check(metadata, options)
    quantization.check(metadata, options.quantization, settings.device)
    placement.check(options.device_map, settings.device)
    on_cpu = settings.device in (None, "cpu")
    each = _number_bytes(metadata, options, on_cpu)
    weights = quantization.weight_bytes(metadata, options.quantization, each, settings.device) + adapting
    facts = metadata.extra
    _check_senses(metadata)
    if speechmemory.is_speech(metadata):
        return _of_speech(metadata, options, settings.device, each, weights)
    if picturememory.is_picture(metadata):
        return _of_pictures(metadata, options, settings, each, weights)
    context = settings.context or min(metadata.context or UNTOLD_CONTEXT, UNTOLD_CONTEXT)
    token_bytes = 0 if makes_vectors else _token_bytes(facts, each)
    if _has_pages(options, on_cpu):
        token_bytes *= 2  # pages beside slots
    if options.device_map and not on_cpu:
        weights = _share(weights, options) + weights // max(_number(facts, "layers"), 1)
        token_bytes = _share(token_bytes, options)
    parallel = settings.parallel or 1
    exact = on_cpu and (weights < SMALL_MODEL_BYTES if options.exact is None else options.exact)
    slots = max(parallel, FEWEST_SLOTS) if exact else parallel
    columns = -(-context // BLOCK) * BLOCK + 1
    # asked for as context x parallel tokens; what blocks and spare slots add comes on top
    beyond = token_bytes * (columns * slots - (settings.context or 0) * parallel)
    at_once = BATCHES_AT_ONCE if makes_vectors and on_cpu and not exact else 1
    compute = _compute(metadata, options, context, 0 if makes_vectors else slots, each, at_once)
    if on_cpu and not (exact or makes_vectors):
        compute += _packed_again(metadata, options, each)
    if facts.get("picture") and on_cpu:
        compute += min(parallel, PREPARED) * PHOTO_BYTES
    return MemoryEstimate(
        weights_bytes=weights,
        bytes_per_token=token_bytes,
        overhead_bytes=max(beyond, 0) + compute + (PROCESS_BYTES if on_cpu else DEVICE_BYTES),
        confidence=0.6 if facts.get("layers") and metadata.parameters else 0.3,
        why="parameters x bytes of a number + 2 x layers x KV heads x head size x bytes a token"
        f" + a batch's activations and mask + logits + the process{_PAGES if _has_pages(options, on_cpu) else ''}",
        savings=tuple(_savings(metadata, options, settings.device, each, (weights, token_bytes * columns * slots))),
    )


def _check_senses(metadata: Metadata) -> None:
    """Raises EngineMissing where what reads its sounds or pictures is not installed; chats go without pictures."""
    if speechmemory.is_speech(metadata):
        require("a model that hears", "av", beside="torch")
    elif picturememory.is_picture(metadata):
        require("a model that sees", "pillow", beside="torch")


def _packed_again(metadata: Metadata, options: Options, each: int) -> int:
    """An output that is the embeddings' matrix as well is there twice, once packed; models that see are not packed."""
    facts = metadata.extra
    shared = options.packed and not (options.quantization or facts.get("untied") or facts.get("picture"))
    return (metadata.vocab_size or 0) * _number(metadata.extra, "embedding_length") * each if shared else 0


def _of_speech(metadata: Metadata, options: Options, device: str | None, each: int, weights: int) -> MemoryEstimate:
    """Its context is part of the model, and so is no request's to choose."""
    working = speechmemory.working_bytes(metadata, each, options.audio_seconds)
    return MemoryEstimate(
        weights_bytes=weights,
        bytes_per_token=0,
        overhead_bytes=working + (PROCESS_BYTES if device in (None, "cpu") else DEVICE_BYTES),
        confidence=0.6 if metadata.extra.get("layers") and metadata.parameters else 0.3,
        why="parameters x bytes of a number + one window's activations, keys and values"
        " + the spectrogram of the longest sound + the process",
        savings=tuple(_savings(metadata, options, device, each, (weights, 0))),
    )


def _of_pictures(metadata: Metadata, options: Options, settings: Settings, each: int, weights: int) -> MemoryEstimate:
    """There is no context to choose, and hardly any cache."""
    on_cpu = settings.device in (None, "cpu")
    working = picturememory.working_bytes(metadata, each, settings.parallel or 1, on_cpu)
    return MemoryEstimate(
        weights_bytes=weights,
        bytes_per_token=0,
        overhead_bytes=working + (PROCESS_BYTES if on_cpu else DEVICE_BYTES),
        confidence=0.6 if metadata.extra.get("sight") and metadata.parameters else 0.3,
        why="parameters x bytes of a number + a step's activations + pictures that are decoded + the process",
        savings=tuple(_savings(metadata, options, settings.device, each, (weights, 0))),
    )


def _network(metadata: Metadata, options: Options) -> tuple[Metadata, int]:
    """What the weights belong to, of an adapter its base; and the bytes of the adapter's own."""
    if gguf.is_gguf(metadata):
        gguf.check(metadata)
    if not adapter.is_adapter(metadata):
        return metadata, 0
    _, _, base = adapter.needed(metadata, Path(), options.base)
    return base, metadata.weight_bytes or 0


def _has_pages(options: Options, on_cpu: bool) -> bool:
    """Whether transformers' own batching is there, too."""
    return options.batching == "paged" or (options.batching == "auto" and not on_cpu)


def _share(amount: int, options: Options) -> int:
    """One accelerator's part of *amount*."""
    return -(-amount // (options.accelerators or placement.FEWEST_ACCELERATORS))


def _number_bytes(metadata: Metadata, options: Options, on_cpu: bool) -> int:
    if options.dtype:
        return quantization.DTYPE_BYTES[options.dtype]
    if on_cpu:
        return 4
    if gguf.is_gguf(metadata):
        return _CONVERTED_BYTES
    return quantization.DTYPE_BYTES.get(str(metadata.extra.get("dtype", "")), 4)


def _token_bytes(facts: Mapping[str, Any], each: int) -> int:
    layers, heads = _number(facts, "layers"), _number(facts, "kv_heads") or _number(facts, "heads")
    key = _number(facts, "key_length") or _number(facts, "embedding_length") // max(_number(facts, "heads"), 1)
    value = _number(facts, "value_length") or key
    return layers * heads * (key + value) * each


def _compute(metadata: Metadata, options: Options, context: int, slots: int, each: int, at_once: int) -> int:
    facts = metadata.extra
    width, forward = _number(facts, "embedding_length"), _number(facts, "feed_forward_length")
    forward *= max(_number(facts, "experts_used"), 1)
    seen = facts.get("picture") or {}
    tokens = max(options.batch * at_once, 0 if slots else context, min(_number(seen, "tokens"), context))
    looks = context if slots else context * max(_number(facts, "heads"), 1)
    logits = 2 * 4 * (metadata.vocab_size or 0) * slots
    again = 2 * _number(facts, "heads") * _number(facts, "key_length") * context
    looking = _looking(seen, context) if slots else 0
    return each * (2 * tokens * (2 * forward + 6 * width + looks) + again + looking) + logits


def _looking(seen: Mapping[str, Any], context: int) -> int:
    """Numbers that are held while a picture is looked at, the largest that the context has room for."""
    patches, tokens = _number(seen, "patches"), max(_number(seen, "tokens"), 1)
    patches = min(patches, -(-patches // tokens) * context)
    return patches * (2 * _number(seen, "feed_forward") + 6 * _number(seen, "width"))


def _savings(
    metadata: Metadata, options: Options, device: str | None, each: int, taken: tuple[int, int]
) -> Iterator[Saving]:
    """*taken*: by weights and cache."""
    weights, cache = taken
    if each > 2 and not options.dtype:
        yield Saving(
            options={"dtype": "bfloat16"},
            bytes=(weights + cache) // 2,
            why="numbers of half the size: hardly another answer, but slow on a CPU that lacks them",
        )
    if options.quantization or quantization.stored(metadata) or gguf.is_gguf(metadata):
        return
    for name, costs in (("8bit", "hardly another answer"), ("4bit", "somewhat other answers")):
        method = quantization.CHOICES[name]
        if (device or "cpu").partition(":")[0] in method.devices and not missing(*method.packages):
            left = quantization.weight_bytes(metadata, name, each, None)
            said = f"weights of {name[0]} bits, made while loading: {costs}, and slower"
            yield Saving(options={"quantization": name}, bytes=max(weights - left, 0), why=said)


def _number(facts: Mapping[str, Any], name: str) -> int:
    """A fact that is a number, or the largest of several."""
    value = facts.get(name)
    values = value if isinstance(value, list) else [value]
    return max((one for one in values if isinstance(one, int)), default=0)
