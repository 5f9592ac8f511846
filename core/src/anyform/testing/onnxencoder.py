"""Writes encoders such as BERT as ONNX in pure Python, as optimum and sentence-transformers export them."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anyform.testing.onnx import OPSET, Graph, write_onnx
from anyform.testing.onnxlayer import Layers, Weights, read_weights
from anyform.testing.safetensors import write_bert

HEADS = ("none", "sequence")
OUTPUTS = ("last_hidden_state", "sentence_embedding")
_BESIDE = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "modules.json",
    "1_Pooling/config.json", "sentence_bert_config.json", "config_sentence_transformers.json",
)  # fmt: skip
"""What of a source is copied."""
_NEW_FORMAT, _IR_VERSIONS = 19, (8, 9)
"""The opset that came with a later version of the file format, and the two versions."""


def write_encoder(
    folder: Path,
    source: Path | None = None,
    *,
    head: str = "",
    labels: Sequence[str] = (),
    pooling: str = "",
    output: str = "last_hidden_state",
    entry: str = "model.onnx",
    precision: str = "F32",
    external: bool = False,
    opset: int = OPSET,
    token_types: bool = True,
    **changes: Any,
) -> Path:
    """A folder with a BERT that onnxruntime runs; returns *folder*.

    Its inputs are input_ids, attention_mask and (*token_types*) token_type_ids, I64 [batch_size, sequence_length].
    *source*: a Hugging Face folder whose weights, config, tokenizer and modules.json are taken; without one the weights
    are those of `safetensors.write_bert`: random, the same each time, with *changes* to config.json, *labels* (one
    alone: a reranker) and *pooling* ("mean", "cls": writes modules.json). *head*: "sequence" gives logits
    [batch_size, labels], "none" what *output* says; default: by the architecture in config.json. *output*:

    - "last_hidden_state": F32 [batch_size, sequence_length, width];
    - "sentence_embedding": token_embeddings, as above, and sentence_embedding [batch_size, width], which is their mean
      over what is no padding, of length 1: as sentence-transformers exports.

    *entry*: model.onnx, onnx/model_quantized.onnx …; further calls with the same folder add variants. *precision*:
    "F32", "F16" (outputs too) or "I8" (dynamically quantized products). *external*: whether weights lie in
    `<entry>_data`. Raises ValueError for what is not one of these.
    """
    if head not in ("", *HEADS) or output not in OUTPUTS:
        raise ValueError(f"the head is {head}, the output {output}; known are {HEADS} and {OUTPUTS}.")
    if source is None:
        with tempfile.TemporaryDirectory() as place:
            made = write_bert(Path(place), labels=labels, pooling=pooling, **changes)
            config, weights = _taken(folder, made)
    else:
        config, weights = _taken(folder, source)
    graph = Graph("main_graph")
    bert = _Bert(Layers(graph, weights, precision, opset), config, types=token_types)
    bert.read()
    classifies = config["architectures"][0].endswith("ForSequenceClassification")
    if head == "sequence" or (not head and classifies):
        bert.classify()
    elif output == "sentence_embedding":
        bert.embed()
    else:
        bert.hidden(output)
    path = folder / entry
    write_onnx(
        path,
        graph,
        external=f"{path.name}_data" if external else "",
        opset=opset,
        ir_version=_IR_VERSIONS[opset >= _NEW_FORMAT],
    )
    return folder


def _taken(folder: Path, source: Path) -> tuple[Mapping[str, Any], Weights]:
    """config.json and weights; what else a folder needs is copied."""
    for name in _BESIDE:
        if (source / name).is_file() and source != folder:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, folder / name)
    return json.loads((source / "config.json").read_text(encoding="utf-8")), read_weights(source)


class _Bert:
    """Adds its inputs, its layers and one of its heads to a graph."""

    def __init__(self, layers: Layers, config: Mapping[str, Any], *, types: bool) -> None:
        self._layers, self._config, self._types = layers, config, types
        self._node = layers.graph.node
        self._prefix = "bert." if "bert.embeddings.word_embeddings.weight" in layers.weights else ""
        self._epsilon = config["layer_norm_eps"]

    def read(self) -> None:
        """From the inputs to what comes before the last norm."""
        for name in ("input_ids", "attention_mask", *(["token_type_ids"] if self._types else [])):
            self._layers.graph.input(name, "I64", ("batch_size", "sequence_length"))
        mask = self._layers.cast("attention_mask", "BOOL")
        bias = self._layers.bias(self._node("Unsqueeze", mask, self._layers.ints(1, 2)))
        value = self._named(self._embedded(), "embeddings.LayerNorm")
        for number in range(self._config["num_hidden_layers"]):
            layer = f"{self._prefix}encoder.layer.{number}"
            seen = self._node("Add", value, self._attended(f"{layer}.attention", value, bias))
            value = self._layers.layer_norm(seen, f"{layer}.attention.output.LayerNorm", self._epsilon)
            wide = self._gelu(self._layers.linear(value, f"{layer}.intermediate.dense"))
            sum = self._node("Add", value, self._layers.linear(wide, f"{layer}.output.dense"))
            value = self._layers.layer_norm(sum, f"{layer}.output.LayerNorm", self._epsilon)
        self._value = value

    def hidden(self, called: str) -> None:
        """Give each token's numbers back."""
        self._node("Identity", self._value, called=called)
        sides = ("batch_size", "sequence_length", self._config["hidden_size"])
        self._layers.graph.output(called, self._layers.kind, sides)

    def embed(self) -> None:
        """Give each token's numbers back, and their normalized mean."""
        self.hidden("token_embeddings")
        mask = self._layers.cast("attention_mask", self._layers.kind)
        weight = self._node("Unsqueeze", mask, self._layers.ints(2))
        total = self._node("ReduceSum", self._node("Mul", self._value, weight), self._layers.ints(1), keepdims=0)
        mean = self._node("Div", total, self._node("ReduceSum", mask, self._layers.ints(1), keepdims=1))
        square = self._node("ReduceSum", self._node("Mul", mean, mean), self._layers.ints(-1), keepdims=1)
        self._node("Div", mean, self._node("Sqrt", square), called="sentence_embedding")
        sides = ("batch_size", self._config["hidden_size"])
        self._layers.graph.output("sentence_embedding", self._layers.kind, sides)

    def classify(self) -> None:
        """Give a number for each label back."""
        first = self._node("Gather", self._value, self._layers.whole(0), axis=1)
        pooled = self._node("Tanh", self._layers.linear(first, f"{self._prefix}pooler.dense"))
        self._layers.linear(pooled, "classifier", called="logits")
        labels = self._layers.weights.shape("classifier.weight")[0]
        self._layers.graph.output("logits", self._layers.kind, ("batch_size", labels))

    def _named(self, value: str, layer: str) -> str:
        return self._layers.layer_norm(value, f"{self._prefix}{layer}", self._epsilon)

    def _embedded(self) -> str:
        """Tokens, places and kinds."""
        words, places, kinds = (
            self._layers.stored(f"{self._prefix}embeddings.{name}_embeddings.weight")
            for name in ("word", "position", "token_type")
        )
        zero, one = self._layers.whole(0), self._layers.whole(1)
        place = self._node("Range", zero, self._layers.length("input_ids", 1), one)
        kind = self._node("Gather", kinds, "token_type_ids" if self._types else zero)
        spoken = self._node("Add", self._node("Gather", words, "input_ids"), kind)
        return self._node("Add", spoken, self._node("Gather", places, place))

    def _attended(self, layer: str, value: str, bias: str) -> str:
        heads = self._config["num_attention_heads"]
        size = self._config["hidden_size"] // heads
        query, key, seen = (
            self._layers.heads(self._layers.linear(value, f"{layer}.self.{part}"), size)
            for part in ("query", "key", "value")
        )
        return self._layers.linear(self._layers.attention(query, key, seen, bias, size), f"{layer}.output.dense")

    def _gelu(self, value: str) -> str:
        """Half of *value* times one plus the error function of its share of the root of 2."""
        share = self._node("Erf", self._node("Div", value, self._layers.real(2**0.5)))
        half = self._node("Mul", value, self._layers.real(0.5))
        return self._node("Mul", half, self._node("Add", share, self._layers.real(1.0)))
