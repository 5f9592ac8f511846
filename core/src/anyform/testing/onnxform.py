"""Writes folders with ONNX models of all kinds whose graphs have the right ends and compute nothing: to be recognised.

The ends are those that optimum, transformers.js and onnxruntime-genai's builder give such models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyform.testing.onnx import Graph, write_onnx
from anyform.testing.safetensors import CHATML, write_byte_tokenizer, write_json

End = tuple[str, str, Sequence[int | str]]
"""Name, type, shape."""
VOCABULARY, LAYERS, HEADS, HEAD, WIDTH, CONTEXT = 300, 2, 2, 16, 32, 128
_TEXT, _PIXELS = ("batch_size", "sequence_length"), ("batch_size", 3, 32, 32)
IDS: End = ("input_ids", "I64", _TEXT)
MASK: End = ("attention_mask", "I64", _TEXT)
PIXELS: End = ("pixel_values", "F32", _PIXELS)
EMBEDDED: End = ("inputs_embeds", "F32", (*_TEXT, WIDTH))
ENCODED: End = ("encoder_hidden_states", "F32", ("batch_size", "encoder_sequence_length", WIDTH))
SEQUENCE_LOGITS: End = ("logits", "F32", (*_TEXT, VOCABULARY))
HIDDEN: End = ("last_hidden_state", "F32", (*_TEXT, WIDTH))


def cache(kind: str, layers: int = LAYERS) -> list[End]:
    """Keys and values of all layers; *kind*: past_key_values or present."""
    sides = ("batch_size", HEADS, "past_sequence_length", HEAD)
    return [(f"{kind}.{layer}.{part}", "F32", sides) for layer in range(layers) for part in ("key", "value")]


@dataclass(frozen=True)
class Form:
    """What one kind of model takes and gives, and what its config.json says."""

    inputs: Sequence[End]
    outputs: Sequence[End]
    config: Mapping[str, Any]
    beside: Sequence[str] = ("tokenizer",)
    """tokenizer, processor."""


def _config(kind: str, name: str, **more: Any) -> dict[str, Any]:
    sizes = {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": LAYERS}
    heads = {"num_attention_heads": HEADS, "max_position_embeddings": CONTEXT}
    return {"model_type": kind, "architectures": [name], **sizes, **heads, **more}


def _labels(*names: str) -> dict[str, Any]:
    return {"id2label": {str(number): name for number, name in enumerate(names)}}


_LLAMA = _config("llama", "LlamaForCausalLM", num_key_value_heads=HEADS, head_dim=HEAD)
_SEEING = {"model_type": "vit", "architectures": ["ViTForImageClassification"], "image_size": 32, "hidden_size": WIDTH}
_CLIP = {"model_type": "clip", "architectures": ["CLIPModel"], "projection_dim": WIDTH}
_BOTH: tuple[End, ...] = (("text_embeds", "F32", ("texts", WIDTH)), ("image_embeds", "F32", ("batch_size", WIDTH)))

FORMS: Mapping[str, Form] = {
    "decoder": Form(
        [IDS, MASK, ("position_ids", "I64", _TEXT), *cache("past_key_values")],
        [SEQUENCE_LOGITS, *cache("present")],
        _LLAMA,
    ),
    "embedding": Form([IDS, MASK], [HIDDEN], _config("bert", "BertModel")),
    "masked_embedding": Form([IDS, MASK], [HIDDEN], _config("bert", "BertForMaskedLM")),
    "sentence": Form(
        [IDS, MASK],
        [("token_embeddings", "F32", (*_TEXT, WIDTH)), ("sentence_embedding", "F32", ("batch_size", WIDTH))],
        _config("bert", "BertModel"),
    ),
    "causal_embedding": Form(
        [IDS, MASK, *cache("past_key_values")], [HIDDEN, *cache("present")], {**_LLAMA, "model_type": "qwen3"}
    ),
    "reranker": Form(
        [IDS, MASK],
        [("logits", "F32", ("batch_size", 1))],
        _config("bert", "BertForSequenceClassification", **_labels("score")),
    ),
    "classifier": Form(
        [IDS, MASK],
        [("logits", "F32", ("batch_size", 3))],
        _config("bert", "BertForSequenceClassification", **_labels("joy", "anger", "fear")),
    ),
    "unsized_classifier": Form(
        [IDS, MASK],
        [("logits", "F32", ("batch_size", "Addlogits_dim_1"))],
        _config("bert", "BertForSequenceClassification", **_labels("yes", "no")),
    ),
    "image_classifier": Form(
        [PIXELS],
        [("logits", "F32", ("batch_size", 2))],
        {**_SEEING, **_labels("cat", "dog")},
        ("processor",),
    ),
    "image_embedding": Form([PIXELS], [HIDDEN], {**_SEEING, "architectures": ["ViTModel"]}, ("processor",)),
    "clip": Form(
        [IDS, PIXELS, MASK],
        [("logits_per_image", "F32", ("batch_size", "texts")), *_BOTH],
        _CLIP,
        ("tokenizer", "processor"),
    ),
    "clip_text": Form([IDS], _BOTH[:1], _CLIP),
    "clip_vision": Form([PIXELS], _BOTH[1:], _CLIP, ("processor",)),
    "uncached_decoder": Form([IDS, MASK], [SEQUENCE_LOGITS], _LLAMA),
    "part": Form([EMBEDDED, MASK, *cache("past_key_values")], [SEQUENCE_LOGITS, *cache("present")], _LLAMA),
    "masked_lm": Form([IDS, MASK], [SEQUENCE_LOGITS], _config("bert", "BertForMaskedLM")),
    "token_classifier": Form(
        [IDS, MASK], [("logits", "F32", (*_TEXT, 5))], _config("bert", "BertForTokenClassification")
    ),
    "question_answering": Form(
        [IDS, MASK],
        [("start_logits", "F32", _TEXT), ("end_logits", "F32", _TEXT)],
        _config("bert", "BertForQuestionAnswering"),
    ),
    "seq2seq": Form(
        [IDS, ("encoder_attention_mask", "I64", _TEXT), ENCODED, *cache("past_key_values")],
        [SEQUENCE_LOGITS, *cache("present")],
        _config("t5", "T5ForConditionalGeneration", is_encoder_decoder=True),
    ),
    "speech": Form(
        [("input_features", "F32", ("batch_size", 80, 3000))],
        [HIDDEN],
        _config("whisper", "WhisperForConditionalGeneration", is_encoder_decoder=True),
        ("tokenizer", "processor"),
    ),
    "sound": Form(
        [("input_values", "F32", ("batch_size", "samples"))],
        [("logits", "F32", ("batch_size", 5))],
        {"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForSequenceClassification"]},
        ("processor",),
    ),
    "multimodal": Form(
        [IDS, PIXELS], [SEQUENCE_LOGITS], _config("blip", "BlipForConditionalGeneration"), ("tokenizer", "processor")
    ),
    "detector": Form(
        [PIXELS],
        [("logits", "F32", ("batch_size", 100, 92)), ("pred_boxes", "F32", ("batch_size", 100, 4))],
        {**_SEEING, "model_type": "detr", "architectures": ["DetrForObjectDetection"]},
        ("processor",),
    ),
    "segmenter": Form(
        [PIXELS],
        [("logits", "F32", ("batch_size", 5, 8, 8))],
        {**_SEEING, "model_type": "segformer", "architectures": ["SegformerForSemanticSegmentation"]},
        ("processor",),
    ),
    "zoo": Form([("data", "F32", ("N", 3, 32, 32))], [("scores", "F32", ("N", 10))], {}, ()),
    "unknown": Form([("x", "F32", ("n", 4))], [("y", "F32", ("n", 4))], {}, ()),
}
"""Name -> form; those that `role.of` tells apart by their ends alone have its names."""


def graph_of(inputs: Sequence[End], outputs: Sequence[End], elements: int = 64) -> Graph:
    """A graph with these ends whose one weight has *elements* numbers."""
    graph = Graph()
    for given in inputs:
        graph.input(*given)
    weight = graph.weights("weight", "F32", (elements,), bytes(4 * elements))
    for name, dtype, shape in outputs:
        graph.node("Identity", weight, called=name)
        graph.output(name, dtype, shape)
    return graph


def write_graph(path: Path, form: str, *, external: str = "", elements: int = 64, **said: Any) -> Path:
    """The graph of a form at *path*. *said*: as `onnx.model` has it."""
    one = FORMS[form]
    return write_onnx(path, graph_of(one.inputs, one.outputs, elements), external=external, **said)


def write_beside(folder: Path, form: str, **changes: Any) -> Path:
    """The files beside the graph of a form, config.json with *changes*; returns *folder*."""
    one = FORMS[form]
    folder.mkdir(parents=True, exist_ok=True)
    if one.config:
        write_json(folder / "config.json", {**one.config, **changes})
    if "tokenizer" in one.beside:
        write_byte_tokenizer(folder, CHATML if form == "decoder" else "")
    if "processor" in one.beside:
        write_json(folder / "preprocessor_config.json", {"image_mean": [0.5] * 3, "size": {"height": 32, "width": 32}})
    return folder


def write_form(folder: Path, form: str, *entries: str, **changes: Any) -> Path:
    """A folder of a form with graphs at *entries* (`model.onnx`); config.json with *changes*; returns *folder*."""
    for entry in entries or ("model.onnx",):
        write_graph(folder / entry, form)
    return write_beside(folder, form, **changes)


def write_genai(folder: Path, kind: str = "llama", *, graph: str = "model.onnx", **changes: Any) -> Path:
    """A folder of onnxruntime-genai's; *changes*: of genai_config's `model`; returns *folder*."""
    write_form(folder, "decoder", graph)
    decoder = {"filename": graph, "head_size": HEAD, "hidden_size": WIDTH, "num_attention_heads": HEADS}
    decoder |= {"num_hidden_layers": LAYERS, "num_key_value_heads": HEADS}
    model = {"type": kind, "decoder": decoder, "vocab_size": VOCABULARY, "context_length": CONTEXT}
    write_json(folder / "genai_config.json", {"model": {**model, **changes}, "search": {"max_length": CONTEXT}})
    return folder


def write_export(folder: Path, *parts: str, version: Any = 1, **forms: str) -> Path:
    """A folder of transformers' own exporter with a decoder's *parts* (prefill, decode), or components of *forms*."""
    named = {**dict.fromkeys(parts, "decoder"), **forms} or {"prefill": "uncached_decoder", "decode": "decoder"}
    components = {name: {"file": f"{name}.onnx", "metadata": {}} for name in named}
    for name, form in named.items():
        write_graph(folder / f"{name}.onnx", form, external=f"{name}.onnx.data", elements=1024)
    write_beside(folder, next(iter(named.values())))
    said = {"schema_version": version, "export_format": "onnx", "components": components}
    (folder / "export.json").write_text(json.dumps(said))
    return folder
