"""Writes small ONNX models that look at pictures, in pure Python: a classifier, an encoder, and a pair as CLIP is."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anyform.testing.onnx import Graph, Shape, numbers, write_onnx

SIDE, PATCH, WIDTH, VECTOR = 32, 8, 24, 16
"""Pixels of a picture and of a patch; numbers of a patch, and of a vector that stands for a picture or a text."""
LABELS = ("cat", "red house", "nothing", "dog")
WORDS = (
    "[PAD]", "[UNK]", "[END]", "This", "is", "a", "photo", "of", "cat", "dog", "house", "red", "blue", "many", "x",
    "12",
)  # fmt: skip
"""The vocabulary; a word's place is its token."""
TEXT_LENGTH = 12
PROCESSOR: Mapping[str, Any] = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": SIDE, "width": SIDE},
}


@dataclass
class Weights:
    """Random numbers by name, drawn when they are first asked for; the same for the same seed."""

    seed: int = 0
    tensors: dict[str, tuple[tuple[int, ...], list[float]]] = field(default_factory=dict)
    """Shape, and the numbers in its order, the last side first."""

    def __call__(self, graph: Graph, name: str, *shape: int) -> str:
        """The constant called *name* in *graph*."""
        if name not in self.tensors:
            chance = random.Random(f"{self.seed} {name}")
            spread = 1 / math.sqrt(math.prod(shape[1:]) or 1)
            self.tensors[name] = (shape, [chance.gauss(0, 2 * spread) for _ in range(math.prod(shape))])
        return graph.weights(name, "F32", shape, numbers("F32", self.tensors[name][1]))


def write_classifier(
    folder: Path,
    *,
    batch: int | str = "batch_size",
    labels: Sequence[str] = LABELS,
    seed: int = 0,
    name: str = "model.onnx",
    processor: Mapping[str, Any] = PROCESSOR,
    config: Mapping[str, Any] | None = None,
    rounded: bool = False,
) -> Weights:
    """A folder as optimum exports a classifier of pictures. *batch*: pictures at once, or the name of their number.

    *rounded*: to 8 bits, on one scale for all pictures of a step, as dynamically quantized graphs do.
    """
    weights, graph = Weights(seed), Graph()
    pixels = graph.input("pixel_values", "F32", _picture(batch))
    if rounded:
        parts = graph.nodes_of("DynamicQuantizeLinear", [pixels], ["pixels.quantized", "pixels.scale", "pixels.zero"])
        pixels = graph.node("DequantizeLinear", *parts)
    mean = _averaged(graph, weights, pixels)
    graph.node("Gemm", mean, weights(graph, "head", len(labels), WIDTH), called="logits", transB=1)
    graph.output("logits", "F32", (batch, len(labels)))
    write_onnx(folder / name, graph)
    names = {str(place): label for place, label in enumerate(labels)}
    said = {"architectures": ["ViTForImageClassification"], "model_type": "vit", "id2label": names}
    _write(folder, {"config.json": {**said, **(config or {})}, "preprocessor_config.json": processor})
    return weights


def write_image_encoder(folder: Path, *, pooled: bool = True, seed: int = 0, name: str = "model.onnx") -> Weights:
    """A folder as transformers.js has DINOv2 or ViT. *pooled*: with a vector of the whole picture."""
    weights, graph = Weights(seed), Graph()
    patches = _patches(graph, weights, graph.input("pixel_values", "F32", _picture("batch_size")))
    graph.node("Identity", patches, called="last_hidden_state")
    graph.output("last_hidden_state", "F32", ("batch_size", (SIDE // PATCH) ** 2, WIDTH))
    if pooled:
        mean = _mean(graph, patches)
        graph.node("Gemm", mean, weights(graph, "pooler", VECTOR, WIDTH), called="pooler_output", transB=1)
        graph.output("pooler_output", "F32", ("batch_size", VECTOR))
    write_onnx(folder / name, graph)
    config = {"architectures": ["Dinov2Model"], "model_type": "dinov2"}
    processor = {"image_processor_type": "BitImageProcessor", "size": SIDE, "crop_size": SIDE}
    _write(folder, {"config.json": config, "preprocessor_config.json": processor})
    return weights


def write_dual(
    folder: Path,
    *,
    joint: bool = True,
    pair: bool = False,
    scale: float = 14.0,
    bias: float | None = None,
    batch: int | str = "",
    seed: int = 0,
) -> Weights:
    """A folder as transformers.js has CLIP, or with a *bias* SigLIP, whose texts are all TEXT_LENGTH tokens long.

    *joint*: model.onnx, which does both. *pair*: vision_model.onnx and text_model.onnx. *batch*: pictures, and
    texts, at once; empty: any number of each.
    """
    weights = Weights(seed)
    if joint:
        write_onnx(folder / "model.onnx", _joint(weights, scale, bias, batch))
    if pair:
        graph = Graph()
        graph.output(_looking(graph, weights, batch or "images"), "F32", (batch or "images", VECTOR))
        write_onnx(folder / "vision_model.onnx", graph)
        graph = Graph()
        graph.output(_reading(graph, weights, batch or "texts", bias), "F32", (batch or "texts", VECTOR))
        write_onnx(folder / "text_model.onnx", graph)
    kind, architecture = ("clip", "CLIPModel") if bias is None else ("siglip", "SiglipModel")
    config = {
        "architectures": [architecture],
        "model_type": kind,
        "logit_scale_init_value": 2.6592,
        "projection_dim": VECTOR,
        "text_config": {"max_position_embeddings": TEXT_LENGTH, "vocab_size": len(WORDS)},
    }
    files = {"config.json": config, "preprocessor_config.json": PROCESSOR, "tokenizer.json": _tokenizer()}
    _write(folder, {**files, "tokenizer_config.json": {"pad_token": WORDS[0]}})
    return weights


def _joint(weights: Weights, scale: float, bias: float | None, batch: int | str) -> Graph:
    graph = Graph()
    pictures, texts = batch or "images", batch or "texts"
    lengths = [
        _unit(graph, made, called)
        for made, called in (
            (_looking(graph, weights, pictures, "looked"), "image_embeds"),
            (_reading(graph, weights, texts, bias, "read"), "text_embeds"),
        )
    ]
    turned = graph.node("Transpose", lengths[1], perm=[1, 0])
    scaled = graph.node("Mul", graph.node("MatMul", lengths[0], turned), graph.constant(scale))
    graph.node("Add", scaled, graph.constant(bias or 0.0), called="logits_per_image")
    graph.output("logits_per_image", "F32", (pictures, texts))
    graph.output("image_embeds", "F32", (pictures, VECTOR))
    graph.output("text_embeds", "F32", (texts, VECTOR))
    return graph


def _looking(graph: Graph, weights: Weights, batch: int | str, called: str = "image_embeds") -> str:
    mean = _averaged(graph, weights, graph.input("pixel_values", "F32", _picture(batch)))
    return graph.node("Gemm", mean, weights(graph, "visual_projection", VECTOR, WIDTH), called=called, transB=1)


def _reading(graph: Graph, weights: Weights, batch: int | str, bias: float | None, called: str = "text_embeds") -> str:
    """The mean of what stands for its tokens; SigLIP takes what fills a text up for tokens, too."""
    tokens = graph.input("input_ids", "I64", (batch, "sequence_length"))
    found = graph.node("Tanh", graph.node("Gather", weights(graph, "tokens", len(WORDS), WIDTH), tokens))
    if bias is None:
        mask = graph.node("Cast", graph.input("attention_mask", "I64", (batch, "sequence_length")), to=1)
        there = graph.node("Unsqueeze", mask, graph.constant([2], "I64"))
        total = graph.node("ReduceSum", graph.node("Mul", found, there), graph.constant([1], "I64"), keepdims=0)
        count = graph.node("ReduceSum", mask, graph.constant([1], "I64"), keepdims=1)
        mean = graph.node("Div", total, count)
    else:
        mean = _mean(graph, found)
    return graph.node("Gemm", mean, weights(graph, "text_projection", VECTOR, WIDTH), called=called, transB=1)


def _picture(batch: int | str) -> Shape:
    return (batch, 3, SIDE, SIDE)


def _averaged(graph: Graph, weights: Weights, pixels: str) -> str:
    return _mean(graph, _patches(graph, weights, pixels))


def _patches(graph: Graph, weights: Weights, pixels: str) -> str:
    """Batch x patches x WIDTH, as a ViT begins; then what a layer without attention makes of each."""
    kernel = weights(graph, "patches", WIDTH, 3, PATCH, PATCH)
    found = graph.node("Conv", pixels, kernel, kernel_shape=[PATCH, PATCH], strides=[PATCH, PATCH])
    flat = graph.node("Reshape", found, graph.constant([0, WIDTH, -1], "I64"))
    rows = graph.node("Transpose", flat, perm=[0, 2, 1])
    forward = graph.node("MatMul", graph.node("Tanh", rows), weights(graph, "forward", WIDTH, WIDTH))
    return graph.node("Add", rows, graph.node("Relu", forward))


def _mean(graph: Graph, values: str) -> str:
    return graph.node("ReduceMean", values, axes=[1], keepdims=0)


def _unit(graph: Graph, values: str, called: str) -> str:
    length = graph.node("ReduceL2", values, axes=[1], keepdims=1)
    return graph.node("Div", values, length, called=called)


def _tokenizer() -> Mapping[str, Any]:
    """Words apart at spaces, and [END] behind them."""
    special = [
        {"id": place, "content": WORDS[place], "special": True, "normalized": False, "lstrip": False, "rstrip": False,
         "single_word": False}
        for place in (0, 1, 2)
    ]  # fmt: skip
    end = {"SpecialToken": {"id": WORDS[2], "type_id": 0}}
    return {
        "version": "1.0",
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, end],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, end, {"Sequence": {"id": "B", "type_id": 1}}, end],
            "special_tokens": {WORDS[2]: {"id": WORDS[2], "ids": [2], "tokens": [WORDS[2]]}},
        },
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: place for place, word in enumerate(WORDS)},
            "unk_token": WORDS[1],
        },
    }


def _write(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    for name, said in files.items():
        (folder / name).write_text(json.dumps(said), encoding="utf-8")
