"""Kokoro, as the hooks ask: an ONNX model of 82 million parameters and the voices that it speaks with.

https://huggingface.co/hexgrad/Kokoro-82M; its ONNX forms: https://github.com/thewh1teagle/kokoro-onnx (voices in one
archive) and https://huggingface.co/onnx-community/Kokoro-82M-v1.0-ONNX (a file each).
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from anyform.contract.facts import Finding, FormatMatch, MemoryEstimate, Metadata, ModelFiles, Settings
from anyform.onnx import graph, inspection
from anyform_audio.speech import memory
from anyform_audio.speech.kokoro import language, layout, soundness, voice

SAMPLE_RATE = 24_000
SPEEDS = (0.5, 2.0)
"""What kokoro-onnx takes."""
MOST_TEXT = 200
PROCESS_BYTES = 84 << 20
"""Python, onnxruntime, kokoro-onnx, espeak-ng (Linux, x86); those of Chinese and Japanese phonemes are not in it."""
WINDOW = 510
"""Tokens, which are phonemes, that are spoken at once."""


def detect(files: ModelFiles) -> list[FormatMatch]:
    """The ONNX models with their voices, and the torch form."""
    return layout.detect(files)


def validate(files: ModelFiles, match: FormatMatch) -> list[Finding]:
    """What is wrong with the graph and the voices."""
    return soundness.validate(files, match)


def extract(files: ModelFiles, match: FormatMatch) -> Metadata:
    """`extra` has voices (id, name, language), languages (theirs), reads (codes that it takes), sample_rate,
    speeds, window (tokens), opset, producer, standin, inputs (name -> type), weights (type -> bytes),
    voice_bytes, durations, `voices_file` (an archive) or `voice_files` (id -> file), and
    `vocabulary_file` where a config.json states one; of the torch form voices, languages, reads and sample_rate only.
    """
    if match.format == layout.TORCH:
        return _torch(files, match)
    found = graph.read(files, match.entry)
    names = layout.voices(files, match.entry)
    ids = voice.ids(files, names)
    facts: dict[str, Any] = _spoken(ids) | {
        "speeds": list(SPEEDS),
        "window": WINDOW,
        "opset": found.opsets.get(""),
        "producer": found.producer[:MOST_TEXT],
        "standin": found.metadata.get("standin") == "true",
        "inputs": {one.name: one.dtype for one in found.inputs if one.name in (*layout.TOKENS, *layout.INPUTS)},
        "durations": any(one.name == "duration" for one in found.outputs),
        "weights": {name: one.size for name, one in found.weights.items() if one.size and name not in inspection.WHOLE},
        "voice_bytes": voice.bytes_of(files, names),
        "voices_file": names[0] if names and not voice.is_single(names[0]) else "",
        "voice_files": {PurePosixPath(one).stem: one for one in names if voice.is_single(one)},
        "vocabulary_file": _vocabulary(files, match.entry),
    }
    return Metadata(
        name=match.name,
        architecture="kokoro",
        tasks=("speak",),
        parameters=found.elements or None,
        quantization=inspection.quantization(found),
        weight_bytes=found.weight_bytes or files.files.get(match.entry),
        tensors=sum(one.tensors for one in found.weights.values()) or None,
        extra={name: value for name, value in facts.items() if value not in (None, "", {}, [], False)},
    )


def _spoken(ids: list[str]) -> dict[str, Any]:
    voices = voice.told(ids)
    return {
        "voices": voices,
        "languages": sorted({one["language"] for one in voices if one["language"]}),
        "reads": language.NAMED,
        "sample_rate": SAMPLE_RATE,
    }


def _vocabulary(files: ModelFiles, entry: str) -> str:
    config = layout.config_of(files, entry)
    return config if config and isinstance(files.json(config).get("vocab"), dict) else ""


def _torch(files: ModelFiles, match: FormatMatch) -> Metadata:
    facts = _spoken([PurePosixPath(name).stem for name in match.files if name.endswith(".pt")])
    return Metadata(
        name=match.name,
        architecture="kokoro",
        tasks=("speak",),
        weight_bytes=files.files.get(match.entry),
        extra={name: value for name, value in facts.items() if value},
    )


def estimate(metadata: Metadata, settings: Settings) -> MemoryEstimate:
    """What onnxruntime takes of main memory. Raises Invalid for an option."""
    return memory.estimate(metadata, settings, PROCESS_BYTES)
