"""Which Whispers lie in a folder: as CTranslate2 keeps them, and as transformers does. Reads beginnings and JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from anyform.contract.facts import Evidence, FormatMatch, ModelFiles
from anyform_audio.hearing import binary

CTRANSLATE2, WHISPER, OTHER = "ctranslate2", "whisper", "ctranslate2_other"
"""OTHER: a model of CTranslate2 that is no Whisper. It is recognised so that users are told what it is."""
ORDER, WHISPER_ORDER = 90, 110
"""Smaller than the weights that it was made from; and behind the plugin that reads these as they are."""
CONFIG, GENERATION = "config.json", "generation_config.json"
TOKENIZER, PREPROCESSOR = "tokenizer.json", "preprocessor_config.json"
VOCABULARIES = ("vocabulary.json", "vocabulary.txt")
"""The engine takes the first that is there."""
CLASS = "WhisperForConditionalGeneration"
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")


def detect(files: ModelFiles) -> list[FormatMatch]:
    """One match for each folder with a model.bin of CTranslate2, and one for each with a Whisper's safetensors."""
    folders: dict[str, list[str]] = {}
    for name in files.files:
        folder, _, last = name.rpartition("/")
        folders.setdefault(folder or ".", []).append(last)
    return [match for folder, names in folders.items() for match in _at(files, folder, names)]


def _at(files: ModelFiles, folder: str, names: Sequence[str]) -> Iterator[FormatMatch]:
    if binary.FILE in names:
        kind = binary.spec(files.head(at(folder, binary.FILE)))
        if kind or _looks_whisper(files.json(at(folder, CONFIG))):
            yield _binary(folder, names, kind)
    entry = next((name for name in (SINGLE, INDEX) if name in names), "")
    if entry and CONFIG in names:
        config = files.json(at(folder, CONFIG))
        if config.get("model_type") == "whisper" and _writes(config):
            yield _tensors(folder, names, entry)


def _looks_whisper(config: Mapping[str, Any]) -> bool:
    """Whether config.json is that of CTranslate2's Whisper; then a model.bin that is something else is worth a word."""
    return "suppress_ids" in config and "suppress_ids_begin" in config and "model_type" not in config


def _writes(config: Mapping[str, Any]) -> bool:
    """Whether it writes text, and does not tell sounds apart."""
    said = config.get("architectures")
    return not isinstance(said, list) or not said or CLASS in said


def _binary(folder: str, names: Sequence[str], kind: str) -> FormatMatch:
    beside = (CONFIG, *VOCABULARIES, TOKENIZER, PREPROCESSOR)
    why = f"begins as CTranslate2's {kind}" if kind else f"does not begin as such, but {CONFIG} is a Whisper's"
    return FormatMatch(
        format=CTRANSLATE2 if kind in ("", binary.WHISPER) else OTHER,
        entry=at(folder, binary.FILE),
        files=tuple(at(folder, name) for name in (binary.FILE, *beside) if name in names),
        evidence=Evidence.MAGIC if kind else Evidence.LAYOUT,
        why=f"{binary.FILE} {why}",
        name="" if folder == "." else folder,
        order=ORDER,
    )


def _tensors(folder: str, names: Sequence[str], entry: str) -> FormatMatch:
    parts = sorted(name for name in names if SHARD.fullmatch(name)) if entry == INDEX else []
    beside = [name for name in (CONFIG, GENERATION, TOKENIZER, PREPROCESSOR) if name in names]
    return FormatMatch(
        format=WHISPER,
        entry=at(folder, entry),
        files=tuple(at(folder, name) for name in (entry, *parts, *beside)),
        evidence=Evidence.LAYOUT,
        why=f"{entry}, and {CONFIG} says that it is a Whisper",
        name="" if folder == "." else folder,
        order=WHISPER_ORDER,
    )


def at(folder: str, name: str) -> str:
    """The name of a file in *folder*, which may be "."."""
    return name if folder in ("", ".") else f"{folder}/{name}"


def folder_of(name: str) -> str:
    """The folder of a file, "." for the model's own."""
    return name.rpartition("/")[0] or "."
