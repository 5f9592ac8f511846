"""Which Hugging Face models lie in a folder. Reads names, and JSON where names do not say enough; no weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anyform.contract.facts import Evidence, FormatMatch, ModelFiles
from anyform.pretrained import modules
from anyform.pretrained.layout import COMPANIONS, CONFIG, MODULES, above, at, by_folder
from anyform_hf_transformers import layout
from anyform_hf_transformers.layout import PEFT, PYTORCH, Weights

MAIN_ORDER, PYTORCH_ORDER, ADAPTER_ORDER = 100, 100, 1000
"""Behind a GGUF's quantizations, which are smaller; pickles behind safetensors."""
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.txt")
STRANGERS = ("_class_name", "architecture", "model_config", "model")
"""What configs of diffusers, timm and others have that name no model_type."""
DTYPES: Mapping[str, str] = {
    "float32": "F32", "float": "F32", "fp32": "F32", "float16": "F16", "half": "F16", "fp16": "F16",
    "bfloat16": "BF16", "bf16": "BF16", "float64": "F64", "float8_e4m3fn": "FP8", "fp8": "FP8",
}  # fmt: skip
"""What configs and file names call a type -> what users call it."""


@dataclass(frozen=True, slots=True)
class Home:
    """One model's folder, and the folder of its weights, which sentence-transformers may put below it."""

    path: str
    weights: str
    names: Sequence[str]
    """Of the folder of the weights, without the folder."""


def detect(files: ModelFiles) -> list[FormatMatch]:
    """One match for each set of weights that transformers could load, and one for each adapter."""
    folders = by_folder(files.files)
    homes = list(_homes(files, folders))
    return [match for home in homes for match in (*_models(files, home), *_adapters(files, home))]


def _homes(files: ModelFiles, folders: Mapping[str, Sequence[str]]) -> Iterator[Home]:
    """The folders with weights; those that are parts of something else are left out."""
    pipelines = {folder for folder, names in folders.items() if layout.PIPELINE in names}
    parts: dict[str, str] = {}
    for folder, names in folders.items():
        if MODULES in names:
            parts.update(dict.fromkeys(modules.folders(files, folder), folder))
    for folder, names in folders.items():
        owner = parts.get(folder)
        if pipelines.intersection(above(folder)):
            continue
        if owner is None:
            yield Home(folder, folder, names)
        elif modules.first(files, owner) == folder and not layout.weights(folders.get(owner, ())):
            yield Home(owner, folder, names)


def _models(files: ModelFiles, home: Home) -> Iterator[FormatMatch]:
    sets = layout.weights(home.names)
    if not sets:
        return
    config = files.json(at(home.weights, CONFIG))
    evidence, why = _recognised(home, config)
    if evidence is None:
        return
    several = any(one.variant for one in sets) and len({one.variant for one in sets}) > 1
    labels = _labels(sets, config) if several else {}
    for one in sets:
        if not one.names and not (one.index and evidence is Evidence.LAYOUT):
            continue
        yield FormatMatch(
            format=one.format,
            entry=at(home.weights, one.entry),
            files=_needed(files, home, one, config),
            evidence=evidence,
            why=_plain(f"{one.entry}, {why}"),
            name="" if home.path == "." else home.path,
            variant=labels.get(one.variant, ""),
            order=MAIN_ORDER + (PYTORCH_ORDER if one.format == PYTORCH else 0) + bool(one.variant),
        )


def _recognised(home: Home, config: Mapping[str, Any]) -> tuple[Evidence | None, str]:
    """How sure it is that these weights are for transformers, and why; None: they are not."""
    kind, named = config.get("model_type"), config.get("architectures")
    if isinstance(named, list) and named and isinstance(named[0], str):
        return Evidence.LAYOUT, named[0]
    if isinstance(kind, str) and kind:
        return Evidence.LAYOUT, kind
    tokenizer = next((name for name in home.names if name in TOKENIZERS), "")
    if config:
        unnamed = tokenizer and not any(name in config for name in STRANGERS)
        return (Evidence.NAME, "but config.json names no model_type") if unnamed else (None, "")
    if CONFIG in home.names:
        return Evidence.NAME, "but config.json is no JSON object"
    return (Evidence.NAME, "but config.json is missing") if tokenizer else (None, "")


def _plain(why: str) -> str:
    """Of a sane length, and without halves of characters, which JSON may hold."""
    return why[:200].encode("utf-8", "replace").decode("utf-8")


def _labels(sets: Sequence[Weights], config: Mapping[str, Any]) -> dict[str, str]:
    """Variant as the files have it -> what users call it; no two alike."""
    labels = {one.variant: DTYPES.get(one.variant.lower(), one.variant) for one in sets if one.variant}
    if len({*labels.values()}) < len(labels):
        labels = {variant: variant for variant in labels}
    main = declared(config) or "F32"
    return {"": "main" if main in labels.values() else main} | labels


def declared(config: Mapping[str, Any]) -> str:
    """The type that the config says the weights have; empty where it does not say."""
    said = config.get("dtype", config.get("torch_dtype"))
    return DTYPES.get(said.removeprefix("torch."), "") if isinstance(said, str) else ""


def _needed(files: ModelFiles, home: Home, one: Weights, config: Mapping[str, Any]) -> tuple[str, ...]:
    """All files of one variant, the entry among them; without those that are missing, unless all weights are: an index
    that was copied along makes no model, and what has its files is preferred.
    """
    names = list(one.names)
    if one.index and not names:
        names = layout.shards(files.json(at(home.weights, one.index)))
    weights = [at(home.weights, name) for name in names]
    absent = [] if any(name in files.files for name in weights) else weights
    found = [at(home.weights, one.entry), *weights, *_beside(home, config)]
    found += modules.files(files, home.path, home.weights)
    return tuple(dict.fromkeys(name for name in found if name in files.files or name in absent))


def _beside(home: Home, config: Mapping[str, Any]) -> list[str]:
    """The companions; a folder that brings code of its own needs that too."""
    own_code = "auto_map" in config
    return [at(home.weights, name) for name in home.names if name in COMPANIONS or (own_code and name.endswith(".py"))]


def _adapters(files: ModelFiles, home: Home) -> Iterator[FormatMatch]:
    names = set(home.names)
    entry = next((name for name in layout.ADAPTERS if name in names), "")
    if layout.ADAPTER_CONFIG not in names or not entry:
        return
    base = files.json(at(home.weights, layout.ADAPTER_CONFIG)).get("base_model_name_or_path")
    alone = not layout.weights(home.names)
    beside = [name for name in home.names if name in COMPANIONS] if alone else []
    yield FormatMatch(
        format=PEFT,
        entry=at(home.weights, entry),
        files=tuple(at(home.weights, name) for name in (entry, layout.ADAPTER_CONFIG, *beside)),
        evidence=Evidence.LAYOUT,
        why=_plain(f"{entry}, an adapter for {base if isinstance(base, str) and base else 'a model not named'}"),
        name="" if home.path == "." else home.path,
        variant="adapter",
        order=ADAPTER_ORDER,
    )
