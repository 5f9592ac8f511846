"""Which ONNX models lie in a folder. Reads names and JSON, and graphs that these say nothing of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from anyform.contract.facts import Evidence, FormatMatch, ModelFiles
from anyform.onnx import graph
from anyform.pretrained import modules
from anyform.pretrained.layout import COMPANIONS, CONFIG, MODULES, above, at, by_folder, folder_of
from anyform_onnx import foreign, layout, role
from anyform_onnx.info import EXPORT, GENAI, PLAIN
from anyform_onnx.layout import EXPORT_CONFIG, GENAI_CONFIG

MOST_LOOKED_AT = 64
"""Graphs without a config.json that are looked into, of one folder; further ones are strangers."""
JSON_ORDER = layout.MAIN_ORDER - 1
"""Of what a JSON file describes: it says more than names do."""
TOKENIZER = "tokenizer.json"
OTHER_WEIGHTS = (".safetensors", ".gguf", ".rkllm", "pytorch_model.bin")
"""Endings of other forms, of which a graph without a variant is one more."""
WEIGHTS = re.compile(r".*\.(safetensors|gguf|rkllm)|(pytorch_)?model(-\d+-of-\d+)?\.bin", re.IGNORECASE)
"""Files of other forms; model.bin is CTranslate2's."""


def detect(files: ModelFiles) -> list[FormatMatch]:
    """One match for each folder of onnxruntime-genai's or of transformers' exporter, and one for each other model.

    The same network in numbers of other types is a variant of one model.
    """
    folders = {
        folder: [at(folder, name) for name in names if layout.is_onnx(name)]
        for folder, names in by_folder(files.files).items()
    }
    folders = {folder: names for folder, names in folders.items() if not foreign.in_pipeline(files, folder)}
    return [*_described(files, folders), *_told_apart(files, _plain(files, folders))]


def _described(files: ModelFiles, folders: dict[str, list[str]]) -> Iterator[FormatMatch]:
    """The models that a JSON file describes; their graphs are taken out of *folders*."""
    for folder, names in folders.items():
        for last, format, recognised in ((GENAI_CONFIG, GENAI, _genai), (EXPORT_CONFIG, EXPORT, _export)):
            entry = at(folder, last)
            why = recognised(files, entry, names) if entry in files.files else ""
            if not why:
                continue
            stated = layout.stated(files, format, entry)
            own = [name for name in layout.named(files, format, entry).values() if name in files.files]
            taken = own if own and len(own) == len(stated) else list(names)
            folders[folder] = names = [name for name in names if name not in taken]
            yield FormatMatch(
                format=format,
                entry=entry,
                files=_needed(files, layout.home(files, entry), folder, (entry, *layout.weights(files, taken))),
                evidence=Evidence.LAYOUT if stated else Evidence.NAME,
                why=_sayable(why),
                name=_named(layout.home(files, entry)),
                order=JSON_ORDER - (format == GENAI),
            )


def _genai(files: ModelFiles, entry: str, names: Sequence[str]) -> str:
    """Empty: neither it nor what lies beside it is a model's."""
    model = layout.genai(files, entry)
    kind = model.get("type")
    if not model and not names:
        return ""
    return f"{entry}, {kind} for onnxruntime-genai" if isinstance(kind, str) else f"{entry}, which names no model"


def _export(files: ModelFiles, entry: str, names: Sequence[str]) -> str:
    """Empty: it is something else's, or of another kind of export."""
    said = files.json(entry)
    parts = layout.components(files, entry)
    if said.get("export_format", "onnx") != "onnx":
        return ""
    if parts:
        return f"{entry}, {' and '.join(list(parts)[:3])} as transformers exports them"
    stages = not {"prefill", "decode"}.isdisjoint(layout.split(name)[0] for name in names)
    ours = names and ("schema_version" in said or stages)
    return f"{entry}, which names no components" if ours else ""


@dataclass(frozen=True, slots=True)
class _Set:
    """Graphs that are one model together, the entry first."""

    graphs: tuple[str, ...]
    bare: str
    variant: str
    config: Mapping[str, Any]
    """Of the folder; empty: there is none that describes a model."""


def _plain(files: ModelFiles, folders: Mapping[str, Sequence[str]]) -> Iterator[FormatMatch]:
    looks = MOST_LOOKED_AT
    owners = _owners(files)
    others = {folder_of(name) for name in files.files if _is_other(files, name)}
    models = others | {folder_of(name) for name in files.files if _is_config(files, name)}
    for folder, names in folders.items():
        if not names or foreign.has_voices(files, folder):
            continue
        ours = [name for name in names if not (foreign.speaks(files, name) or foreign.sees(files, name))]
        place = layout.home(files, at(folder, "_"))
        there = at(place, CONFIG) in files.files
        config = files.json(at(place, CONFIG)) if there else {}
        known = _describes(config)
        broken = there and not config and any(layout.split(name)[0] in layout.GENERIC for name in ours)
        if known or broken or at(place, TOKENIZER) in files.files:
            evidence = Evidence.LAYOUT if known else Evidence.NAME
            beside = "" if known else f", but {CONFIG} " + ("is no JSON object" if broken else "describes no model")
            apart = not others.isdisjoint((place, folder))
            for one in _sets([name for name in ours if not apart or _belongs(files, name, config)], config):
                sure = not apart or _is_named(one.graphs[0]) or _seen(files, one.graphs[0]).whole
                yield _match(files, place, owners.get(place, place), one, evidence if sure else Evidence.NAME, beside)
            continue
        for name in ours[:looks]:
            looks -= 1
            if _is_model(files, name):
                one = _Set((name,), *layout.split(name), {})
                evidence = Evidence.MAGIC if models.isdisjoint(above(folder)) else Evidence.NAME
                yield _match(files, place, place, one, evidence, ", an ONNX graph by itself")


def _describes(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is a model's."""
    return isinstance(config.get("model_type"), str) or bool(role.architecture(config))


def _is_other(files: ModelFiles, name: str) -> bool:
    """Whether a file holds a model's weights in another form, or says by itself which graphs are one."""
    last = name.rpartition("/")[2]
    if last in (GENAI_CONFIG, EXPORT_CONFIG):
        return bool(layout.genai(files, name) or layout.components(files, name))
    return WEIGHTS.fullmatch(last) is not None


def _is_config(files: ModelFiles, name: str) -> bool:
    return name.rpartition("/")[2] == CONFIG and _describes(files.json(name))


def _is_named(name: str) -> bool:
    """Whether a graph is called as exporters call a model's."""
    bare, variant = layout.split(name)
    return bool(variant) or bare.lower() in layout.GENERIC or bare in role.SENSES


def _seen(files: ModelFiles, name: str) -> graph.Model:
    """All of a graph that holds no numbers, or few."""
    return graph.peek(files, name, min(files.files[name], graph.REMOTE_WHOLE_BYTES))


def _belongs(files: ModelFiles, name: str, config: Mapping[str, Any]) -> bool:
    """Whether a graph beside other weights is one more form of them, by its name or by what it does.

    Others lie there that the model is used with, such as one that hears where speech begins. Of a graph too large to be
    looked at it is not known.
    """
    if _is_named(name):
        return True
    found = _seen(files, name)
    kind = role.of(found.inputs, found.outputs, config)
    sees = kind in (role.IMAGE_CLASSIFIER, role.IMAGE_EMBEDDING)
    return not found.whole or (bool(kind) and not (sees and layout.generates(config)))


def _owners(files: ModelFiles) -> dict[str, str]:
    """Folder of a module -> the folder of the model that it is a part of, as sentence-transformers has them."""
    found = {}
    for name in files.files:
        if name.rpartition("/")[2] == MODULES:
            found.update(dict.fromkeys(modules.folders(files, folder_of(name)), folder_of(name)))
    return found


def _is_model(files: ModelFiles, name: str) -> bool:
    """Whether the beginning is that of an ONNX model, and of none that speaks."""
    found = graph.peek(files, name)
    sound = found.has_graph and bool(found.operators) and 0 < found.ir_version < 1 << 16
    return sound and not foreign.is_voice(found)


def _sets(names: Sequence[str], config: Mapping[str, Any]) -> Iterator[_Set]:
    """The models among the graphs of one folder."""
    split = {name: layout.split(name) for name in names}
    bares = {bare for bare, _ in split.values()}
    if role.DECODERS[0] in bares:
        bares -= set(role.DECODERS[1:])  # what it was merged from
    parts = _parts(bares, config)
    alone = [name for name in names if split[name][0] in bares - set(parts)]
    pairs = set(parts) == set(role.TWO_TOWERS)
    whole = {split[name][1] for name in alone if pairs and split[name][0] == "model"}
    for name in alone:
        yield _Set((name,), *split[name], config)
    for lead in (name for name in names if parts and split[name][0] == parts[0]):
        if split[lead][1] not in whole:  # else one graph has both
            found = (_part(names, split, part, split[lead][1]) for part in parts[1:])
            yield _Set((lead, *(name for name in found if name)), *split[lead], config)


def _parts(bares: Iterable[str], config: Mapping[str, Any]) -> list[str]:
    """The graphs that are one model together, by name, the first of which stands for it; none: each is its own."""
    there = set(bares)
    if set(role.TWO_TOWERS) <= there:
        return [role.TWO_TOWERS[1], role.TWO_TOWERS[0]]
    decoders = role.DECODERS[:1] if role.DECODERS[0] in there else role.DECODERS
    found = [name for name in (*decoders, role.ENCODER, *role.SENSES) if name in there]
    return found if len(found) > 1 and role.of((), (), config, found) else []


def _part(names: Sequence[str], split: Mapping[str, tuple[str, str]], bare: str, variant: str) -> str:
    """The graph called *bare* of the same variant; else the full one, else any."""
    found = {split[name][1]: name for name in names if split[name][0] == bare}
    return found.get(variant) or found.get("") or next(iter(found.values()), "")


def _match(files: ModelFiles, place: str, owner: str, one: _Set, evidence: Evidence, beside: str) -> FormatMatch:
    entry, bare = one.graphs[0], one.bare
    kind = role.architecture(one.config) or one.config.get("model_type")
    said = f", {kind}" if isinstance(kind, str) and not beside else beside
    home = _named(owner)
    name = "" if bare.lower() in layout.GENERIC else bare
    return FormatMatch(
        format=PLAIN,
        entry=entry,
        files=_needed(files, place, folder_of(entry), layout.weights(files, one.graphs), owner),
        evidence=evidence,
        why=_sayable(f"{' and '.join(one.graphs[:2])}{said}"),
        name=f"{home}/{name}" if home and name else home or name,
        variant=one.variant,
        order=layout.order(one.variant, layout.generates(one.config)),
    )


def _named(folder: str) -> str:
    return "" if folder == "." else folder


def _needed(files: ModelFiles, place: str, own: str, graphs: Iterable[str], owner: str = "") -> tuple[str, ...]:
    """The graphs with all that lies beside them and above, of which some may lie in both places."""
    beside = (at(folder, name) for folder in dict.fromkeys((place, own)) for name in sorted(COMPANIONS))
    found = [*graphs, *beside, *_modules(files, owner or place)]
    return tuple(dict.fromkeys(name for name in found if name in files.files))


def _modules(files: ModelFiles, owner: str) -> Iterator[str]:
    """What sentence-transformers keeps beside; not the weights of the module that the graph stands for."""
    return modules.files(files, owner, modules.first(files, owner))


def _told_apart(files: ModelFiles, found: Iterable[FormatMatch]) -> list[FormatMatch]:
    """The same matches, no two of the same name and variant.

    Beside others what says no variant is fp32; but where the folder has another form of the model too, such as
    safetensors, it says nothing, by which it is one more form of that.
    """
    matches = list(found)
    several = Counter(match.name for match in matches)
    forms = any(name.endswith(OTHER_WEIGHTS) for name in files.files)
    plain = [
        replace(match, variant=layout.FULL) if several[match.name] > 1 and not match.variant and not forms else match
        for match in matches
    ]
    taken: Counter[tuple[str, str]] = Counter()
    told = []
    for match in plain:
        key = (match.name, match.variant.lower())
        taken[key] += 1
        again = taken[key] > 1
        told.append(replace(match, variant=match.entry[: -len(graph.SUFFIX)]) if again else match)
    return told


def _sayable(why: str) -> str:
    """Of a sane length, and without halves of characters, which JSON may hold."""
    return why[:200].encode("utf-8", "replace").decode("utf-8")
