"""How much memory llama.cpp takes for a model: weights, KV cache, compute buffers, and what comes with any engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anyform.contract.facts import MemoryEstimate, Metadata, Saving, Settings
from anyform_gguf_llamacpp import cache
from anyform_gguf_llamacpp import options as load_options
from anyform_gguf_llamacpp.cache import numbers
from anyform_gguf_llamacpp.options import Options
from anyform_gguf_llamacpp.repacking import repacked

SPARED = 0.95
"""Of an accelerator's free bytes, what layers are put into."""
PROCESS_BYTES = 56 << 20
"""Python, numpy, llguidance, llama.cpp, threads: fitted, as what the rest of the formula left over of a worker's VmHWM
for 0.1B models in F16 and Q4_K_M on one Linux x86 machine (56 to 58 MiB). Other platforms differ by some MiB."""
TOKEN_BYTES, MERGE_BYTES = 152, 136
"""A token in llama-vocab.cpp's id_to_token, token_to_id and cache_token_to_piece; a merge in its bpe_ranks. Only the
sum was measured, 288 bytes, from vocabularies of 32,000 and 151,936; the split is counted from the containers."""
LOGITS = 3
"""Times that the logits of an answer lie in memory: the graph's, the context's output, the sampler's."""
UNTOLD_CONTEXT = 8192
"""The context that buffers are sized for where the settings name none; asked again with one, they are right."""
SMALL_MODEL_BYTES = 16 << 20
"""Below it loader.py computes exactly, without flash attention."""


def estimate(metadata: Metadata, settings: Settings) -> MemoryEstimate:
    """Memory of a model with these settings, as resident bytes of its process at their peak.

    Checked against llama.cpp as llama-cpp-python 0.3.36 brings it; `benchmarks/memory.py` measures. The activations'
    factors are fitted to it, on dense models on a CPU; mixtures, encoders and accelerators follow by analogy.

    weights   the tensors' bytes as they lie in the file, all of them read at load (llama-mmap.cpp maps with
              MAP_POPULATE); the projector's file; and a copy of what this CPU's kernels want in another order
              (ggml-cpu/repack.cpp, amx.cpp), as far as it stays in main memory: the file stays mapped beside it
    cache     see cache.py: by layer, and for windowed layers the window only; cleared, so touched, at load. Of two
              sequences at least where loader.py computes exactly
    compute   n_ubatch x 4 bytes x (max(4 x feed_forward, 4 x heads x key_length) + 2 x embedding): activations that
              live at once, of the experts used in a mixture; n_ubatch x cells x 2 bytes for the mask, and without
              flash attention x 4 bytes x (heads + 2) for it and the scores; 3 x 4 bytes x vocabulary for each
              answer's logits. Mask and scores are touched as far as the context is filled: a peak measured with a
              short prompt lacks them. Not in it: 64 rows of logits that only a request for its prompt's likelihoods
              touches
    process   152 bytes a token of the vocabulary and 136 a merge, and 56 MiB

    Raises Invalid for an option that the backend does not know, so that it is refused before anything is loaded.
    """
    options = load_options.read(settings.options)
    share = _accelerated(metadata, settings, options)
    weights = (metadata.weight_bytes or 0) + int(metadata.extra.get("mmproj_bytes", 0))
    copies = round(_copied(metadata) * (1 - share)) if options.use_extra_bufts else 0
    context = settings.context or min(metadata.context or UNTOLD_CONTEXT, UNTOLD_CONTEXT)
    parallel = settings.parallel or 1
    sequences = max(parallel, 2) if _exact(metadata, options) else parallel
    kept = cache.kept(metadata, options, settings.context, sequences)
    confidence = kept.confidence if metadata.extra.get("embedding_length") else 0.3
    return MemoryEstimate(
        weights_bytes=weights + copies,
        bytes_per_token=kept.bytes_per_token * sequences // parallel,
        overhead_bytes=kept.fixed_bytes + _compute(metadata, options, context, settings) + _process(metadata),
        confidence=confidence,
        why="weights as in the file"
        + (", again as this CPU's kernels want them" if copies else "")
        + " + layers x KV heads x (key + value length) x cache type a token"
        + (" (a window's tokens in windowed layers)" if kept.windowed else "")
        + " + micro-batch x (activations + mask) + logits + 56 MiB and the vocabulary for the process",
        accelerated=share,
        savings=tuple(_savings(metadata, settings, options, kept.total_bytes, copies, weights)),
    )


def _accelerated(metadata: Metadata, settings: Settings, options: Options) -> float:
    """The share of layers on the accelerator, the output counting as one (llama-model.cpp, n_gpu_layers)."""
    if settings.device == "cpu" or options.gpu_layers == 0:
        return 0.0
    layers = metadata.extra.get("layers")
    if options.gpu_layers in (None, -1) or not isinstance(layers, int):
        return 1.0
    return min(1.0, (options.gpu_layers or 0) / (layers + 1))


def fitting_layers(metadata: Metadata, settings: Settings, free_bytes: int) -> int | None:
    """How many layers, the output counting as one, an accelerator with so many free bytes has room for, beside the
    buffers; None: the file does not say enough.
    """
    layers = metadata.extra.get("layers")
    if not isinstance(layers, int) or free_bytes <= 0:
        return None
    told = estimate(metadata, settings)
    spread = told.at(settings) - told.overhead_bytes
    left = free_bytes * SPARED - told.overhead_bytes
    return max(0, min(layers + 1, int(left * (layers + 1) // max(spread, 1))))


def _copied(metadata: Metadata) -> int:
    """Bytes of the weights that are kept twice in main memory."""
    by_type = metadata.extra.get("matrix_bytes")
    return sum(size for name, size in by_type.items() if name in repacked()) if isinstance(by_type, Mapping) else 0


def _compute(metadata: Metadata, options: Options, context: int, settings: Settings) -> int:
    facts, parallel = metadata.extra, settings.parallel or 1
    makes_vectors = cache.makes_vectors(metadata)
    batch = max(min(context, metadata.context or context), options.ubatch) if makes_vectors else options.ubatch
    forward = max(
        _largest(facts, "feed_forward_length"),
        _largest(facts, "expert_feed_forward_length") * _largest(facts, "experts_used"),
    )
    heads, width = _largest(facts, "heads"), _largest(facts, "embedding_length")
    live = 4 * max(forward, heads * _largest(facts, "key_length")) + 2 * width
    cells = batch if makes_vectors else context
    scores = 2 if _flashes(metadata, options) else 4 * (heads + 2)
    logits = 0 if makes_vectors else LOGITS * 4 * (metadata.vocab_size or 0) * parallel
    return batch * (4 * live + scores * cells) + logits


def _flashes(metadata: Metadata, options: Options) -> bool:
    """Whether attention is computed without keeping its scores; as loader.py decides."""
    if options.flash_attention is not None:
        return options.flash_attention
    return not _exact(metadata, options)


def _exact(metadata: Metadata, options: Options) -> bool:
    """Whether answers are computed alike whatever runs beside them; as loader.py decides."""
    if cache.makes_vectors(metadata) or metadata.architecture in cache.RECURRENT:
        return False
    small = (metadata.weight_bytes or 0) < SMALL_MODEL_BYTES
    return small if options.exact is None else options.exact


def _process(metadata: Metadata) -> int:
    merges = metadata.tokenizer == "gpt2"
    return PROCESS_BYTES + (metadata.vocab_size or 0) * (TOKEN_BYTES + (MERGE_BYTES if merges else 0))


def _savings(
    metadata: Metadata, settings: Settings, options: Options, cache_bytes: int, copies: int, weights: int
) -> list[Saving]:
    """Smaller caches where theirs is larger, no second copy of the weights, half of the layers in main memory."""
    found = []
    for kind, cost in (("q8_0", "hardly another answer"), ("q4_0", "worse answers")):
        fewer = cache.of_type(cache_bytes, options, kind)
        if fewer > 0 and _flashes(metadata, options):
            both = {"cache_type_k": kind, "cache_type_v": kind}
            found.append(Saving(options=both, bytes=fewer, why=f"a KV cache of {kind}: {cost}"))
    if copies:
        why = "weights only as in the file: prompts are read more slowly"
        found.append(Saving(options={"use_extra_bufts": False}, bytes=copies, why=why))
    layers = metadata.extra.get("layers")
    most = layers + 1 if isinstance(layers, int) else 0
    there = most if options.gpu_layers in (None, -1) else min(options.gpu_layers or 0, most)
    if there > 1 and settings.device != "cpu":
        moved = round((weights + cache_bytes) * (there - there // 2) / most)
        why = f"{there // 2} of {most} layers on the accelerator: slower"
        found.append(Saving(options={"gpu_layers": there // 2}, bytes=moved, why=why, moves=True))
    return found


def _largest(facts: Mapping[str, Any], name: str) -> int:
    return max(numbers(facts.get(name)), default=0)
