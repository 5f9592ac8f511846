"""Whether an ONNX model is sound and of a kind that can be run: what would fail, or harm, once an engine loads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from anyform.contract.facts import Finding, FormatMatch, ModelFiles
from anyform.finding import condensed
from anyform.onnx import graph, inspection
from anyform.onnx.graph import Model, Value
from anyform.pretrained import companion, steps
from anyform.pretrained.layout import CONFIG, MODULES, at, folder_of
from anyform_onnx import agreement, layout, manifest, processor, role
from anyform_onnx.finding import AGAIN, FAMILY, critical
from anyform_onnx.info import EXPORT, GENAI, PLAIN

TOKENIZER = "tokenizer.json"
OTHER_TOKENIZERS = ("tokenizer.model", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
COMPILED = "com.microsoft.EPContext"
"""The operator that stands for a graph that was compiled for one device."""
SHOWN = 4


def validate(files: ModelFiles, match: FormatMatch) -> list[Finding]:
    """Findings for all files of *match*. Bounded: graphs without their weights, and small files."""
    return list(condensed(_findings(files, match)))


def _findings(files: ModelFiles, match: FormatMatch) -> Iterator[Finding]:
    broken: set[str] = set()
    for name in match.files:
        for finding in _file(files, name) if name in files.files else ():
            broken.add(name)
            yield finding
    if match.format in (GENAI, EXPORT):
        if match.entry in broken:
            return
        yield from (manifest.check_genai if match.format == GENAI else manifest.check_export)(files, match)
    names = [name for name in layout.graphs(files, match).values() if name in files.files]
    for name in dict.fromkeys(name for name in names if name not in broken):
        found = list(_graph(files, name))
        broken.update(name for _ in found[:1])
        yield from found
    yield from _kind(files, match, broken)


def _file(files: ModelFiles, name: str) -> Iterator[Finding]:
    """What is wrong with one file by itself; with a graph when it is read."""
    other = companion.substitute(files, name, FAMILY)
    if other is not None:
        yield other
    elif not layout.is_onnx(name):
        yield from companion.check(files, name, FAMILY)


def _graph(files: ModelFiles, name: str) -> Iterator[Finding]:
    yield from inspection.check(files, name, "onnx")
    if graph.read(files, name).operators[COMPILED]:
        text = f"{name} was compiled for one maker's device ({COMPILED}). Get the export that every machine can run."
        yield critical("compiled", text)


def _kind(files: ModelFiles, match: FormatMatch, broken: set[str]) -> Iterator[Finding]:
    """What the model does, whether a backend here does it, and what that needs beside the graph."""
    name = layout.main(files, match)
    found = graph.read(files, name) if name in files.files else Model(0)
    kind = layout.role_of(files, match)
    if kind in role.REFUSED:
        what, hint = role.REFUSED[kind]
        yield critical("unsupported_role", f"{match.entry} {what}, which no backend of this plugin runs. {hint}")
        return
    if not found.whole or found.troubles or name in broken:
        return
    if not kind:
        yield critical("unknown_role", f"{_described(name, found)}, which is no model of a known kind. {_KINDS}")
        return
    home = layout.home(files, match.entry)
    yield from _beside(files, match, home, kind)
    listed = next((one for one in match.files if one.rpartition("/")[2] == MODULES), "")
    if listed:
        yield from steps.check(files, folder_of(listed), broken, FAMILY)
    if at(home, CONFIG) not in broken:
        yield from agreement.check(files, match, kind)


_KINDS = (
    "Known are decoders of text with a KV cache, encoders that embed, rerank or classify texts, classifiers and "
    "encoders of pictures, and CLIP; export it anew for one of these, with its config.json."
)


def _described(name: str, found: Model) -> str:
    return f"{name} takes {_told(found.inputs)} and gives {_told(found.outputs)}"


def _told(values: Sequence[Value]) -> str:
    said = ", ".join(f"{one.name:.40} {one.dtype}[{_sides(one)}]" for one in values[:SHOWN])
    return (said or "nothing") + (f" and {len(values) - SHOWN} more" if len(values) > SHOWN else "")


def _sides(value: Value) -> str:
    return ", ".join(f"{side or '?'!s:.20}" for side in value.shape[:8])


def _beside(files: ModelFiles, match: FormatMatch, home: str, kind: str) -> Iterator[Finding]:
    """The files that a model of *kind* needs beside its graph."""
    config = at(home, CONFIG)
    if match.format in (PLAIN, EXPORT):
        if config not in files.files:
            text = f"{config} is missing, which says what {match.entry} is"
            more = ", and preprocessor_config.json, how its pictures are prepared" if kind in role.PICTORIAL else ""
            yield critical("missing_config", f"{text}{more}. {_where(files, home)}")
            return
        if not files.json(config):
            yield critical("bad_config", f"{config} is no JSON object, or an empty one. {AGAIN}")
    if kind in role.TEXTUAL and at(home, TOKENIZER) not in files.files:
        other = next((name for name in OTHER_TOKENIZERS if at(home, name) in files.files), "")
        said = f": {other} alone is not read. Save the tokenizer anew with transformers" if other else ""
        text = f"there is no {at(home, TOKENIZER)}, from which texts become tokens"
        yield critical("missing_tokenizer", f"{text}{said or '. Get the whole model'}.")
    if kind in role.PICTORIAL and not any(at(home, name) in files.files for name in PROCESSORS):
        text = f"there is no {at(home, PROCESSORS[0])}, which says how pictures are prepared. Get the whole model."
        yield critical("missing_processor", text)
    elif kind in role.PICTORIAL:
        nested, plain = (files.json(at(home, name)) for name in (processor.OTHER_FILE, processor.FILE))
        model_type = files.json(config).get("model_type")
        _, trouble = processor.family(
            processor.described(nested, plain), model_type if isinstance(model_type, str) else ""
        )
        if trouble:
            yield critical("unsupported_processor", f"{trouble} {processor.INSTEAD}")


def _where(files: ModelFiles, home: str) -> str:
    """What to do about a missing config.json: of a graph that was named by itself it may lie above."""
    above = files.path.absolute().parent
    if home == "." and files.path.name.lower().startswith(layout.BELOW) and (above / CONFIG).is_file():
        return f"There is one in {above}: name that folder instead."
    return "Get the whole model; it goes into the same folder."
