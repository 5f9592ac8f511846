"""Which files of a folder are ONNX models, which belong together, and what their names say of them."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from anyform.contract.facts import FormatMatch, ModelFiles
from anyform.onnx import graph, inspection
from anyform.pretrained.layout import CONFIG, at, folder_of, is_inside
from anyform_onnx import role
from anyform_onnx.info import EXPORT, GENAI, PLAIN

GENAI_CONFIG, EXPORT_CONFIG = "genai_config.json", "export.json"
SCHEMA = 1
"""Of export.json, as transformers 5.23 writes it."""
PIPELINE = "model_index.json"
"""What marks a diffusers folder."""
BELOW = "onnx"
"""What the folders below a model's own are called that hold its graphs alone (onnx, onnx_fp16)."""
GENERIC = ("model", "onnx_model", *role.TWO_TOWERS, *role.DECODERS, role.ENCODER)
"""Names that say nothing of a model: the folder's serves instead."""
FULL = "fp32"
"""What a graph is whose name says no variant, beside others: so transformers.js and optimum name them."""
VARIANT = re.compile(
    r"(?P<bare>.+?)[._-](?P<variant>fp(?:16|32)|float(?:16|32)|bf16|bfloat16|q[1-8](?:f16)?|bnb4|O[1-4]|optimized"
    r"|quant(?:ized)?|q?u?int[48](?:f16)?(?:_(?:arm64|avx2|avx512|avx512_vnni))?)",
    re.IGNORECASE,
)
"""What transformers.js, optimum and sentence-transformers put behind a graph's name."""
_FAMILIES: Sequence[tuple[str, re.Pattern[str]]] = tuple(
    (family, re.compile(pattern, re.IGNORECASE))
    for family, pattern in (
        ("full", r"|fp32|float32|O[1-3]|optimized"),
        ("half", r"fp16|float16|bf16|bfloat16|O4"),
        ("eight", r"quant(ized)?|q[5-8]|q?u?int8(_.*)?"),
        ("four", r"q4|bnb4|u?int4"),
        ("mixed", r".*f16"),
    )
)
_TEXT_ORDER = ("four", "eight", "full", "half", "mixed")
"""Of decoders: what Ollama's users and transformers.js' are given, four bits, which is also the fastest on a CPU."""
_OTHER_ORDER = ("full", "eight", "half", "four", "mixed")
"""Of the others: what optimum and sentence-transformers load, and whose vectors and scores are those that were
published; int8 loses some thousandths of a vector's cosine. Half comes late in both: a CPU widens it on each use."""
MAIN_ORDER = 120
"""Behind the weights that ONNX models are made from, where a folder has both: what those say is nearer the source."""
MOST_GRAPHS = 32
"""Of one model that a JSON file describes; each may take two seconds to be read."""
_STEP = 4


def split(name: str) -> tuple[str, str]:
    """(name, variant) of `onnx/model_q4f16.onnx`: model, q4f16; the variant is empty where the name says none."""
    stem = PurePosixPath(name).name
    stem = stem[: -len(graph.SUFFIX)] if stem.lower().endswith(graph.SUFFIX) else stem
    parts = VARIANT.fullmatch(stem)
    return (parts["bare"], parts["variant"]) if parts else (stem, "")


def order(variant: str, generates: bool) -> int:
    """Which variant is preferred, the lowest. *generates*: whether the model writes text."""
    family = next((name for name, pattern in _FAMILIES if pattern.fullmatch(variant)), "mixed")
    plain = variant in ("", FULL, "q4", "quantized", "int8", "fp16")
    preferred = _TEXT_ORDER if generates else _OTHER_ORDER
    return MAIN_ORDER + _STEP * preferred.index(family) + (0 if plain else 1)


def generates(config: Mapping[str, Any]) -> bool:
    """Whether config.json is that of a model that writes text."""
    return role.architecture(config).endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"))


def is_onnx(name: str) -> bool:
    return name.lower().endswith(graph.SUFFIX)


def home(files: ModelFiles, name: str) -> str:
    """The folder with the config.json of the graph *name*: its own, or the one above a folder for graphs."""
    return home_among(files.files, name)


def home_among(names: Container[str], name: str) -> str:
    """The same, where there are the files *names*."""
    own = folder_of(name)
    above = folder_of(own) if own != "." else ""
    lies_below = above and PurePosixPath(own).name.lower().startswith(BELOW)
    if at(own, CONFIG) not in names and lies_below and at(above, CONFIG) in names:
        return above
    return own


def config(files: ModelFiles, match: FormatMatch) -> Mapping[str, Any]:
    """config.json; where it names no class, with the one that export.json says was exported. Empty: there is none."""
    said = files.json(at(home(files, match.entry), CONFIG))
    if match.format != EXPORT or role.architecture(said):
        return said
    classes = (one.get("metadata") for one in components(files, match.entry).values())
    named = (one.get("architecture") for one in classes if isinstance(one, dict))
    exported = next((name for name in named if isinstance(name, str)), "")
    return {**said, "architectures": [exported]} if exported else said


def genai(files: ModelFiles, entry: str) -> Mapping[str, Any]:
    """What genai_config.json calls `model`; empty: it describes none."""
    said = files.json(entry).get("model")
    return said if isinstance(said, dict) else {}


def components(files: ModelFiles, entry: str) -> Mapping[str, Mapping[str, Any]]:
    """What export.json calls `components`, as far as they are described; empty: none is."""
    said = files.json(entry).get("components")
    return {name: one for name, one in said.items() if isinstance(one, dict)} if isinstance(said, dict) else {}


def stated(files: ModelFiles, format: str, entry: str) -> dict[str, Any]:
    """Part -> what *entry*, a JSON file, says its graph is: as a rule a name, which is relative to its folder.

    Each component of an export has to have one; of onnxruntime-genai's parts those are left out that have none.
    """
    if format == EXPORT:
        return {name: one.get("file") for name, one in components(files, entry).items()}
    parts = {name: one.get("filename") for name, one in _genai_parts(genai(files, entry))}
    return {part: name for part, name in parts.items() if name not in (None, "")}


def named(files: ModelFiles, format: str, entry: str) -> dict[str, str]:
    """Part -> the graph that *entry* names for it, whether it is there or not; none that lies outside."""
    said = stated(files, format, entry)
    sound = {part: name for part, name in said.items() if isinstance(name, str) and is_inside(name)}
    return {part: beside(entry, name) for part, name in sound.items()}


def beside(entry: str, name: str) -> str:
    """What *entry* calls *name*, as `ModelFiles` calls it: `./model.onnx` is model.onnx."""
    return at(folder_of(entry), str(PurePosixPath(name)))


def _genai_parts(model: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The parts that have a graph: those of a pipeline too."""
    for name, part in model.items():
        if isinstance(part, dict):
            yield name, part
            stages = part.get("pipeline")
            for stage in stages if isinstance(stages, list) else ():
                if isinstance(stage, dict):
                    yield from ((f"{name}.{key}", one) for key, one in stage.items() if isinstance(one, dict))


def graphs(files: ModelFiles, match: FormatMatch) -> dict[str, str]:
    """Part -> graph of a match, the graphs that are missing among them; the first is the one that tells what it is.

    At most MOST_GRAPHS of what a JSON file names.
    """
    if match.format in (GENAI, EXPORT):
        found = named(files, match.format, match.entry)
        first = next((part for part in ("decoder", "decode", "model") if part in found), "")
        found = ({first: found[first]} if first else {}) | found
        return dict(islice(found.items(), MOST_GRAPHS))
    others = [name for name in match.files if is_onnx(name) and name != match.entry]
    return {split(name)[0]: name for name in (match.entry, *others)}


def main(files: ModelFiles, match: FormatMatch) -> str:
    """The graph that tells what a match is; empty: none is named."""
    return next(iter(graphs(files, match).values()), "")


def role_of(files: ModelFiles, match: FormatMatch) -> str:
    """What a match is for, as `role.of` says; empty: nothing that is known. Reads its graph."""
    stated = role.of_genai(genai(files, match.entry)) if match.format == GENAI else ""
    if match.format == EXPORT and not _is_plain_export(files, match):
        stated = role.MULTIMODAL
    if stated:
        return stated
    name = main(files, match)
    found = graph.read(files, name) if name in files.files else graph.Model(0)
    parts = list(graphs(files, match)) if match.format == PLAIN else []
    return role.of(found.inputs, found.outputs, config(files, match), parts)


def _is_plain_export(files: ModelFiles, match: FormatMatch) -> bool:
    """Whether the components are those of one network: `model`, or a decoder's two; also where none is named."""
    return set(components(files, match.entry)) in (set(), {"model"}, {"decode"}, {"prefill", "decode"})


def weights(files: ModelFiles, names: Iterable[str]) -> list[str]:
    """The graphs *names* and the files that hold their numbers, as far as they are there."""
    there = [name for name in names if name in files.files]
    return [part for name in there for part in (name, *inspection.companions(files, name))]
