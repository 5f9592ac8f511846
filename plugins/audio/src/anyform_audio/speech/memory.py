"""How much memory onnxruntime takes on a CPU for a model of speech, and what surrounds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anyform.contract.facts import MemoryEstimate, Metadata, Saving, Settings
from anyform.option import whole
from anyform_audio.speech import lane

HALVES = ("F16", "BF16")
UNPACKED = 4
"""A CPU computes in F32: numbers of 16 bits are made F32 at load, and onnxruntime does not give back what that took."""
LIBRARY_BYTES = 16 << 20
"""What onnxruntime takes to load any graph."""
SECOND_BYTES = 20 << 20
"""Of sound, while a network of convolutions makes it."""
WINDOW_S = 34.0
"""How long the longest piece of text is spoken at speed 1: 510 phonemes, 15 a second."""
USUAL = 3
"""How many times shorter the sentences are that are made beside it."""


def estimate(metadata: Metadata, settings: Settings, process_bytes: int) -> MemoryEstimate:
    """Bytes, with *settings*. *process_bytes*: Python, onnxruntime and what makes phonemes, without a model.

    weights      as they lie in the file; 16-bit numbers four times that, as measured: they are made F32 at load
    voices       all of them, as F32
    activations  20 MiB a second of sound x 34 s, the longest piece at speed 1; a third of that for each further
                 sentence that is made at the same time (`parallel`, `threads`)
    process      and 16 MiB for any graph

    At half the speed a piece is twice as long, and takes as much more; the network gives nothing back, so what it took
    once stays.

    Measured with onnxruntime 1.31 on Linux, x86 (MiB). Weights: 160 of F32 in MatMul, Conv, LSTM: 173, 173, 179; 80 of
    F16: 273, 330, 281. Activations, in networks that have the layers of Kokoro's generator (iSTFTNet: 512 channels,
    x10, x6) and weights of 0, 5, 10 and 20 s: 75, 167, 354; of Piper's medium and high, 10 s: 199, 185. A stand-in with
    320 of weights, with the process, a short text: 411. The real Kokoro-82M was not at hand: 325 MB, for which this
    gives 1,117; 460 to 1,090 MB are reported of it (https://github.com/hexgrad/kokoro/pull/358, in JavaScript).

    Raises Invalid for threads that are no number.
    """
    facts = metadata.extra
    weights = _weights(metadata)
    voices = _number(facts, "voice_bytes")
    sentences = lane.lanes(settings.parallel or lane.PARALLEL, lane.threads(_threads(settings)))
    window = round(SECOND_BYTES * WINDOW_S)
    activations = window + (sentences - 1) * window // USUAL
    return MemoryEstimate(
        weights_bytes=weights,
        overhead_bytes=voices + activations + process_bytes + LIBRARY_BYTES,
        confidence=0.5 if metadata.weight_bytes else 0.2,
        why="weights as onnxruntime keeps them + voices + 20 MiB a second of sound x the longest piece of 34 s"
        f"{f', and {sentences - 1} usual ones beside it' if sentences > 1 else ''} + the process",
        savings=tuple(_savings(sentences, window)),
    )


def _savings(sentences: int, window: int) -> list[Saving]:
    if sentences < 2:
        return []
    fewer = (sentences - 1) * window // USUAL
    why = "all processors for one sentence, which leaves none for another: several requests wait longer"
    return [Saving(options={"threads": lane.processors()}, bytes=fewer, why=why)]


def _threads(settings: Settings) -> int | None:
    given = settings.options.get("threads")
    return None if given is None else whole(1, 256)("threads", given)


def _weights(metadata: Metadata) -> int:
    """Bytes of the weights once they are loaded."""
    whole_bytes = metadata.weight_bytes or 0
    types = metadata.extra.get("weights")
    halves = sum(_number(types, name) for name in HALVES) if isinstance(types, Mapping) else 0
    return whole_bytes + (UNPACKED - 1) * min(halves, whole_bytes)


def _number(facts: Mapping[str, Any], name: str) -> int:
    value = facts.get(name)
    return value if type(value) is int and value > 0 else 0
