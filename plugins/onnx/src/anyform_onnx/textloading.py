"""Loads models that generate text."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyform.contract.errors import Invalid, LoadFailed
from anyform.contract.model import LoadedModel
from anyform.onnx.graph import read
from anyform.pretrained.configuration import Configuration
from anyform.pretrained.listing import Listing
from anyform.text.textmodel import TextModel
from anyform_onnx import layout, vocabulary
from anyform_onnx.blending import QUANTIZES
from anyform_onnx.cachegraph import CacheGraph, Size
from anyform_onnx.generation import SHARING, RowDecoder, open_decoder
from anyform_onnx.info import PLAIN
from anyform_onnx.loop import Loop

if TYPE_CHECKING:
    from anyform_onnx.loading import Loading

_TABLED = ("biogpt", "codegen", "gpt2", "gpt_bigcode", "gpt_neo", "gptj", "openai-gpt", "opt")
"""Model types that look positions up in a table, which ends where config.json says."""
_SCALED = {"DynamicQuantizeLinear", "DynamicQuantizeMatMul"}
"""Operators that have one scale for all numbers of a step."""
log = logging.getLogger("anyform.onnx")


def load(loading: Loading) -> LoadedModel:
    """The model, its first step done. Raises Invalid, LoadFailed, MemoryError, Unsupported."""
    graph = opened(loading)
    words = vocabulary.words(loading, graph.vocabulary)
    parts = operators(loading)
    context, parallel = _context(loading, parts), loading.parallel
    decoder = open_decoder(graph, parallel, context, parts)
    _check_reach(loading, graph, context)
    if parallel > 1 and isinstance(decoder, RowDecoder) and not decoder.rows:
        why = "takes no attention_mask" if not graph.masked else "gives other numbers for several texts than for one"
        log.warning("%s: its graph %s, so that requests are run one after another", loading.plan.model, why)
        loading.sessions[0].notes += (f"The graph {why}, so that requests are run one after another.",)
    elif parallel > 1 and parts & _SCALED:
        loading.sessions[0].notes += (f"The graph {QUANTIZES}: so is a text, even with a seed, unless parallel is 1.",)
    batch = loading.options.batch if graph.many or not graph.begins else context
    return TextModel(
        Loop(decoder, parallel, batch, loading.options.text_interval),
        words,
        vocabulary.chat_form(loading, words),
        context=context,
        parallel=parallel,
        defaults=vocabulary.defaults(loading),
    )


def opened(loading: Loading) -> CacheGraph:
    """The decoder's graph. Raises LoadFailed, MemoryError, Unsupported."""
    first, behind = _places(loading)
    known = _size(loading)
    if behind is None:
        return CacheGraph(loading.open(first), known)
    return CacheGraph(loading.open(behind), known, first=loading.open(first))


def _places(loading: Loading) -> tuple[Path, Path | None]:
    """The graph; or the two of transformers' exporter, for prompts and for what is behind them. Raises LoadFailed."""
    match, entry = loading.plan.match, Path(loading.plan.path) / loading.plan.match.entry
    if match.format == PLAIN:
        return entry, None
    parts = layout.named(Listing(entry.parent), match.format, entry.name)
    names = [parts[part] for part in ("decoder", "prefill", "model", "decode") if part in parts]
    if not names:
        raise LoadFailed(f"{entry.name} of {loading.plan.model} names no graph.", "Export it again, whole.")
    return entry.parent / names[0], entry.parent / names[1] if len(names) > 1 else None


def _context(loading: Loading, parts: Collection[str]) -> int:
    """Tokens of one request. Raises Invalid where the graph has a table of places, which ends before.

    *parts*: its operators.
    """
    context, last = loading.context, loading.plan.metadata.context
    tabled = SHARING in parts or Configuration(loading.config).model_type in _TABLED
    if tabled and last and context > last:
        raise Invalid(f"context is {context}; the model's positions end at {last}.", f"Give {last} or less.")
    return context


def _check_reach(loading: Loading, graph: CacheGraph, context: int) -> None:
    """Raise Invalid where *graph* ends before *context*; what is rotary goes on behind what config.json says."""
    last = loading.plan.metadata.context
    if (last is None or context > last) and not graph.reaches(context - 1):
        hint = f"Give {last} or less." if last else "Give less."
        raise Invalid(f"context is {context}; the model's graph ends before it, at the table of its positions.", hint)


def _decoder(loading: Loading) -> dict[str, Any]:
    """What genai_config.json says of the graph; empty: nothing."""
    model = loading.json("genai_config.json").get("model")
    found = model.get("decoder") if isinstance(model, dict) else None
    return found if isinstance(found, dict) else {}


def operators(loading: Loading) -> frozenset[str]:
    """What the graph is made of, without the domains."""
    path, _ = _places(loading)
    return frozenset(name.rpartition(".")[2] for name in read(Listing(path.parent), path.name).operators)


def _size(loading: Loading) -> Size:
    config, genai = Configuration(loading.config), _decoder(loading)
    shape = config.shape()

    def first(*said: Any) -> int:
        return next((one for one in said if type(one) is int and one > 0), 0)

    heads = first(shape.get("heads"), genai.get("num_attention_heads"))
    width = first(shape.get("embedding_length"), genai.get("hidden_size"))
    model = loading.json("genai_config.json").get("model")
    return Size(
        heads=first(genai.get("num_key_value_heads"), shape.get("kv_heads"), heads),
        size=first(genai.get("head_size"), shape.get("key_length"), width // heads if heads else 0),
        vocabulary=first(config.number("vocab_size"), model.get("vocab_size") if isinstance(model, dict) else None),
    )
