"""Which models that paint lie in a folder. Reads names, model_index.json, and headers of safetensors; no weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from anyform.contract.facts import Evidence, FormatMatch, ModelFiles
from anyform.pretrained import safetensors
from anyform.pretrained.layout import CONFIG, at, folder_of
from anyform_diffusers import addon, checkpoint, layout
from anyform_diffusers.info import CHECKPOINT, FOLDER, LORA
from anyform_diffusers.layout import INDEX, Part, Variant

HALF_ORDER, MAIN_ORDER, OTHER_ORDER, FILE_ORDER, PICKLED_ORDER, ADDON_ORDER = 90, 100, 110, 200, 400, 1000
"""Halves come first: they are half as large, and no picture shows what the other half says."""
MOST_LOOKED_AT = 32
"""Safetensors files of one folder whose headers are read; further ones are strangers."""
DTYPES: Mapping[str, str] = {
    "fp16": "F16", "bf16": "BF16", "fp32": "F32", "float16": "F16", "bfloat16": "BF16", "float32": "F32",
}  # fmt: skip
"""What files' names call a type -> what users call it."""
HALVES = ("F16", "BF16")
SUFFIX, PICKLED = ".safetensors", ".ckpt"
OTHERS = re.compile(
    r".*-\d{5}-of-\d{5}(\.\w+)?\.safetensors|(model|adapter_model|diffusion_pytorch_model|pytorch_model)(\.\w+)?\.safetensors"
)
"""Names of what lies beside a config.json, or in shards: parts of folders, models of text, adapters of PEFT."""
STRANGERS = re.compile(
    rb'"(?:model\.(?!diffusion_model)|lm_head|language_model|(?:bert|roberta|gpt_neox|visual|vision_model|text_model)\.'
    rb"|encoder\.layers?\.|transformer\.(?:h|layers|wte|encoder)\.|base_model\.model\.(?!unet|transformer))"
)
"""How the first tensors of models of text and of other plugins' are called."""
PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x04")
PICKLE_LOOK = 64 << 10
PICKLE_WORDS = (
    b"model.diffusion_model.",
    b"first_stage_model.",
    b"cond_stage_model.",
    b"double_blocks.",
    b"joint_blocks.",
)


@dataclass(frozen=True, slots=True)
class Found:
    """What one file by itself is."""

    name: str
    format: str
    why: str
    evidence: Evidence
    order: int


def detect(files: ModelFiles) -> list[FormatMatch]:
    """One match for each variant of a pipeline, each single file with a model, and each add-on."""
    roots = layout.roots(files)
    folders = [match for root in roots for match in _folder(files, root)]
    whole = "." in roots and bool(folders)
    return [*folders, *_alone(files), *(_single(one, whole) for one in _files(files, roots))]


def _folder(files: ModelFiles, root: str) -> Iterator[FormatMatch]:
    entry = at(root, INDEX)
    index = files.json(entry)
    parts = layout.parts(index)
    evidence, why = _recognised(index, parts)
    if evidence is None:
        return
    variants = layout.variants(files, root, parts)
    labels = _labels(files, variants)
    for one in variants:
        label = labels.get(one.name, "")
        yield FormatMatch(
            format=FOLDER,
            entry=entry,
            files=one.files,
            evidence=evidence,
            why=_sayable(f"{entry}, {why}"),
            name="" if root == "." else root,
            variant=label,
            order=_order(one, label),
        )


def _alone(files: ModelFiles) -> Iterator[FormatMatch]:
    """A part of a pipeline that lies in a folder of its own, such as a ControlNet: no model, which validation says."""
    names = layout.names(files, ".")
    pickles = [name for name in names if layout.PICKLES.fullmatch(name) and name.startswith("diffusion_")]
    found = layout.weights(names, "diffusion_pytorch_model") or pickles
    if INDEX in names or CONFIG not in names or not found:
        return
    said = files.json(CONFIG).get("_class_name")
    if isinstance(said, str) and said:
        weights = [name for name in names if layout.WEIGHTS.fullmatch(name) or layout.SHARDS.fullmatch(name)]
        yield FormatMatch(
            format=FOLDER,
            entry=CONFIG,
            files=(CONFIG, *weights),
            evidence=Evidence.LAYOUT,
            why=_sayable(f"{CONFIG}, {said} alone"),
            order=PICKLED_ORDER,
        )


def _recognised(index: Mapping[str, Any], parts: Sequence[Part]) -> tuple[Evidence | None, str]:
    """How sure it is that model_index.json is a pipeline's, and why; None: it is something else's.

    An unreadable one is called one by its name: what else should it be.
    """
    pipeline = layout.pipeline(index)
    if pipeline:
        return Evidence.LAYOUT, pipeline
    if "_class_name" in index or "_diffusers_version" in index:
        return Evidence.LAYOUT, "a pipeline of its own making"
    if parts:
        return Evidence.NAME, "but it names no pipeline"
    return (None, "") if index else (Evidence.NAME, "but it is no JSON object")


def _order(one: Variant, label: str) -> int:
    order = PICKLED_ORDER if one.pickled else MAIN_ORDER
    if one.name and label in HALVES:
        return order + HALF_ORDER - MAIN_ORDER
    return order + (OTHER_ORDER - MAIN_ORDER if one.name else 0)


def _labels(files: ModelFiles, variants: Sequence[Variant]) -> dict[str, str]:
    """Variant as the files have it -> what users call it; no two alike. What is alone is called so too: the others may
    only not have been fetched.
    """
    labels = {one.name: DTYPES.get(one.name.lower(), one.name) for one in variants if one.name}
    if len({*labels.values()}) < len(labels):
        labels = {name: name for name in labels}
    if any(not one.name for one in variants):
        main = next((_dtype(files, one) for one in variants if not one.name), "")
        alone = len(variants) == 1
        labels[""] = main if alone or (main and main not in labels.values()) else "main"
    return labels


def _dtype(files: ModelFiles, one: Variant) -> str:
    """Of the network that is run at each step."""
    names = one.weights.get("unet") or one.weights.get("transformer") or next(iter(one.weights.values()), ())
    tensors = [tensor for name in names[:1] for tensor in safetensors.header(files, name).tensors]
    return dominant(tensors)


def dominant(tensors: Sequence[safetensors.Tensor]) -> str:
    """The type that holds most of the elements, such as F16; empty: there is none."""
    elements: dict[str, int] = {}
    for tensor in tensors:
        elements[tensor.dtype] = elements.get(tensor.dtype, 0) + tensor.elements
    found = max(elements, key=lambda dtype: elements[dtype], default="")
    return "FP8" if found.startswith("F8_") else found if found in safetensors.DTYPE_BITS else ""


def _files(files: ModelFiles, roots: Sequence[str]) -> Iterator[Found]:
    """The single files: those in a pipeline's own folder, and one level below where there is none."""
    looks = MOST_LOOKED_AT
    for name in files.files:
        folder, last = folder_of(name), PurePosixPath(name).name
        if not last.endswith((SUFFIX, PICKLED)) or not _may_be_alone(files, name, folder, roots):
            continue
        if looks == 0:
            return
        looks -= 1
        found = _pickle(files, name) if last.endswith(PICKLED) else _safetensors(files, name)
        if found is not None:
            yield found


def _may_be_alone(files: ModelFiles, name: str, folder: str, roots: Sequence[str]) -> bool:
    """Whether a file may be a model by itself, by names alone."""
    if "." in roots and folder != ".":
        return False
    if folder.count("/") or any(folder.startswith(f"{root}/") for root in roots if root != "."):
        return False
    last = name.rpartition("/")[2]
    described = at(folder, CONFIG) in files.files or at(folder, "adapter_config.json") in files.files
    return not (OTHERS.fullmatch(last) and (described or "-of-" in last))


def _safetensors(files: ModelFiles, name: str) -> Found | None:
    if STRANGERS.search(files.head(name)):
        return None
    header = safetensors.header(files, name)
    known = checkpoint.recognise(header.tensors)
    if known is not None:
        said = f"{known.family or known.stranger} in one file"
        return Found(name, CHECKPOINT, f"{name}, {said}", Evidence.LAYOUT, FILE_ORDER)
    extra = addon.recognise(header)
    if extra is not None:
        whose = f" for {extra.family}" if extra.family else ""
        return Found(name, LORA, f"{name}, a {extra.method}{whose}", Evidence.LAYOUT, ADDON_ORDER)
    return None


def _pickle(files: ModelFiles, name: str) -> Found | None:
    """A checkpoint as torch saves it, which is never read; none where the same lies there as safetensors."""
    if f"{name.removesuffix(PICKLED)}{SUFFIX}" in files.files:
        return None
    start = files.head(name)
    if not start.startswith(PICKLE_STARTS):
        return None
    words = files.head(name, PICKLE_LOOK)
    if not any(word in words for word in PICKLE_WORDS):
        return None
    return Found(name, CHECKPOINT, f"{name}, a pickled checkpoint", Evidence.NAME, PICKLED_ORDER)


def _single(one: Found, whole: bool) -> FormatMatch:
    """*whole*: a pipeline lies beside it, of which it is one more variant."""
    stem = str(PurePosixPath(one.name).with_suffix(""))
    return FormatMatch(
        format=one.format,
        entry=one.name,
        files=(one.name,),
        evidence=one.evidence,
        why=_sayable(one.why),
        name="" if whole else stem,
        variant=stem if whole else "",
        order=one.order,
    )


def _sayable(why: str) -> str:
    """Of a sane length, and without halves of characters, which JSON may hold."""
    return why[:200].encode("utf-8", "replace").decode("utf-8")
