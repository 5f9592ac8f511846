"""How much memory a model that writes down speech takes beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anyform.contract.facts import Metadata

LIBRARY_BYTES = 100 << 20
"""PyAV with FFmpeg, and what else a process that hears has more than one that reads (PyAV 18, Linux, x86)."""
TASKS = ("transcribe", "translate")
COLUMNS = 1500
"""What Whisper's encoder makes of a window of 30 seconds."""
FRAMES_S = 100
BANDS = 128
"""Of a model that does not say."""
COPIES = 2
"""Of the spectrogram, while it is put together."""


def is_speech(metadata: Metadata) -> bool:
    """Whether the model's main task is one of speech."""
    return metadata.tasks[:1] in tuple((task,) for task in TASKS)


def working_bytes(metadata: Metadata, each: int, longest_s: float) -> int:
    """Of one window, since windows are heard one after another, and of the longest sound's spectrogram.

    one layer    1500 x (heads x context + 2 x feed-forward + 6 x width): what words are timed with, and inner numbers
    decoder      keys and values of all layers, over 1500 columns and the context
    logits       a row of the vocabulary for each token of the longest beginning, half the context
    spectrogram  100 frames a second x bands x 4, twice
    library      100 MiB

    A random Whisper of base's size, 30 seconds, words timed, on a CPU: 903 MiB with the process; measured 832.
    """
    facts = metadata.extra
    width, forward = _number(facts, "embedding_length"), _number(facts, "feed_forward_length")
    context = metadata.context or COLUMNS
    layer = COLUMNS * (_number(facts, "heads") * context + 2 * forward + 6 * width)
    decoder = 2 * _number(facts, "layers") * (COLUMNS + context) * width
    logits = (metadata.vocab_size or 0) * context // 2
    return each * (layer + decoder) + 4 * logits + _spectrogram(facts, longest_s) + LIBRARY_BYTES


def _spectrogram(facts: Mapping[str, Any], longest_s: float) -> int:
    return int(longest_s * FRAMES_S * (_number(facts, "mel_bands") or BANDS) * 4 * COPIES)


def _number(facts: Mapping[str, Any], name: str) -> int:
    value = facts.get(name)
    return value if isinstance(value, int) else 0
