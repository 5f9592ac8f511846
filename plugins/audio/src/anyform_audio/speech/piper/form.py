"""Piper, as the hooks ask: voices of an ONNX model and its JSON each, X.onnx and X.onnx.json.

https://github.com/OHF-Voice/piper1-gpl; the JSON's keys: docs/TRAINING.md there, and PiperConfig of piper-tts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from anyform.contract.facts import Evidence, Finding, FormatMatch, MemoryEstimate, Metadata, ModelFiles, Settings
from anyform.onnx import graph, inspection
from anyform_audio.speech import memory
from anyform_audio.speech.piper import soundness

FORMAT = "piper"
JSON = ".json"
KEYS = ("audio", "phoneme_id_map", "espeak", "num_symbols")
"""Two of them make a JSON a voice's."""
NAMED = re.compile(r"[a-z]{2,3}_[A-Z]{2}-.+-(x_low|low|medium|high)")
"""What voices are called: language, region, name, quality."""
SPEEDS = (0.25, 4.0)
"""A length scale of 4 to a quarter; the network knows no bounds of its own."""

PROCESS_BYTES = 68 << 20
"""Python, onnxruntime, piper-tts with espeak-ng (Linux, x86)."""


def detect(files: ModelFiles) -> list[FormatMatch]:
    """One match for each voice."""
    return [match for name in files.files if name.lower().endswith(graph.SUFFIX) for match in _voice(files, name)]


def _voice(files: ModelFiles, name: str) -> Iterator[FormatMatch]:
    beside, stem = f"{name}{JSON}", PurePosixPath(name).stem
    there = beside in files.files
    config = files.json(beside) if there else {}
    ours = sum(key in config for key in KEYS) >= 2
    if not ours and not ((there and not config) or (not there and NAMED.fullmatch(stem))):
        return
    yield FormatMatch(
        format=FORMAT,
        entry=name,
        files=(name, *((beside,) if there else ()), *inspection.companions(files, name)),
        evidence=Evidence.LAYOUT if ours else Evidence.NAME,
        why=f"{stem[:100]}, a Piper voice" + ("" if ours else " by its name" if there else " without its JSON"),
        name=stem,
    )


def validate(files: ModelFiles, match: FormatMatch) -> list[Finding]:
    """What is wrong with the graph and the JSON."""
    return soundness.validate(files, match)


def extract(files: ModelFiles, match: FormatMatch) -> Metadata:
    """`extra` has voices (id, name, language), languages, sample_rate, speeds, quality, length_scale, speakers (id ->
    number, of more than one), espeak (its voice), phoneme_type, weights (type -> bytes), opset, producer, standin,
    piper_version.
    """
    config = soundness.Config(files.json(f"{match.entry}{JSON}"))
    found = graph.read(files, match.entry)
    language = config.language
    speakers = config.speakers
    name = config.text("dataset") or match.name
    voices = [{"id": one, "name": one, "language": language} for one in speakers or (name,)]
    facts: dict[str, Any] = {
        "voices": voices,
        "languages": [language] if language else [],
        "sample_rate": config.sample_rate,
        "speeds": list(SPEEDS),
        "quality": config.text("quality", "audio"),
        "length_scale": _finite(config.part("inference").get("length_scale")),
        "speakers": speakers,
        "espeak": config.text("voice", "espeak"),
        "phoneme_type": config.text("phoneme_type") or "espeak",
        "piper_version": config.text("piper_version"),
        "weights": {name: one.size for name, one in found.weights.items() if one.size and name not in inspection.WHOLE},
        "opset": found.opsets.get(""),
        "producer": soundness.plain(found.producer),
        "standin": found.metadata.get("standin") == "true",
    }
    return Metadata(
        name=match.name,
        architecture="piper",
        tasks=("speak",),
        parameters=found.elements or None,
        quantization=inspection.quantization(found),
        weight_bytes=found.weight_bytes or files.files.get(match.entry),
        tensors=sum(one.tensors for one in found.weights.values()) or None,
        extra={name: value for name, value in facts.items() if value not in (None, "", {}, [], False)},
    )


def _finite(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if known and abs(value) < 1e9 and math.isfinite(value) else None


def estimate(metadata: Metadata, settings: Settings) -> MemoryEstimate:
    """What onnxruntime takes of main memory. Raises Invalid for an option."""
    return memory.estimate(metadata, settings, PROCESS_BYTES)
