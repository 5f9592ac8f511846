"""Which files of a folder are a pipeline's, which weights are variants of one another, and what each variant needs.

By names, and by what model_index.json says: as DiffusionPipeline.from_pretrained looks for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anyform.contract.facts import ModelFiles
from anyform.pretrained.layout import COMPANIONS, CONFIG, at, folder_of, is_inside

INDEX = "model_index.json"
SCHEDULER = "scheduler_config.json"
BESIDE = COMPANIONS | {SCHEDULER, "guider_config.json"}
"""Files of a part that are no weights and that are read with it."""
NAMED = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
"""What a part may be called: a folder, and an argument of the pipeline."""
WITHOUT_WEIGHTS = ("Scheduler", "Tokenizer", "TokenizerFast", "TokenizersBackend", "Processor", "ProcessorFast",
                   "ProcessorPil", "FeatureExtractor", "Guidance")  # fmt: skip
"""Endings of classes that are read from small files alone."""
_SHARD = r"-(?P<number>\d{5})-of-(?P<count>\d{5})"
_STEM = r"(?P<stem>diffusion_pytorch_model|model)"
WEIGHTS = re.compile(
    rf"{_STEM}(?:\.(?P<variant>[A-Za-z0-9_]+))?(?:{_SHARD})?(?:\.(?P<late>[A-Za-z0-9_]+))?\.safetensors"
)
"""diffusers' and transformers' names; of shards the variant stood last once, which diffusers still reads."""
SHARDS = re.compile(
    rf"{_STEM}\.safetensors(?:\.index(?:\.(?P<variant>[A-Za-z0-9_]+))?|\.(?P<late>[A-Za-z0-9_]+)\.index)\.json"
)
PICKLES = re.compile(
    rf"(?:diffusion_pytorch_model|pytorch_model)(?:\.(?P<variant>[A-Za-z0-9_]+))?(?:{_SHARD})?\.(?:bin|pt|pth|ckpt)"
)


@dataclass(frozen=True, slots=True)
class Part:
    """What model_index.json says of one part of a pipeline."""

    name: str
    library: str
    kind: str
    """Its class."""

    @property
    def has_weights(self) -> bool:
        return not self.kind.endswith(WITHOUT_WEIGHTS)

    @property
    def stem(self) -> str:
        """What its weights are called."""
        return "diffusion_pytorch_model" if self.library == "diffusers" else "model"


@dataclass(slots=True)
class Weights:
    """One part's weights of one variant: a file, or shards with an index."""

    single: str = ""
    index: str = ""
    shards: list[str] = field(default_factory=list)
    """Names in the part's folder, sorted."""
    count: int = 0
    """How many shards there are by their names."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A pipeline with one set of weights for each part."""

    name: str
    """As the files' names have it, such as `fp16`; empty: the main one."""
    files: tuple[str, ...]
    """All that it needs and that is there, model_index.json first."""
    weights: Mapping[str, tuple[str, ...]]
    """Part -> its files of weights."""
    pickled: tuple[str, ...] = ()
    """Weights that are pickles, without which a part has none."""


def roots(files: ModelFiles) -> list[str]:
    """The folders of pipelines: the whole one, or those that lie one level below."""
    found = [folder_of(name) for name in files.files if name == INDEX or name.endswith(f"/{INDEX}")]
    return ["."] if "." in found else [one for one in found if "/" not in one]


def parts(index: Mapping[str, Any]) -> list[Part]:
    """The parts that *index*, a model_index.json, names with a library and a class; those that are null are left out.

    A part whose name could lead out of the folder is none.
    """
    found = []
    for name, said in index.items():
        if not isinstance(said, list) or len(said) != 2 or name.startswith("_") or not NAMED.fullmatch(name):
            continue
        library, kind = said
        if isinstance(library, str) and isinstance(kind, str):
            found.append(Part(name, library, kind))
    return found


def pipeline(index: Mapping[str, Any]) -> str:
    """The class; empty where none is said, or one of a file beside it."""
    said = index.get("_class_name")
    return said if isinstance(said, str) else ""


def names(files: ModelFiles, folder: str) -> list[str]:
    """Of the files that lie in *folder* itself, without it."""
    prefix = at(folder, "")
    return [name[len(prefix) :] for name in files.files if name.startswith(prefix) and "/" not in name[len(prefix) :]]


def weights(there: Sequence[str], stem: str) -> dict[str, Weights]:
    """Variant -> the weights among *there*, names of one folder, that are called *stem*."""
    found: dict[str, Weights] = {}
    for name in there:
        file = WEIGHTS.fullmatch(name)
        listed = SHARDS.fullmatch(name)
        said = file or listed
        if said is None or said["stem"] != stem:
            continue
        one = found.setdefault(said["variant"] or said["late"] or "", Weights())
        if listed:
            one.index = name
        elif file and file["count"]:
            one.shards.append(name)
            one.count = max(one.count, int(file["count"]))
        elif file and not file["late"]:
            one.single = name
    return {variant: one for variant, one in found.items() if one.single or one.index or one.shards}


def variants(files: ModelFiles, root: str, found: Sequence[Part]) -> list[Variant]:
    """The sets of weights that the pipeline in *root* can be loaded with, the main one first; one at least.

    Of a variant that only some parts have the others take the main weights, as diffusers does.
    """
    there = {part.name: names(files, at(root, part.name)) for part in found if part.has_weights}
    sets = {part.name: weights(there[part.name], part.stem) for part in found if part.has_weights}
    known = sorted({variant for one in sets.values() for variant in one if variant})
    having = [one for one in sets.values() if one]
    whole = [variant for variant in ("", *known) if all(variant in one or "" in one for one in having)]
    return [_variant(files, root, found, there, sets, variant) for variant in whole or known[:1] or [""]]


def _variant(
    files: ModelFiles,
    root: str,
    found: Sequence[Part],
    there: Mapping[str, Sequence[str]],
    sets: Mapping[str, Mapping[str, Weights]],
    variant: str,
) -> Variant:
    chosen: dict[str, tuple[str, ...]] = {}
    pickled: list[str] = []
    for part in found:
        folder = at(root, part.name)
        if not part.has_weights:
            continue
        one = sets[part.name].get(variant) or sets[part.name].get("")
        if one is not None:
            chosen[part.name] = tuple(at(folder, name) for name in _needed(files, folder, part, one))
        else:
            pickled += [at(folder, name) for name in _pickles(there[part.name])]
    beside = [at(at(root, part.name), name) for part in found for name in names(files, at(root, part.name))]
    beside = [name for name in beside if name.rpartition("/")[2] in BESIDE]
    beside += _unused(files, root, found)
    every = [at(root, INDEX), *sorted({*beside, *pickled, *(name for one in chosen.values() for name in one)})]
    return Variant(
        name=variant,
        files=tuple(name for name in every if name in files.files),
        weights={
            part: tuple(name for name in one if name.endswith(".safetensors") and name in files.files)
            for part, one in chosen.items()
        },
        pickled=tuple(pickled),
    )


def _unused(files: ModelFiles, root: str, found: Sequence[Part]) -> list[str]:
    """What shows that a folder is the pipeline's own though the index says null of it, or cannot be read: else it would
    pass for a model by itself.
    """
    index = files.json(at(root, INDEX))
    known = {part.name for part in found}
    if not found:
        prefix = at(root, "")
        below = [name for name in files.files if name.startswith(prefix) and "/" in name[len(prefix) :]]
        return [name for name in below if name.rpartition("/")[2] in BESIDE]
    null = [name for name, said in index.items() if said == [None, None] and name not in known]
    return [at(at(root, name), CONFIG) for name in null if NAMED.fullmatch(name)]


def _needed(files: ModelFiles, folder: str, part: Part, one: Weights) -> list[str]:
    """The files of one set; where there are shards and a single file diffusers takes the shards, transformers not."""
    if one.single and not (one.index and part.library == "diffusers"):
        return [one.single]
    if not one.index:
        return sorted(one.shards)
    listed = shards(files.json(at(folder, one.index)))
    return [one.index, *(listed or sorted(one.shards))]


def _pickles(there: Sequence[str]) -> list[str]:
    """The pickled weights among *there*: of the main variant, else of any."""
    found = {name: known["variant"] or "" for name in there if (known := PICKLES.fullmatch(name))}
    least = min(found.values(), default="")
    return [name for name, variant in found.items() if variant == least]


def shards(index: Mapping[str, Any]) -> list[str]:
    """The files that an index names, sorted; those that would lie elsewhere are left out."""
    mapped = index.get("weight_map")
    said = {name for name in mapped.values() if isinstance(name, str)} if isinstance(mapped, dict) else set()
    return sorted(name for name in said if is_inside(name) and "/" not in name and name.endswith(".safetensors"))


def config(files: ModelFiles, root: str, part: Part) -> Mapping[str, Any]:
    """What a part's own configuration says; empty where it has none."""
    last = SCHEDULER if part.kind.endswith("Scheduler") else CONFIG
    return files.json(at(at(root, part.name), last))


def file_variant(names: Sequence[str]) -> str:
    """What the names of the weights among *names* have, such as `fp16`; empty: nothing."""
    found = (WEIGHTS.fullmatch(name.rpartition("/")[2]) for name in names)
    return next((one["variant"] or one["late"] for one in found if one and (one["variant"] or one["late"])), "")
