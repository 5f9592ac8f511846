"""Writes decoders such as llama, qwen2 and qwen3 as ONNX in pure Python, in the layouts of three exporters.

Their names, inputs and outputs are those that the exporters write: optimum's (transformers.js's too),
onnxruntime-genai's `models.builder` (0.18) and `transformers.exporters.OnnxExporter` (5.23).
"""

from __future__ import annotations

import json
import math
import shutil
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from anyform.testing.onnx import OPSET, Graph, write_onnx
from anyform.testing.onnxlayer import Layers, Weights, packed, read_weights, transposed
from anyform.testing.safetensors import (
    CHATML,
    byte_words,
    llama_config,
    llama_tensors,
    write_byte_tokenizer,
    write_json,
)

LAYOUTS = {"onnx": OPSET, "onnx_genai": 22, "onnx_export": 20}
"""And the opset that each writes by default."""
_IR_VERSIONS = ((22, 10), (19, 9), (0, 8))
"""The first opset, and the version of the file format that goes with it."""
_CONTRIBUTED = "com.microsoft"
_GROUPED_HEAD = 16
"""GroupQueryAttention wants heads of a multiple of it, which the builder does not see to."""
_BESIDE = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    "vocab.json", "merges.txt", "generation_config.json", "config.json",
)  # fmt: skip
"""What of a source is copied."""


@dataclass(frozen=True)
class Size:
    """How large a decoder is, of its config.json."""

    layers: int
    heads: int
    kv_heads: int
    head: int
    """Numbers of a head; *used* of them are not zero."""
    used: int
    context: int
    vocabulary: int
    epsilon: float
    theta: float

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Size:
        """Raises ValueError for positions that are scaled."""
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        if (kind := rope.get("rope_type", rope.get("type", "default"))) != "default":
            raise ValueError(f"the positions are scaled by {kind}, which this writer does not know.")
        heads = config["num_attention_heads"]
        head = config.get("head_dim") or config["hidden_size"] // heads
        return cls(
            layers=config["num_hidden_layers"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads", heads),
            head=head,
            used=head,
            context=config["max_position_embeddings"],
            vocabulary=config["vocab_size"],
            epsilon=config["rms_norm_eps"],
            theta=rope.get("rope_theta") or config.get("rope_theta") or 10_000.0,
        )

    @property
    def frequencies(self) -> list[float]:
        """[head / 2]: radians that a position turns each pair of numbers by."""
        turned = [self.theta ** (-2 * place / self.used) for place in range(self.used // 2)]
        return turned + [0.0] * ((self.head - self.used) // 2)


def write_decoder(
    folder: Path,
    source: Path | None = None,
    *,
    layout: str = "onnx",
    entry: str = "model.onnx",
    precision: str = "F32",
    external: bool | None = None,
    opset: int = 0,
    padded: bool = False,
    template: str = CHATML,
    **changes: Any,
) -> Path:
    """A folder with a decoder that onnxruntime runs; returns *folder*.

    *source*: a Hugging Face folder (config.json with model.safetensors or its shards) whose weights, config and
    tokenizer are taken; without one the weights are those of `safetensors.write_llama`: random, the same each time,
    with *changes* to config.json (`model_type="qwen2"`: biases; "qwen3": norms of query and key heads), bytes as tokens
    (`safetensors.write_byte_tokenizer`) and *template* for chats. *layout*:

    - "onnx": one graph at *entry* (`model.onnx`, `onnx/model_quantized.onnx` …; further calls with the same folder add
      further variants), inputs input_ids, attention_mask, position_ids, past_key_values.N.key and .value
      [batch, kv_heads, past, head_size], outputs logits, present.N.key and .value; standard operators only.
    - "onnx_genai": model.onnx with GroupQueryAttention, no position_ids, genai_config.json; past and present may share
      a buffer. onnxruntime-genai runs it.
    - "onnx_export": prefill.onnx and decode.onnx (one token at a time), export.json; of one conversation
      (batch 1 and no mask) or, *padded*, of several: then with attention_mask.

    *precision*: "F32", "F16" (the cache and outputs too) or "I8" (dynamically quantized products). *external*: whether
    weights lie in a file of their own; default: as the exporter does. *opset*: 17 to 22; default: LAYOUTS.
    Raises ValueError for a layout, a precision or a config that this writer does not know.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"the layout is {layout}; it must be one of {', '.join(LAYOUTS)}.")
    config, weights = _subject(folder, source, template, changes)
    size = Size.of(config)
    if layout == "onnx_genai" and size.head % _GROUPED_HEAD:
        weights, size = _widened(weights, size)
    opset = opset or LAYOUTS[layout]
    aside = layout != "onnx" if external is None else external
    for name, make in _graphs(layout, entry, padded).items():
        graph = Graph("main_graph")
        make(Layers(graph, weights, precision, opset), size)
        path = folder / name
        ending = "_data" if layout == "onnx" else ".data"
        write_onnx(
            path,
            graph,
            external=f"{path.name}{ending}" if aside else "",
            opset=opset,
            ir_version=next(version for first, version in _IR_VERSIONS if opset >= first),
            domains={_CONTRIBUTED: 1} if layout == "onnx_genai" else {},
        )
    if layout == "onnx_genai":
        write_json(folder / "genai_config.json", genai_config(folder, config, size))
    if layout == "onnx_export":
        write_json(folder / "export.json", export_manifest(config))
    return folder


def _subject(
    folder: Path, source: Path | None, template: str, changes: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Weights]:
    """config.json and weights; what else a folder needs is written."""
    folder.mkdir(parents=True, exist_ok=True)
    if source is None:
        config = llama_config(**{"head_dim": _GROUPED_HEAD, **byte_words(), **changes})
        write_json(folder / "config.json", config)
        ends = {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        write_json(folder / "generation_config.json", ends)
        write_byte_tokenizer(folder, template, model_max_length=config["max_position_embeddings"])
        return config, Weights(llama_tensors(config))
    for name in _BESIDE:
        if (source / name).is_file() and source != folder:
            shutil.copyfile(source / name, folder / name)
    return json.loads((source / "config.json").read_text(encoding="utf-8")), read_weights(source)


def _widened(weights: Weights, size: Size) -> tuple[Weights, Size]:
    """The same decoder with heads that GroupQueryAttention takes. Raises ValueError where heads have norms."""
    if "model.layers.0.self_attn.q_norm.weight" in weights:
        raise ValueError(f"heads of {size.head} that have norms cannot be widened; use a multiple of {_GROUPED_HEAD}.")
    size = replace(size, head=-(-size.head // _GROUPED_HEAD) * _GROUPED_HEAD)
    return _Widened(weights, size), size


class _Widened(Weights):
    """Weights whose heads got zeros after each of their two halves, so that the same numbers are turned together."""

    def __init__(self, weights: Weights, size: Size) -> None:
        super().__init__(list(weights))
        self._size = size

    def shape(self, name: str) -> tuple[int, ...]:
        shape = super().shape(name)
        if name.endswith("o_proj.weight"):
            return shape[0], shape[1] // self._size.used * self._size.head
        if _of_heads(name):
            return shape[0] // self._size.used * self._size.head, *shape[1:]
        return shape

    def floats(self, name: str) -> array[float]:
        values, shape = super().floats(name), super().shape(name)
        if name.endswith("o_proj.weight"):
            wide = self._spread(transposed(values, *shape), shape[0])
            return transposed(wide, self.shape(name)[1], shape[0])
        return self._spread(values, math.prod(shape[1:])) if _of_heads(name) else values

    def _spread(self, values: array[float], columns: int) -> array[float]:
        """Rows of heads, with rows of zeros between them."""
        half = self._size.used // 2 * columns
        gap = array("f", bytes(4 * (self._size.head // 2 * columns - half)))
        wide = array("f")
        for begin in range(0, len(values), half):
            wide += values[begin : begin + half]
            wide += gap
        return wide


def _of_heads(name: str) -> bool:
    return any(f".{part}_proj." in name for part in "qkv")


def _graphs(layout: str, entry: str, padded: bool) -> dict[str, Callable[[Layers, Size], None]]:
    """What draws each file's graph."""
    if layout == "onnx_genai":
        return {"model.onnx": _grouped}
    if layout == "onnx_export":
        return {"prefill.onnx": partial(_prefill, padded=padded), "decode.onnx": partial(_decode, padded=padded)}
    return {entry: _with_past}


def _with_past(layers: Layers, size: Size) -> None:
    """As optimum's `text-generation-with-past`."""
    graph = layers.graph
    graph.input("input_ids", "I64", ("batch_size", "sequence_length"))
    graph.input("attention_mask", "I64", ("batch_size", "total_sequence_length"))
    graph.input("position_ids", "I64", ("batch_size", "sequence_length"))
    cache = _Cache(layers, size, "past_key_values.{}.{}", "present.{}.{}", ("key", "value"))
    cache.given(("batch_size", "past_sequence_length"))
    before = layers.length(cache.past(0)[0], 2)
    bias = _bias(layers, "input_ids", before, "attention_mask")
    _body(layers, size, _Attention(layers, size, bias, cache, "position_ids"))
    graph.output("logits", layers.kind, ("batch_size", "sequence_length", size.vocabulary))
    cache.returned(("batch_size", "total_sequence_length"))


def _prefill(layers: Layers, size: Size, *, padded: bool) -> None:
    """As transformers' own exporter: a prompt, before which there is nothing."""
    graph, batch = layers.graph, "s44" if padded else 1
    graph.input("input_ids", "I64", (batch, "s70"))
    mask = graph.input("attention_mask", "I64", ("s43", "s53")) if padded else ""
    graph.input("position_ids", "I64", (batch, "s70"))
    cache = _Cache(layers, size, "", "past_key_values.layers.{}.{}", ("keys", "values"))
    bias = _bias(layers, "input_ids", "", mask)
    _body(layers, size, _Attention(layers, size, bias, cache, "position_ids"))
    graph.output("logits", layers.kind, (batch, "s70", size.vocabulary))
    cache.returned((batch, "s70"))


def _decode(layers: Layers, size: Size, *, padded: bool) -> None:
    """As transformers' own exporter: one more token."""
    graph, batch = layers.graph, "s3" if padded else 1
    graph.input("input_ids", "I64", (batch, 1))
    mask = graph.input("attention_mask", "I64", ("s43", "s53")) if padded else ""
    graph.input("position_ids", "I64", (batch, 1))
    names = "input.past_key_values.layers.{}.{}", "output.past_key_values.layers.{}.{}"
    cache = _Cache(layers, size, *names, ("keys", "values"))
    cache.given((batch, "s16"))
    bias = _bias(layers, "input_ids", layers.length(cache.past(0)[0], 2), mask)
    _body(layers, size, _Attention(layers, size, bias, cache, "position_ids"))
    graph.output("logits", layers.kind, (batch, 1, size.vocabulary))
    cache.returned((batch, "s16 + 1"))


def _grouped(layers: Layers, size: Size) -> None:
    """As onnxruntime-genai's builder."""
    graph = layers.graph
    graph.input("input_ids", "I64", ("batch_size", "sequence_length"))
    graph.input("attention_mask", "I64", ("batch_size", "total_sequence_length"))
    cache = _Cache(layers, size, "past_key_values.{}.{}", "present.{}.{}", ("key", "value"))
    cache.given(("batch_size", "past_sequence_length"))
    _body(layers, size, _Grouped(layers, size, cache))
    graph.output("logits", layers.kind, ("batch_size", "sequence_length", size.vocabulary))
    cache.returned(("batch_size", "total_sequence_length"))


def _body(layers: Layers, size: Size, attention: _Attends) -> None:
    """From `input_ids` to `logits`."""
    add = partial(layers.graph.node, "Add")
    table = "model.embed_tokens.weight"
    value = layers.graph.node("Gather", layers.stored(table), "input_ids", axis=0)
    for number in range(size.layers):
        layer = f"model.layers.{number}"
        given = layers.rms_norm(value, f"{layer}.input_layernorm.weight", size.epsilon)
        parts = [layers.linear(given, f"{layer}.self_attn.{part}_proj") for part in "qkv"]
        seen = attention.seen(number, *parts)
        value = add(value, layers.linear(seen, f"{layer}.self_attn.o_proj"))
        given = layers.rms_norm(value, f"{layer}.post_attention_layernorm.weight", size.epsilon)
        value = add(value, _forward(layers, f"{layer}.mlp", given))
    last = layers.rms_norm(value, "model.norm.weight", size.epsilon)
    head = "lm_head.weight"
    layers.product(last, head if head in layers.weights else table, called="logits")


def _forward(layers: Layers, layer: str, value: str) -> str:
    """SwiGLU."""
    gate, up = (layers.linear(value, f"{layer}.{part}_proj") for part in ("gate", "up"))
    open = layers.graph.node("Mul", gate, layers.graph.node("Sigmoid", gate))
    return layers.linear(layers.graph.node("Mul", open, up), f"{layer}.down_proj")


def _bias(layers: Layers, ids: str, before: str, mask: str) -> str:
    """[batch or 1, 1, tokens, all tokens]: what is added to scores, so that none looks ahead, nor at padding.

    *before*: how many tokens the cache holds; empty: there is none.
    """
    node = layers.graph.node
    count = layers.length(ids, 1)
    every = node("Add", before, count) if before else count
    places = node("Range", layers.whole(0), every, layers.whole(1))
    own = node("Range", before, every, layers.whole(1)) if before else places
    allowed = node("LessOrEqual", places, node("Unsqueeze", own, layers.ints(1)))
    if mask:
        real = node("Unsqueeze", layers.cast(mask, "BOOL"), layers.ints(1, 2))
        allowed = node("And", allowed, real)
    else:
        allowed = node("Unsqueeze", allowed, layers.ints(0, 1))
    return layers.bias(allowed)


class _Cache:
    """Keys and values of each layer, [batch, kv_heads, tokens, head_size], under an exporter's names."""

    def __init__(self, layers: Layers, size: Size, given: str, returned: str, kinds: Sequence[str]) -> None:
        """*given*, *returned*: with a place for the layer's number and one for its kind; no *given*: nothing is."""
        self._layers, self._size = layers, size
        self._given, self._returned, self._kinds = given, returned, kinds

    def past(self, layer: int) -> list[str]:
        """Names of what is given; none where nothing is."""
        return [self._given.format(layer, kind) for kind in self._kinds if self._given]

    def present(self, layer: int) -> list[str]:
        """Names of what is returned."""
        return [self._returned.format(layer, kind) for kind in self._kinds]

    def given(self, sides: tuple[int | str, str]) -> None:
        """Declare the inputs; *sides*: batch and tokens."""
        for layer in range(self._size.layers):
            for name in self.past(layer):
                self._layers.graph.input(name, self._layers.kind, self._shape(sides))

    def returned(self, sides: tuple[int | str, str]) -> None:
        """Declare the outputs."""
        for layer in range(self._size.layers):
            for name in self.present(layer):
                self._layers.graph.output(name, self._layers.kind, self._shape(sides))

    def _shape(self, sides: tuple[int | str, str]) -> tuple[int | str, ...]:
        return sides[0], self._size.kv_heads, sides[1], self._size.head


class _Attends(Protocol):
    def seen(self, number: int, query: str, key: str, value: str) -> str:
        """What layer *number*'s tokens see: all [batch, tokens, heads * head_size]."""


class _Attention:
    """Of standard operators."""

    def __init__(self, layers: Layers, size: Size, bias: str, cache: _Cache, positions: str) -> None:
        self._layers, self._size, self._bias, self._cache = layers, size, bias, cache
        self._turns = _turns(layers, size, positions)

    def seen(self, number: int, query: str, key: str, value: str) -> str:
        layers, size = self._layers, self._size
        queries = self._placed(number, "q", query)
        made = self._placed(number, "k", key), layers.heads(value, size.head)
        kept = [self._kept(*one) for one in zip(self._past(number), made, self._cache.present(number), strict=True)]
        keys, values = map(self._repeated, kept)
        return layers.attention(queries, keys, values, self._bias, size.head)

    def _past(self, number: int) -> list[str]:
        return self._cache.past(number) or ["", ""]

    def _kept(self, past: str, new: str, called: str) -> str:
        """What was and what is new, along the tokens."""
        if not past:
            return self._layers.graph.node("Identity", new, called=called)
        return self._layers.graph.node("Concat", past, new, called=called, axis=2)

    def _placed(self, number: int, part: str, value: str) -> str:
        """[batch, heads, tokens, size], normed where the model does so, and turned by its position."""
        node, layers = self._layers.graph.node, self._layers
        apart = node("Transpose", _normed(layers, self._size, number, part, value), perm=[0, 2, 1, 3])
        half = layers.ints(self._size.head // 2, self._size.head // 2)
        first, second = layers.graph.nodes_of(
            "Split", [apart, half], [f"{part}_{number}.first", f"{part}_{number}.second"], attributes={"axis": -1}
        )
        cos, sin = self._turns
        left = node("Sub", node("Mul", first, cos), node("Mul", second, sin))
        right = node("Add", node("Mul", second, cos), node("Mul", first, sin))
        return node("Concat", left, right, axis=-1)

    def _repeated(self, value: str) -> str:
        """[batch, heads, tokens, size]: as many as there are heads of queries."""
        size, layers = self._size, self._layers
        if size.kv_heads == size.heads:
            return value
        apart = layers.graph.node("Unsqueeze", value, layers.ints(2))
        many = layers.graph.node("Expand", apart, layers.ints(1, 1, size.heads // size.kv_heads, 1, 1))
        return layers.graph.node("Reshape", many, layers.ints(0, size.heads, -1, size.head))


def _turns(layers: Layers, size: Size, positions: str) -> tuple[str, str]:
    """Cosine and sine of each position's angles: [batch, 1, tokens, head_size / 2]."""
    node = layers.graph.node
    place = node("Unsqueeze", layers.cast(positions, "F32"), layers.ints(1, 3))
    angles = node("Mul", place, layers.graph.constant(size.frequencies))
    cos, sin = node("Cos", angles), node("Sin", angles)
    return (cos, sin) if layers.kind == "F32" else (layers.cast(cos, layers.kind), layers.cast(sin, layers.kind))


def _normed(layers: Layers, size: Size, number: int, part: str, value: str) -> str:
    """[batch, tokens, heads, size], normed by head where there is a norm for *part*."""
    apart = layers.apart(value, size.head)
    weight = f"model.layers.{number}.self_attn.{part}_norm.weight"
    return layers.rms_norm(apart, weight, size.epsilon) if weight in layers.weights else apart


class _Grouped:
    """Of onnxruntime's own operator, which turns positions as well."""

    def __init__(self, layers: Layers, size: Size, cache: _Cache) -> None:
        self._layers, self._size, self._cache = layers, size, cache
        node = layers.graph.node
        ones = node("ReduceSum", "attention_mask", layers.ints(1), keepdims=0)
        last = node("Sub", ones, layers.ints(1))
        self._lengths = node("Cast", last, to=6), node("Cast", layers.length("attention_mask", 1), to=6)
        angles = [place * one for place in range(size.context) for one in size.frequencies]
        shape = size.context, size.head // 2
        self._tables = [
            layers.graph.weights(f"{turn.__name__}_cache", layers.kind, shape, _table(layers.kind, turn, angles))
            for turn in (math.cos, math.sin)
        ]

    def seen(self, number: int, query: str, key: str, value: str) -> str:
        layers, size, cache = self._layers, self._size, self._cache
        query, key = (self._flat(number, part, one) for part, one in (("q", query), ("k", key)))
        outputs = [f"attention_{number}", *cache.present(number)]
        attributes = {
            "num_heads": size.heads, "kv_num_heads": size.kv_heads, "scale": size.used**-0.5, "do_rotary": 1,
            "rotary_interleaved": 0, "local_window_size": -1,
        }  # fmt: skip
        given = [query, key, value, *cache.past(number), *self._lengths, *self._tables]
        return layers.graph.nodes_of("GroupQueryAttention", given, outputs, _CONTRIBUTED, attributes)[0]

    def _flat(self, number: int, part: str, value: str) -> str:
        weight = f"model.layers.{number}.self_attn.{part}_norm.weight"
        if weight not in self._layers.weights:
            return value
        normed = _normed(self._layers, self._size, number, part, value)
        return self._layers.graph.node("Reshape", normed, self._layers.ints(0, 0, -1))


def _table(kind: str, turn: Callable[[float], float], angles: Sequence[float]) -> bytes:
    return packed(kind, array("f", map(turn, angles)))


def genai_config(folder: Path, config: Mapping[str, Any], size: Size) -> dict[str, Any]:
    """genai_config.json, as the builder writes it for a model on the CPU."""
    path = folder / "generation_config.json"
    said = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    ends = {**config, **said}
    end = ends.get("eos_token_id")
    first_end = end[0] if isinstance(end, list) else end
    padding, begin = ends.get("pad_token_id"), ends.get("bos_token_id")
    return {
        "model": {
            "bos_token_id": first_end if begin is None else begin,
            "context_length": size.context,
            "decoder": {
                "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
                "filename": "model.onnx",
                "head_size": size.head,
                "hidden_size": config["hidden_size"],
                "inputs": {
                    "input_ids": "input_ids",
                    "attention_mask": "attention_mask",
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
                "num_attention_heads": size.heads,
                "num_hidden_layers": size.layers,
                "num_key_value_heads": size.kv_heads,
            },
            "eos_token_id": end,
            "pad_token_id": first_end if padding is None else padding,
            "type": config["model_type"],
            "vocab_size": size.vocabulary,
        },
        "search": {
            "diversity_penalty": 0.0, "do_sample": False, "early_stopping": True, "length_penalty": 1.0,
            "max_length": size.context, "min_length": 0, "no_repeat_ngram_size": 0, "num_beams": 1,
            "num_return_sequences": 1, "past_present_share_buffer": True, "repetition_penalty": 1.0,
            "temperature": 1.0, "top_k": 50, "top_p": 1.0,
        },
    }  # fmt: skip


def export_manifest(config: Mapping[str, Any]) -> dict[str, Any]:
    """export.json of the two graphs, less the descriptions of Python objects that only transformers reads."""
    said = {"architecture": config["architectures"][0], "packages": {}, "export_config": {"export_format": "onnx"}}
    return {
        "schema_version": 1,
        "export_format": "onnx",
        "components": {
            name: {"file": f"{name}.onnx", "metadata": {**said, "export_dtype": "float32", "export_device": "cpu"}}
            for name in ("prefill", "decode")
        },
    }
