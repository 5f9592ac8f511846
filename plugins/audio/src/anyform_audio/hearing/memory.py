"""How much memory faster-whisper takes for a Whisper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from anyform.contract.facts import MemoryEstimate, Metadata, Saving, Settings
from anyform_audio.hearing import options as load_options
from anyform_audio.hearing.network import WINDOW
from anyform_audio.hearing.options import Options

PROCESS_BYTES = 100 << 20
"""Python, CTranslate2, PyAV, the tokenizer (CTranslate2 4.8, Linux, x86)."""
DEVICE_BYTES = 600 << 20
"""CUDA's context and libraries on an accelerator."""
STEP_BYTES = 32 << 20
"""What computing takes beside attention, keys and values."""
SILERO_BYTES = 88 << 20
"""onnxruntime with the model that finds speech; any request may ask for it."""
SPECTRUM_S, SPECTRUM_BYTES = 300, 1_250_000
"""Up to how many seconds a spectrum is made at once, and what that takes for each of them."""
RATE, FRAMES = 16_000, 100
"""Of a sound and its spectrum, a second."""
COPIES = 3
"""Of a sound: as it is read, as its spectrum is made of it, and what is speech of it."""
BANDS = 128
"""Of a model that does not say."""
CONTEXT = 448
SHORT_S = 600.0
"""To what a saving shortens sounds."""
PRECISE = 4


def estimate(metadata: Metadata, settings: Settings) -> MemoryEstimate:
    """Bytes, with *settings*' options. A Whisper's context is its own: there is no more or less of it to choose.

    weights      parameters x bytes of a number, and 4 for positions and, in int8, a scale a row. On a CPU the numbers
                 are 1 byte for int8 (also auto) and 4 else, whatever the file has
    window       for each of the requests at once: heads x 1500² (attention) + 2 x layers x 1500 x width (keys and
                 values of the sound) + 2 x layers x context x width x beams (of the text), numbers of 4 bytes; 32 MiB
    sound        of the longest (option audio_seconds), once: 3 x 16,000 samples and 100 frames of all bands a second,
                 4 bytes each; 1.25 MB a second for up to 300 of them while its spectrum is made; Silero VAD 88 MiB
    loading      the file's own numbers, where they are larger
    process      100 MiB; an accelerator has 600 MiB of its own

    Workers (`parallel`) share the weights. Not in it: the bytes of the file that is sent, the pages of safetensors
    that are converted (they show in a peak, but are clean), and the converted copy in the folder for temporary files.

    Peaks measured without the file sent, and in brackets the estimates with audio_seconds as long, MiB. A tiny model
    with VAD: 30 s 182 (282), 7,200 s 2,128 (2,135). Random weights of base's size, words timed: int8, 120 s, 401 (618);
    from transformers' float32, 30 s, 535 (695). One window without VAD: small's size in int8 616 (864), two layers of
    encoder and six of decoder as wide as large-v3 in int8 680 (920). The rest is for texts of all 448 positions.

    Raises Invalid for an option that the backend does not know.
    """
    options = load_options.read(settings.options)
    weights, there, total = _taken(metadata, options, settings)
    on_cpu = _is_cpu(settings)
    return MemoryEstimate(
        weights_bytes=weights,
        bytes_per_token=0,
        overhead_bytes=total - weights,
        confidence=0.6 if on_cpu and metadata.parameters and metadata.extra.get("layers") else 0.3,
        why="parameters x bytes of a number + a window's attention, keys and values for each request at once"
        f" + one sound of {options.audio_seconds:g} s with its spectrum + Silero VAD + the process",
        accelerated=1.0 if on_cpu else there / total,
        savings=tuple(_savings(metadata, options, settings, total)),
    )


def _is_cpu(settings: Settings) -> bool:
    return settings.device in (None, "cpu")


def _taken(metadata: Metadata, options: Options, settings: Settings) -> tuple[int, int, int]:
    """(weights, all that lies where it is computed, all)"""
    on_cpu = _is_cpu(settings)
    each = _number_bytes(metadata.quantization, options.compute_type, on_cpu)
    weights = _weights(metadata, each)
    window = (settings.parallel or 1) * _window(metadata, options, PRECISE if on_cpu else min(each * 2, PRECISE))
    loading = max((metadata.weight_bytes or 0) - weights, 0)
    there = weights + max(window + (0 if on_cpu else DEVICE_BYTES), loading)
    return weights, there, there + _sound(metadata, options.audio_seconds) + PROCESS_BYTES


def _number_bytes(quantization: str, asked: str, on_cpu: bool) -> int:
    """Of most weights, as CTranslate2 resolves compute types (src/types.cc)."""
    kind = quantization.lower() if asked == "default" else "int8" if asked == "auto" and on_cpu else asked
    if kind.startswith("int8"):
        return 1
    half = kind.startswith(("float16", "bfloat16", "int16", "f16", "bf16", "auto"))
    return 2 if half and (not on_cpu or kind == "int16") else PRECISE


def _weights(metadata: Metadata, each: int) -> int:
    """Weights in memory: what is no matrix stays as precise as it is computed with."""
    if metadata.parameters is None:
        return metadata.weight_bytes or 0
    facts = metadata.extra
    width = max(_number(facts, "embedding_length"), 1)
    precise = (WINDOW + (metadata.context or CONTEXT)) * width if each == 1 else 0
    scales = metadata.parameters // width if each == 1 else 0
    return each * (metadata.parameters - precise) + PRECISE * (precise + scales)


def _window(metadata: Metadata, options: Options, each: int) -> int:
    facts = metadata.extra
    width, layers = _number(facts, "embedding_length"), _number(facts, "layers")
    beams = max(options.beam_size, options.best_of if options.fallback else 1)
    attention = _number(facts, "heads") * WINDOW * WINDOW
    kept = 2 * layers * width * (WINDOW + (metadata.context or CONTEXT) * beams)
    return each * (attention + kept) + STEP_BYTES


def _sound(metadata: Metadata, longest_s: float) -> int:
    bands = _number(metadata.extra, "mel_bands") or BANDS
    lasting = longest_s * 4 * (COPIES * RATE + FRAMES * bands)
    return int(lasting + min(longest_s, SPECTRUM_S) * SPECTRUM_BYTES) + SILERO_BYTES


def _savings(metadata: Metadata, options: Options, settings: Settings, total: int) -> Iterator[Saving]:
    milder: tuple[tuple[dict[str, Any], str], ...] = (
        ({"compute_type": "int8"}, "weights of 8 bits, made while loading: hardly other text, and faster on a CPU"),
        ({"audio_seconds": SHORT_S}, f"sounds of {SHORT_S:g} s at the most; longer ones are refused"),
    )
    for changed, why in milder:
        less = total - _taken(metadata, replace(options, **changed), settings)[2]
        if less > 0:
            yield Saving(options=changed, bytes=less, why=why)


def _number(facts: Mapping[str, Any], name: str) -> int:
    value = facts.get(name)
    return value if isinstance(value, int) else 0
