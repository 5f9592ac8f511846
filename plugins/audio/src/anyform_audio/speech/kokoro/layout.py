"""Which files of a folder are a Kokoro: its models, which are variants of one another, and the voices beside them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from anyform.contract.facts import Evidence, FormatMatch, ModelFiles
from anyform.onnx import graph, inspection
from anyform_audio.speech.kokoro import voice

FORMAT, TORCH = "kokoro", "kokoro_torch"
CONFIG = "config.json"
KIND = "style_text_to_speech_2"
"""What config.json calls the model where the voices are files of their own (onnx-community)."""
TORCH_KEYS = ("istftnet", "plbert", "vocab")
TOKENS = ("tokens", "input_ids")
INPUTS = ("style", "speed")
VOICES = re.compile(r"voices[^/]*\.(bin|npz)")
VARIANT = re.compile(
    r"(?P<bare>.*?)[._-](?P<variant>[fb]p?(16|32)(-gpu)?|u?int(4|8)(f16)?|q[48](f16)?|bnb4|quant(ized)?)$",
    re.IGNORECASE,
)
PLAIN = "fp32"
"""What a model without a variant in its name is, beside others."""
PREFERRED = (PLAIN, "fp16", "q8f16", "quantized", "int8", "uint8", "uint8f16", "q4f16", "q4")
"""As files call them, which are no names of GGUF's: on a CPU the first is the fastest, since others are unpacked."""
GENERIC = ("model", "kokoro")
"""Names that say nothing: the folder's serves instead."""
TORCH_ORDER = 1000


def detect(files: ModelFiles) -> list[FormatMatch]:
    """One match for each ONNX model, and one for the torch form."""
    names = [name for name in files.files if name.lower().endswith(graph.SUFFIX)]
    found = list(_models(files, names)) if names else []
    return [*_told_apart(found), *_torch(files)]


def _models(files: ModelFiles, names: Iterable[str]) -> Iterator[FormatMatch]:
    for name in names:
        if f"{name}.json" in files.files and not _is_named(name):
            continue  # as Piper's are
        beside = voices(files, name)
        evidence = _recognised(files, name, beside)
        if evidence is None:
            continue
        bare, variant = _split(PurePosixPath(name).stem)
        config = config_of(files, name)
        yield FormatMatch(
            format=FORMAT,
            entry=name,
            files=(name, *inspection.companions(files, name), *beside, *((config,) if config else ())),
            evidence=evidence,
            why=_why(name, beside),
            name="" if bare.lower() in GENERIC else bare,
            variant=variant,
            order=_order(variant),
        )


def _recognised(files: ModelFiles, name: str, beside: tuple[str, ...]) -> Evidence | None:
    """How sure it is that the file is a Kokoro; None: it is something else.

    The inputs stand behind the weights: of a large model they are left to validation.
    """
    named = _is_named(name)
    seen = graph.peek(files, name) if files.files[name] <= graph.CHUNK else None
    if seen is not None and seen.whole:
        given = {one.name for one in seen.inputs}
        ours = given.issuperset(INPUTS) and not given.isdisjoint(TOKENS)
        return Evidence.MAGIC if ours else Evidence.NAME if named else None
    if beside and (_are_voices(files, beside) or files.json(_config_name(name)).get("model_type") == KIND):
        return Evidence.LAYOUT
    return Evidence.NAME if named else None


def _is_named(name: str) -> bool:
    return "kokoro" in PurePosixPath(name).name.lower()


def _are_voices(files: ModelFiles, names: tuple[str, ...]) -> bool:
    if voice.is_single(names[0]):
        return all(voice.ID.fullmatch(PurePosixPath(name).stem) for name in names)
    return voice.is_archive(files.head(names[0], 512))


def _why(name: str, beside: tuple[str, ...]) -> str:
    if not beside:
        return f"{PurePosixPath(name).name[:100]}, a Kokoro without voices"
    many = voice.is_single(beside[0])
    return f"{PurePosixPath(name).name[:100]} with {f'{len(beside)} voices' if many else PurePosixPath(beside[0]).name}"


def voices(files: ModelFiles, name: str) -> tuple[str, ...]:
    """The voices of the model *name*: an archive beside it, or a folder of files; empty: there are none."""
    candidates = [one for one in files.files if "voices" in one]
    for folder in _homes(name):
        prefix = f"{folder}/" if folder else ""
        archives = [one for one in candidates if one.startswith(prefix) and VOICES.fullmatch(one[len(prefix) :])]
        if archives:
            return (max(archives, key=lambda one: _likeness(one, name)),)
        start = f"{prefix}voices/"
        single = [one for one in candidates if one.startswith(start) and one.endswith(".bin")]
        single = [one for one in single if "/" not in one[len(start) :]]
        if single:
            return tuple(single)
    return ()


def _homes(name: str) -> tuple[str, ...]:
    """Where voices are looked for: the model's folder, and the one above a folder called onnx."""
    folder = PurePosixPath(name).parent
    own = "" if str(folder) == "." else str(folder)
    above = "" if str(folder.parent) == "." else str(folder.parent)
    return (own, above) if folder.name == "onnx" else (own,)


def _likeness(archive: str, name: str) -> tuple[int, str]:
    """How much of their names, such as -v1.0, a model and an archive share; then the later one."""
    bare = _split(PurePosixPath(name).stem)[0].lower()
    mark = PurePosixPath(archive).stem.lower().removeprefix("voices")
    return (len(mark) if mark and bare.endswith(mark) else 0, archive)


def _config_name(name: str) -> str:
    home = _homes(name)[-1]
    return f"{home}/{CONFIG}" if home else CONFIG


def config_of(files: ModelFiles, name: str) -> str:
    """The config.json that belongs to the model *name*; empty: there is none that says anything of a Kokoro."""
    config = _config_name(name)
    content = files.json(config) if config in files.files else {}
    return config if content.get("model_type") == KIND or isinstance(content.get("vocab"), dict) else ""


def _split(stem: str) -> tuple[str, str]:
    """(name, variant) of `kokoro-v1.0.fp16`; the variant is empty where the name says none."""
    parts = VARIANT.fullmatch(stem)
    if parts is None:
        return stem, ""
    return parts["bare"], parts["variant"].lower()


def _order(variant: str) -> int:
    known = variant or PLAIN
    return PREFERRED.index(known) if known in PREFERRED else len(PREFERRED)


def _told_apart(found: list[FormatMatch]) -> list[FormatMatch]:
    """The same matches, no two of the same name and variant: beside others what says no variant is fp32."""
    count = Counter(match.name for match in found)
    plain = [replace(match, variant=PLAIN) if count[match.name] > 1 and not match.variant else match for match in found]
    taken = Counter((match.name, match.variant) for match in plain)
    return [
        replace(match, variant=match.entry.removesuffix(graph.SUFFIX))
        if taken[match.name, match.variant] > 1
        else match
        for match in plain
    ]


def _torch(files: ModelFiles) -> Iterator[FormatMatch]:
    for name in files.files:
        folder, _, last = name.rpartition("/")
        if last != CONFIG or not _is_torch(files.json(name)):
            continue
        prefix = f"{folder}/" if folder else ""
        inside = [one for one in files.files if one.startswith(prefix)]
        weights = [one for one in inside if one.endswith(".pth") and "/" not in one[len(prefix) :]]
        if not weights:
            continue
        styles = [one for one in inside if one.startswith(f"{prefix}voices/") and one.endswith(".pt")]
        yield FormatMatch(
            format=TORCH,
            entry=weights[0],
            files=(weights[0], name, *styles),
            evidence=Evidence.LAYOUT,
            why=f"{PurePosixPath(weights[0]).name[:100]}, Kokoro as PyTorch keeps it",
            name=folder,
            order=TORCH_ORDER,
        )


def _is_torch(config: Mapping[str, Any]) -> bool:
    return all(isinstance(config.get(key), dict) for key in TORCH_KEYS)
