"""Parts that the ONNX graphs of language models share: weights of safetensors files, linear layers, norms, attention.

Precisions: F32; F16, in which all but norms is computed; I8, whose linear layers are quantized as onnxruntime's dynamic
quantization does it: weights to I8 by column, what comes in to U8 on each call.
"""

from __future__ import annotations

import json
import struct
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from anyform.testing.onnx import OPSET, TYPES, Graph
from anyform.testing.safetensors import Tensor

PRECISIONS = ("F32", "F16", "I8")
NEWEST_WITH_ATTRIBUTE = 17
"""The last opset whose ReduceMean has its axes as an attribute."""
Number = TypeVar("Number", int, float)
_LOWEST = {"F32": -3.4028234663852886e38, "F16": -65504.0}


class Weights:
    """Tensors by name, given back as F32."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = {one.name: one for one in tensors}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._tensors.values())

    def shape(self, name: str) -> tuple[int, ...]:
        """Raises KeyError where there is no such tensor."""
        return self._tensors[name].shape

    def floats(self, name: str) -> array[float]:
        """All numbers of a tensor of F32, F16 or BF16, the last axis first. Raises KeyError, ValueError."""
        one = self._tensors[name]
        match one.dtype:
            case "F32":
                return _native(one.data)
            case "F16":
                return array("f", struct.unpack(f"<{len(one.data) // 2}e", one.data))
            case "BF16":
                wide = bytearray(len(one.data) * 2)
                wide[2::4], wide[3::4] = one.data[::2], one.data[1::2]
                return _native(bytes(wide))
        raise ValueError(f"the tensor {name} is {one.dtype}; it must be F32, F16 or BF16.")


def read_weights(folder: Path) -> Weights:
    """The tensors of a folder's model.safetensors, or of its shards."""
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    return Weights([one for name in names for one in _read(folder / name)])


def _read(path: Path) -> list[Tensor]:
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    found = []
    for name, said in header.items():
        begin, end = (8 + size + place for place in said["data_offsets"])
        found.append(Tensor(name, tuple(said["shape"]), said["dtype"], data[begin:end]))
    return found


class Layers:
    """Adds layers to *graph*, whose weights are named and shaped as torch has them."""

    def __init__(self, graph: Graph, weights: Weights, precision: str = "F32", opset: int = OPSET) -> None:
        """Raises ValueError for a precision that is not one of PRECISIONS."""
        if precision not in PRECISIONS:
            raise ValueError(f"the precision is {precision}; it must be one of {', '.join(PRECISIONS)}.")
        self.graph, self.weights, self.precision, self.opset = graph, weights, precision, opset
        self.kind = "F16" if precision == "F16" else "F32"
        """Of what is computed."""
        self.lowest = _LOWEST[self.kind]
        """What a score becomes that is not to count."""
        self._known: dict[object, str] = {}

    def ints(self, *values: int) -> str:
        """A list of I64."""
        return self._once(("ints", values), lambda: self.graph.constant(values, "I64"))

    def whole(self, value: int) -> str:
        """An I64 alone."""
        return self._once(("whole", value), lambda: self.graph.constant(value, "I64"))

    def real(self, value: float, kind: str = "") -> str:
        """A number of *kind*; default: of what is computed."""
        kind = kind or self.kind
        return self._once((kind, value), lambda: self.graph.constant(value, kind))

    def stored(self, name: str, kind: str = "") -> str:
        """A tensor of the weights, as it is; default: in the type that is computed."""
        kind = kind or self.kind

        def make() -> str:
            return self.graph.weights(name, kind, self.weights.shape(name), packed(kind, self.weights.floats(name)))

        return self._once(("stored", name, kind), make)

    def cast(self, value: str, kind: str) -> str:
        return self.graph.node("Cast", value, to=TYPES[kind])

    def linear(self, value: str, layer: str, called: str = "") -> str:
        """`value @ weight.T + bias` of the layer called *layer*, without a bias where it has none."""
        bias = f"{layer}.bias"
        if bias not in self.weights:
            return self.product(value, f"{layer}.weight", called)
        return self.graph.node("Add", self.product(value, f"{layer}.weight"), self.stored(bias), called=called)

    def product(self, value: str, weight: str, called: str = "") -> str:
        """`value @ weight.T`."""
        if self.precision == "I8":
            return self._quantized_product(value, weight, called)
        return self.graph.node("MatMul", value, self._turned(weight), called=called)

    def _turned(self, weight: str) -> str:
        """A weight [in, out]; of one that is stored already, such as a table of tokens, no second copy."""

        def make() -> str:
            if kept := self._known.get(("stored", weight, self.kind)):
                return self.graph.node("Transpose", kept, perm=[1, 0])
            rows, columns = self.weights.shape(weight)
            turned = transposed(self.weights.floats(weight), rows, columns)
            return self.graph.weights(f"{weight}.transposed", self.kind, (columns, rows), packed(self.kind, turned))

        return self._once(("turned", weight), make)

    def _quantized_product(self, value: str, weight: str, called: str) -> str:
        small, scale, zero = self._quantized(value)
        numbers, scales = self._quantized_weight(weight)
        whole = self.graph.node("MatMulInteger", small, numbers, zero)
        both = self.graph.node("Mul", scale, scales)
        return self.graph.node("Mul", self.cast(whole, "F32"), both, called=called)

    def _quantized(self, value: str) -> Sequence[str]:
        """U8 numbers, their scale and their zero; one node for all layers that *value* goes into."""
        outputs = [f"{value}.{part}" for part in ("quantized", "scale", "zero")]
        if ("quantized", value) not in self._known:
            self._known["quantized", value] = value
            self.graph.nodes_of("DynamicQuantizeLinear", [value], outputs)
        return outputs

    def _quantized_weight(self, weight: str) -> tuple[str, str]:
        """I8 [in, out], and the scale of each column."""
        names = f"{weight}.quantized", f"{weight}.scale"
        if ("weight", weight) not in self._known:
            self._known["weight", weight] = weight
            rows, columns = self.weights.shape(weight)
            small, scales = quantized(self.weights.floats(weight), rows, columns)
            self.graph.weights(names[0], "I8", (columns, rows), transposed(small, rows, columns).tobytes())
            self.graph.weights(names[1], "F32", (rows,), packed("F32", scales))
        return names

    def rms_norm(self, value: str, weight: str, epsilon: float) -> str:
        """Divided by the root of the mean square of the last axis, in F32, then times *weight*."""
        wide = self._wide(value)
        square = self.graph.node("Mul", wide, wide)
        root = self.graph.node("Sqrt", self.graph.node("Add", self.mean(square), self.real(epsilon, "F32")))
        return self.graph.node("Mul", self._narrow(self.graph.node("Div", wide, root)), self.stored(weight))

    def layer_norm(self, value: str, layer: str, epsilon: float, called: str = "") -> str:
        """Less the mean of the last axis, divided by its standard deviation, times a weight, plus a bias."""
        weight, bias = (self.stored(f"{layer}.{part}", "F32") for part in ("weight", "bias"))
        last = called if self.kind == "F32" else ""
        made = self.graph.node(
            "LayerNormalization", self._wide(value), weight, bias, called=last, axis=-1, epsilon=epsilon
        )
        return made if self.kind == "F32" else self.graph.node("Cast", made, to=TYPES[self.kind], called=called)

    def mean(self, value: str, axis: int = -1, *, keep: bool = True) -> str:
        """Over one axis."""
        if self.opset <= NEWEST_WITH_ATTRIBUTE:
            return self.graph.node("ReduceMean", value, axes=[axis], keepdims=keep)
        return self.graph.node("ReduceMean", value, self.ints(axis), keepdims=keep)

    def _wide(self, value: str) -> str:
        return value if self.kind == "F32" else self.cast(value, "F32")

    def _narrow(self, value: str) -> str:
        return value if self.kind == "F32" else self.cast(value, self.kind)

    def heads(self, value: str, size: int) -> str:
        """[batch, tokens, heads * size] -> [batch, heads, tokens, size]."""
        return self.graph.node("Transpose", self.apart(value, size), perm=[0, 2, 1, 3])

    def apart(self, value: str, size: int) -> str:
        """[batch, tokens, heads * size] -> [batch, tokens, heads, size]."""
        return self.graph.node("Reshape", value, self.ints(0, 0, -1, size))

    def together(self, value: str) -> str:
        """[batch, heads, tokens, size] -> [batch, tokens, heads * size]."""
        return self.graph.node("Reshape", self.graph.node("Transpose", value, perm=[0, 2, 1, 3]), self.ints(0, 0, -1))

    def attention(self, query: str, key: str, value: str, bias: str, size: int) -> str:
        """[batch, tokens, heads * size] of heads [batch, heads, tokens, size]; *bias* is added to the scores."""
        turned = self.graph.node("Transpose", key, perm=[0, 1, 3, 2])
        scores = self.graph.node("Mul", self.graph.node("MatMul", query, turned), self.real(size**-0.5))
        share = self.graph.node("Softmax", self.graph.node("Add", scores, bias), axis=-1)
        return self.together(self.graph.node("MatMul", share, value))

    def bias(self, allowed: str) -> str:
        """0 where BOOLs are true, and the lowest number elsewhere."""
        return self.graph.node("Where", allowed, self.real(0.0), self.real(self.lowest))

    def length(self, value: str, axis: int) -> str:
        """Of *value* along *axis*: an I64 alone."""
        return self.graph.node("Gather", self.graph.node("Shape", value), self.whole(axis))

    def _once(self, key: object, make: Callable[[], str]) -> str:
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]


def packed(kind: str, values: array[float]) -> bytes:
    """F32 or F16, little-endian."""
    if kind == "F16":
        return struct.pack(f"<{len(values)}e", *values)
    return _native(values.tobytes()).tobytes()


def transposed(values: array[Number], rows: int, columns: int) -> array[Number]:
    """A matrix [rows, columns] as [columns, rows]."""
    turned = values[:]
    for column in range(columns):
        turned[column * rows : (column + 1) * rows] = values[column::columns]
    return turned


def quantized(values: array[float], rows: int, columns: int) -> tuple[array[int], array[float]]:
    """I8 of -127 to 127 for a matrix [rows, columns], and the scale of each row."""
    small, scales = array("b"), array("f")
    for row in range(rows):
        part = values[row * columns : (row + 1) * columns]
        scale = max(map(abs, part)) / 127 or 1.0
        small.extend([round(value / scale) for value in part])
        scales.append(scale)
    return small, scales


def _native(data: bytes) -> array[float]:
    """Numbers of little-endian F32."""
    made = array("f")
    made.frombytes(data)
    if sys.byteorder == "big":
        made.byteswap()
    return made
