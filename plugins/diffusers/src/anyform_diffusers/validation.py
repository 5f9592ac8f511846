"""Whether a pipeline, a single file or an add-on is sound: everything that would fail, or could harm, once loaded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from anyform.contract.facts import Finding, FormatMatch, ModelFiles
from anyform.finding import condensed
from anyform.pretrained import attention, companion, safetensors
from anyform.pretrained.layout import CONFIG, at, folder_of, is_inside
from anyform.pretrained.safetensors import Header
from anyform_diffusers import addon, checkpoint, configfolder, family, known, layout
from anyform_diffusers.checkpoint import Checkpoint
from anyform_diffusers.finding import AGAIN, FAMILY, critical, note, warning
from anyform_diffusers.info import FOLDER, LORA
from anyform_diffusers.layout import INDEX, Part, Variant

SHOWN = 12
MOST_LEVELS = 100_000
"""Levels of noise; models are trained with 1000."""
LIBRARIES = ("diffusers", "transformers")
TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
PROCESSORS = ("preprocessor_config.json", "processor_config.json", "image_processor_config.json")
SPARED: Mapping[str, Sequence[str]] = {"sd3": ("text_encoder_3",)}
"""Parts that single files of a family are published with and without: it paints without them."""
NEEDED: Mapping[str, Sequence[str]] = {
    "sd": ("unet", "vae", "text_encoder", "tokenizer", "scheduler"),
    "sdxl": ("unet", "vae", "text_encoder_2", "tokenizer_2", "scheduler"),
    "sd3": ("transformer", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "scheduler"),
    "flux": ("transformer", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "scheduler"),
}
"""Parts that a family's pipelines do not run without; SDXL's refiner has the second text encoder alone."""


def validate(files: ModelFiles, match: FormatMatch) -> list[Finding]:
    """Findings for all files of *match*. Bounded: headers and small files; no weights."""
    checks = {FOLDER: _pipeline, LORA: _addon}
    return list(condensed(checks.get(match.format, _checkpoint)(files, match)))


def _pipeline(files: ModelFiles, match: FormatMatch) -> Iterator[Finding]:
    if match.entry == CONFIG:
        said = files.json(CONFIG).get("_class_name")
        text = f"{CONFIG} is that of a {said!s:.80}: one part of a pipeline, and no model by itself."
        yield critical("part_alone", f"{text} Get a folder with a {INDEX}.")
        return
    root = folder_of(match.entry)
    broken: set[str] = set()
    for name in match.files:
        for finding in _file(files, name):
            broken.add(name)
            yield finding
    if match.entry in broken:
        return
    index = files.json(match.entry)
    yield from _index(files, match.entry, index)
    parts = layout.parts(index)
    variants = layout.variants(files, root, parts)
    variant = next((one for one in variants if set(one.files) == set(match.files)), variants[0])
    for part in parts:
        yield from _part(files, root, part, variant, broken)
    yield from _pickled(variant)


def _file(files: ModelFiles, name: str) -> Iterator[Finding]:
    """What is wrong with one file by itself."""
    if name not in files.files:
        return
    other = companion.substitute(files, name, FAMILY)
    if other is not None:
        yield other
    elif name.endswith(".safetensors"):
        yield from safetensors.check(safetensors.header(files, name), name, FAMILY)
    elif not name.endswith((".bin", ".pt", ".pth", ".ckpt")):
        yield from companion.check(files, name, FAMILY)


def _index(files: ModelFiles, entry: str, index: Mapping[str, Any]) -> Iterator[Finding]:
    """What is wrong with what model_index.json says."""
    said = index.get("_class_name")
    if not index:
        yield critical("bad_index", f"{entry} is no JSON object, or an empty one. {AGAIN}")
        return
    if isinstance(said, list):
        text = f"{entry} names the pipeline {said!r:.100}, code that would come with the model. No such code is run."
        yield critical("custom_code", f"{text} Get a model of a pipeline that diffusers has.")
    elif not isinstance(said, str) or not said:
        yield critical("bad_index", f"{entry}: _class_name is {said!r:.60}, which names no pipeline. {AGAIN}")
    else:
        yield from _class(entry, said)
    for name, value in index.items():
        yield from _entry(entry, name, value)
    there = {part.name for part in layout.parts(index)}
    lacking = [
        name for name in NEEDED.get(family.family(said) if isinstance(said, str) else "", ()) if name not in there
    ]
    if lacking:
        yield critical(
            "missing_part", f"{entry} names no {', '.join(lacking)}, without which {said} does not run. {AGAIN}"
        )
    yield from _code(files, folder_of(entry), index)


def _class(entry: str, said: str) -> Iterator[Finding]:
    name = family.family(said)
    if not name:
        instead = family.instead(said)
        those = ", ".join(one.removesuffix("Pipeline") for one in family.runnable() if "2Img" not in one)
        if instead:
            yield critical("unsupported_pipeline", f"{entry} names {said:.100}, which {instead}")
        else:
            text = f"{entry} names {said!r:.100}, which diffusers {known.VERSION} does not have."
            yield critical("unknown_pipeline", f"{text} Pipelines that are run here: {those}.")
    elif name not in family.TRIED:
        text = f"{said} is run as diffusers describes it; this plugin is tested with {', '.join(family.TRIED)} alone."
        yield note("untried", text)


def _entry(entry: str, name: str, value: Any) -> Iterator[Finding]:
    """One name and what stands for it: a part is a library and a class, or two nulls."""
    if name.startswith("_") or not isinstance(value, list):
        if isinstance(value, dict):
            yield warning("bad_index", f"{entry}: {name[:60]!r} is an object, which says nothing here. {AGAIN}")
        return
    if value == [None, None]:
        return
    if len(value) != 2 or not all(isinstance(one, str) and one for one in value):
        yield critical("bad_index", f"{entry}: {name[:60]!r} is {value!r:.100}, no library and class. {AGAIN}")
    elif not layout.NAMED.fullmatch(name):
        yield critical("bad_index", f"{entry} names a part {name[:60]!r}, which is no folder of this one. {AGAIN}")


def _code(files: ModelFiles, root: str, index: Mapping[str, Any]) -> Iterator[Finding]:
    """Python files where diffusers would look for them: they are not run, and with a plain pipeline need not be."""
    folders = {root, *(at(root, part.name) for part in layout.parts(index))}
    found = [name for name in files.files if name.endswith(".py") and folder_of(name) in folders]
    looked = {at(root, "None.py"), *(at(at(root, part.name), f"{part.library}.py") for part in layout.parts(index))}
    taken = [name for name in found if name in looked]
    if taken:
        text = f"{', '.join(taken[:3])} lies where diffusers would import it in the place of its own code."
        yield critical("custom_code", f"{text} No such code is run: get the model without it, or delete the file.")
    elif found:
        text = f"{', '.join(found[:3])} came with the model, code that could do anything here."
        yield warning("remote_code", f"{text} It is not run, whatever needs it.")


def _part(files: ModelFiles, root: str, part: Part, variant: Variant, broken: set[str]) -> Iterator[Finding]:
    where = f"{at(root, INDEX)}: {part.name} is {part.kind:.80} of {part.library:.80}"
    if part.library not in LIBRARIES and (part.library, part.kind) not in known.PARTS:
        if part.library.startswith(("onnx", "optimum")):
            text = f"{where}: an export to ONNX, which this plugin does not run. Get the form with safetensors."
            yield critical("onnx", text)
            return
        text = (
            f"{where}. Only {' and '.join(LIBRARIES)} are used: code of other libraries, or of the model, is not run."
        )
        yield critical("custom_code", text)
        return
    if part.kind.startswith("Onnx"):
        yield critical(
            "onnx", f"{where}: an export to ONNX, which this plugin does not run. Get the form with safetensors."
        )
        return
    if part.kind.startswith("Flax"):
        yield critical("flax", f"{where}: computed with JAX, which is not used here. Get the form for PyTorch.")
        return
    if part.library == "diffusers" and part.kind.endswith("Pipeline"):
        yield critical("nested_pipeline", f"{where}: a model of its own, not part of one. {AGAIN}")
        return
    yield from _kind(where, part)
    folder = at(root, part.name)
    there = layout.names(files, folder)
    if not there:
        yield critical("missing_component", f"{where}, and there is no folder {folder}. Get the whole model.")
        return
    yield from _beside(folder, part, there)
    last = layout.SCHEDULER if part.kind.endswith("Scheduler") else CONFIG
    if last in there and at(folder, last) not in broken and not files.json(at(folder, last)):
        yield critical("bad_config", f"{at(folder, last)} is no JSON object, or an empty one. {AGAIN}")
    if last == layout.SCHEDULER and at(folder, last) not in broken:
        yield from _levels(at(folder, last), files.json(at(folder, last)).get("num_train_timesteps", 1000))
    if part.has_weights:
        own = files.json(at(folder, CONFIG))
        if at(folder, CONFIG) not in broken and "auto_map" in own:
            text = f"{at(folder, CONFIG)} wants code that comes with the model (auto_map). It is not run."
            yield warning("remote_code", text)
        kernel = attention.fetched(own)
        if kernel:
            text = (
                f"{at(folder, CONFIG)} wants to be computed by {kernel!r}, code that would be fetched. It is not run."
            )
            yield critical("custom_code", f"{text} Delete attn_implementation from it.")
        yield from _weights(files, folder, part, there, variant, broken)


def _levels(entry: str, count: Any) -> Iterator[Finding]:
    """A scheduler holds numbers for each of them, whatever pictures are asked for."""
    if type(count) is not int or not 0 < count <= MOST_LEVELS:
        text = f"{entry} says {count!r:.60} levels of noise (num_train_timesteps), not 1 to {MOST_LEVELS}."
        yield critical("bad_config", f"{text} {AGAIN}")


def _kind(where: str, part: Part) -> Iterator[Finding]:
    """A class that the library does not have, as far as is known here."""
    if part.library == "diffusers" and part.kind not in known.MODELS | known.SCHEDULERS:
        text = f"{where}, which diffusers {known.VERSION} does not have: it needs a later one, if any has it."
        yield warning("unknown_class", text)
    elif part.library == "transformers" and part.kind not in known.TRANSFORMERS:
        yield warning(
            "unknown_class", f"{where}, which no pipeline is known to use; it is read if transformers has it."
        )


def _beside(folder: str, part: Part, there: Sequence[str]) -> Iterator[Finding]:
    """The small files that a part is made from."""
    wanted: Sequence[str] = (CONFIG,)
    if part.kind.endswith("Scheduler"):
        wanted = (layout.SCHEDULER,)
    elif "Tokenizer" in part.kind:
        wanted = TOKENIZERS
    elif not part.has_weights:
        wanted = (*PROCESSORS, "guider_config.json")
    if not any(name in there for name in wanted):
        code = "missing_config" if wanted == (CONFIG,) else "missing_file"
        text = f"there is no {at(folder, wanted[0])}, which says what {part.name} is. Get the whole model."
        yield critical(code, text)


def _weights(
    files: ModelFiles, folder: str, part: Part, there: Sequence[str], variant: Variant, broken: set[str]
) -> Iterator[Finding]:
    sets = layout.weights(there, part.stem)
    one = sets.get(variant.name) or sets.get("")
    if one is None:
        if any(name.startswith(at(folder, "")) for name in variant.pickled):
            return
        yield critical("missing_weights", _lacking(folder, part, there, variant, sets))
        return
    if one.index and at(folder, one.index) not in variant.files:
        one.index = ""
    if one.index and at(folder, one.index) not in broken:
        yield from _sharded(files, folder, one.index, part, variant)
    elif not one.single:
        yield from _numbered(folder, one, there)
    headers = [safetensors.header(files, name) for name in variant.weights.get(part.name, ())]
    if headers and all(header.read for header in headers) and not any(header.tensors for header in headers):
        yield critical("no_tensors", f"the weights of {folder} hold no tensor at all. {AGAIN}")


def _lacking(
    folder: str, part: Part, there: Sequence[str], variant: Variant, sets: Mapping[str, layout.Weights]
) -> str:
    wanted = f"{part.stem}{'.' + variant.name if variant.name else ''}.safetensors"
    text = f"{at(folder, wanted)} is missing, the weights of {part.name}."
    other = [name for name in there if name.endswith(".safetensors")]
    if sets:
        return f"{text} There is {', '.join(map(repr, sorted(sets)))} alone. Get all parts of one variant."
    if other:
        return f"{text} There is {', '.join(other[:3])}, a name that is not looked for. Rename it, or get all anew."
    return f"{text} Get the whole model."


def _numbered(folder: str, one: layout.Weights, there: Iterable[str]) -> Iterator[Finding]:
    """Shards without the index that says what lies where."""
    text = f"{at(folder, one.shards[0])} is one of {one.count} shards, and the index of all is missing."
    yield critical("missing_index", f"{text} Fetch it.")
    if len(one.shards) < one.count:
        text = f"{folder} has {len(one.shards)} of {one.count} shards. Fetch the others."
        yield critical("missing_shard", text)


def _sharded(files: ModelFiles, folder: str, index: str, part: Part, variant: Variant) -> Iterator[Finding]:
    """Whether what the index says is in the shards."""
    entry = at(folder, index)
    mapped = files.json(entry).get("weight_map")
    if not isinstance(mapped, dict) or not mapped or not all(isinstance(name, str) for name in mapped.values()):
        yield critical("bad_index", f"{entry} has no weight_map from tensors to files. {AGAIN}")
        return
    for name in dict.fromkeys(mapped.values()):
        if not is_inside(name) or "/" in name or not name.endswith(".safetensors"):
            yield critical(
                "bad_index", f"{entry} names {name[:100]!r}, which is no safetensors file of {folder}. {AGAIN}"
            )
        elif at(folder, name) not in files.files:
            yield critical("missing_shard", f"{at(folder, name)} is missing, which {entry} names. Fetch it.")
    headers = {name: safetensors.header(files, name) for name in variant.weights.get(part.name, ())}
    yield from _mapped(mapped, {name[len(at(folder, "")) :]: one for name, one in headers.items()}, entry)


def _mapped(mapped: Mapping[str, str], headers: Mapping[str, Header], entry: str) -> Iterator[Finding]:
    there = {name: {tensor.name for tensor in header.tensors} for name, header in headers.items() if header.read}
    for tensor, name in mapped.items():
        if name in there and tensor not in there[name]:
            text = f"{name} has no tensor {tensor[:100]!r}, which {entry} says is in it. {AGAIN}"
            yield critical("missing_tensor", text)


def _pickled(variant: Variant) -> Iterator[Finding]:
    if variant.pickled:
        said = ", ".join(variant.pickled[:SHOWN])
        text = f"{said}: pickled weights, which could run anything once opened, and no safetensors beside them."
        yield critical(
            "pickled",
            f"{text} They are never opened. Get the model with safetensors, or convert it where it is trusted.",
        )


def _checkpoint(files: ModelFiles, match: FormatMatch) -> Iterator[Finding]:
    name = match.entry
    if not name.endswith(".safetensors"):
        text = f"{name} is a pickled checkpoint, which could run anything here once it is opened: it is never opened."
        yield critical("pickled", f"{text} Get the same model as safetensors.")
        return
    found = list(_file(files, name))
    yield from found
    known = checkpoint.recognise(safetensors.header(files, name).tensors)
    if found or known is None:
        return
    if not known.family:
        yield critical("unsupported_checkpoint", f"{name} holds {known.stranger}: not run here.")
        return
    missing = [one for one in known.missing if one not in SPARED.get(known.family, ())]
    if missing:
        text = f"{name} holds {', '.join(known.parts)} alone; {', '.join(missing)} must lie with its configurations."
        yield warning("missing_parts", text)
    yield _configured(files, name, known)


def _configured(files: ModelFiles, name: str, known: Checkpoint) -> Finding:
    """Where a single file's configurations come from, or what to do where they are nowhere."""
    file = files.path / name
    if os.path.isfile(file):
        found, several = configfolder.find(file, known.family, "", known.repository)
        if found is None:
            missing, remedy = configfolder.lacking(known.family, known.repository, several)
            return warning("config_elsewhere", f"{name} is a single file, and {missing}: {remedy}.")
    text = f"{name} brings no configurations and no tokenizers: they come from the folder of the option config"
    return note("config", f"{text}, from one beside it, or from {known.repository} in the Hugging Face cache.")


def _addon(files: ModelFiles, match: FormatMatch) -> Iterator[Finding]:
    found = list(_file(files, match.entry))
    yield from found
    said = addon.recognise(safetensors.header(files, match.entry))
    if said is None or found:
        return
    rank = f" of rank {said.rank}" if said.rank else ""
    whose = f" for models of the family {said.family}" if said.family else " for a family that it does not name"
    text = f"{match.entry} is a {said.method}{rank}{whose}, no model by itself. Load it with one"
    place = files.path / match.entry
    yield warning("addon", f'{text}: the option loras = {{name = "{place}"}}, and requests choose it by that name.')
