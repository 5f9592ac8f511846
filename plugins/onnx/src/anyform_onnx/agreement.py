"""Whether a graph and what its JSON says of it belong together: vocabulary, layers, heads, labels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from anyform.contract.facts import Finding, FormatMatch, ModelFiles
from anyform.onnx import graph
from anyform.onnx.graph import Model, Value
from anyform.pretrained.configuration import Configuration
from anyform_onnx import layout, manifest, role
from anyform_onnx.finding import critical, warning
from anyform_onnx.info import GENAI

LAYER = re.compile(r"(?<![A-Za-z0-9])\d+(?![A-Za-z0-9])")
"""The layer's number in a cache's name."""
PLAIN = ("F32", "F16", "BF16")
"""Types of caches whose sides are what they are; those of quantized ones may hold several numbers each."""
BOTH = "They are not of one model: get both again."
PREFILL = "prefill"
"""The component that reads prompts."""
SPARSE = ("layer_types", "num_kv_shared_layers", "layers_block_type", "attn_layer_indices", "full_attn_idxs")
"""Keys of configs by which some layers have no cache of their own."""


def check(files: ModelFiles, match: FormatMatch, kind: str) -> Iterator[Finding]:
    """Findings where the graph of *match*, which is of *kind*, was read whole."""
    name = layout.main(files, match)
    found = graph.read(files, name)
    if match.format == GENAI:
        yield from _genai(layout.genai(files, match.entry), found, name, match.entry)
        return
    config = Configuration(layout.config(files, match))
    if kind == role.DECODER:
        if _last(found.inputs, role.TOKENS) == 1 and PREFILL not in layout.graphs(files, match):
            text = f"{name} reads one token at a time, and the graph that reads prompts is not here."
            yield critical("no_prefill", f"{text} Get the whole export: {PREFILL}.onnx, or one graph that does both.")
        yield from _vocabulary(config, found, name)
        yield from _layers(config, found, name)
    elif kind in (role.CLASSIFIER, role.RERANKER, role.IMAGE_CLASSIFIER):
        yield from _labels(config, found, name)


def _last(values: Sequence[Value], name: str) -> int | None:
    """The last side of an input or output; None: it has none, or none that is a number."""
    shape = next((one.shape for one in values if one.name == name), ())
    return shape[-1] if shape and isinstance(shape[-1], int) else None


def _vocabulary(config: Configuration, found: Model, name: str) -> Iterator[Finding]:
    made, said = _last(found.outputs, "logits"), config.number("vocab_size")
    if made is None or said is None or made == said:
        return
    text = f"{name} scores {made} tokens, and config.json has a vocab_size of {said}."
    if made < said:
        yield critical("config_mismatch", f"{text} {BOTH}")
    else:
        yield warning("config_mismatch", f"{text} The further {made - said} are never chosen rightly, if at all.")


def layers(values: Sequence[Value]) -> int:
    """How many layers have a cache among *values*."""
    numbers = (LAYER.search(one.name) for one in values if role.is_cache(one.name))
    return len({found[0] for found in numbers if found})


def _layers(config: Configuration, found: Model, name: str) -> Iterator[Finding]:
    made, said = layers(found.inputs), config.number("num_hidden_layers", "n_layer", "num_layers", "n_layers")
    if not made or not said or made == said:
        return
    if made > said or not any(config.get(key) for key in SPARSE):
        text = f"{name} has caches for {made} layers, and config.json names {said}. {BOTH}"
        yield critical("config_mismatch", text)


def _labels(config: Configuration, found: Model, name: str) -> Iterator[Finding]:
    made, said = _last(found.outputs, "logits"), len(config.labels)
    if made is not None and said and made != said:
        text = f"{name} scores {made} labels, and config.json names {said}. {BOTH}"
        yield critical("config_mismatch", text)


def _genai(model: Mapping[str, Any], found: Model, name: str, entry: str) -> Iterator[Finding]:
    """onnxruntime-genai makes buffers by the file's numbers, and native code fills them by the graph's."""
    decoder = model.get("decoder")
    decoder = decoder if isinstance(decoder, dict) else {}
    scores = _stated(decoder, "outputs", "logits")
    made, said = _last(found.outputs, scores), model.get("vocab_size")
    if all(one.name != scores for one in found.outputs):
        text = f"{name} has no output {scores!r:.60}, where {entry} says that tokens are scored. {BOTH}"
        yield critical("config_mismatch", text)
    elif made is not None and type(said) is int and made != said:
        text = f"{name} scores {made} tokens, and {entry} has a vocab_size of {said}. {BOTH}"
        yield critical("config_mismatch", text)
    yield from _caches(model, decoder, found, f"{name} has", entry)


def _caches(
    model: Mapping[str, Any], decoder: Mapping[str, Any], found: Model, subject: str, entry: str
) -> Iterator[Finding]:
    given = {one.name: one for one in found.inputs}
    wanted = manifest.pasts(model)
    there = [given[one] for one in wanted if one in given]
    count, stated = layers(found.inputs), decoder.get("num_hidden_layers")
    if (wanted and not there) or (type(stated) is int and count > stated):
        known = [name for name in given if role.is_cache(name)][:1]
        text = f"{subject} caches for {count} layers{f', such as {known[0]:.60}' if known else ''}"
        more = f", such as {wanted[0]:.60}" if wanted else ""
        yield critical("config_mismatch", f"{text}, and {entry} names {stated}{more}. {BOTH}")
    for place, key in ((1, "num_key_value_heads"), (3, "head_size")):
        sides = {one.shape[place] for one in there if len(one.shape) == 4 and one.dtype in PLAIN}
        wrong = next((side for side in sides if isinstance(side, int) and side != decoder.get(key)), None)
        if wrong is not None:
            text = f"{subject} caches whose {key} is {wrong}, and {entry} says {decoder.get(key)!r:.60}. {BOTH}"
            yield critical("config_mismatch", text)


def _stated(decoder: Mapping[str, Any], side: str, name: str) -> str:
    """What the graph's input or output is called that stands for *name*."""
    said = decoder.get(side)
    found = said.get(name) if isinstance(said, dict) else None
    return found if isinstance(found, str) and found else name
