"""Writes small ONNX models in pure Python: inputs, outputs, nodes, attributes, constants, opset, metadata.

Field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto; nothing is imported for it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

TYPES = {
    "F32": 1, "U8": 2, "I8": 3, "U16": 4, "I16": 5, "I32": 6, "I64": 7, "TEXT": 8, "BOOL": 9, "F16": 10, "F64": 11,
    "U32": 12, "U64": 13, "BF16": 16, "U4": 21, "I4": 22,
}  # fmt: skip
"""Our name -> TensorProto.DataType."""
PACKING = {
    "F32": "f", "U8": "B", "I8": "b", "U16": "H", "I16": "h", "I32": "i", "I64": "q", "BOOL": "?", "F16": "e",
    "F64": "d", "U32": "I", "U64": "Q",
}  # fmt: skip
"""Types that are written from numbers, as `struct` packs them."""
OPSET = 17
IR_VERSION = 8
"""Of ONNX 1.12, in which opset 17 came."""
SMALLEST_MOVED = 1024
"""Bytes of a constant that goes to a file of external data, as in the library."""
ALIGNMENT = 4096
"""Places in a file of external data are multiples of it, as the library writes them."""
_FLOAT, _INT, _STRING, _TENSOR, _GRAPH, _FLOATS, _INTS, _STRINGS = range(1, 9)

Shape = Sequence[int | str]
"""A length, or the name of one that differs from call to call."""


@dataclass(frozen=True)
class Constant:
    """An initializer: little-endian numbers, or, with *external*, a place in another file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes
    external: Mapping[str, str] = field(default_factory=dict)
    """`location`, `offset`, `length`; *data* is not written then."""

    def written(self) -> bytes:
        said = _packed(1, self.shape) + number(2, TYPES[self.dtype]) + text(8, self.name)
        if not self.external:
            return said + block(9, self.data)
        return said + b"".join(block(13, pair(*one)) for one in self.external.items()) + number(14, 1)


Attribute: TypeAlias = "float | int | str | bytes | Constant | Graph | Sequence[float] | Sequence[int] | Sequence[str]"


class Graph:
    """A graph that is put together node by node; a value is known by its name."""

    def __init__(self, name: str = "graph", doc: str = "") -> None:
        """*doc*: for people."""
        self.name, self.doc = name, doc
        self.inputs: list[bytes] = []
        self.outputs: list[bytes] = []
        self.nodes: list[bytes] = []
        self.constants: list[Constant] = []

    def input(self, name: str, dtype: str, shape: Shape) -> str:
        """What is given at each call."""
        self.inputs.append(described(name, dtype, shape))
        return name

    def output(self, name: str, dtype: str, shape: Shape) -> None:
        """Give the value called *name* back."""
        self.outputs.append(described(name, dtype, shape))

    def constant(self, values: float | Sequence[float], dtype: str = "F32", shape: Sequence[int] | None = None) -> str:
        """Numbers that never change; one number alone is a scalar."""
        many = list(values) if isinstance(values, Sequence) else [values]
        lengths = tuple(shape) if shape is not None else ((len(many),) if isinstance(values, Sequence) else ())
        return self.weights(f"constant_{len(self.constants)}", dtype, lengths, numbers(dtype, many))

    def weights(self, name: str, dtype: str, shape: Sequence[int], data: bytes) -> str:
        """A constant of *data*, little-endian, under a name of its own."""
        self.constants.append(Constant(name, dtype, tuple(shape), data))
        return name

    def node(self, kind: str, *inputs: str, called: str = "", domain: str = "", **attributes: Attribute) -> str:
        """The name of the one output of an operator called *kind*; *called* names it."""
        return self.nodes_of(kind, inputs, [called or f"{kind.lower()}_{len(self.nodes)}"], domain, attributes)[0]

    def nodes_of(
        self,
        kind: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        domain: str = "",
        attributes: Mapping[str, Attribute] | None = None,
    ) -> Sequence[str]:
        """An operator with any number of outputs, which are returned. An input or output that is left out is ""."""
        said = [block(1, name.encode()) for name in inputs] + [block(2, name.encode()) for name in outputs]
        said += [text(3, f"node_{len(self.nodes)}"), text(4, kind), text(7, domain)]
        said += [block(5, _attribute(name, value)) for name, value in (attributes or {}).items()]
        self.nodes.append(b"".join(said))
        return outputs

    def written(self) -> bytes:
        parts = [*(block(1, one) for one in self.nodes), text(2, self.name)]
        parts += [block(5, one.written()) for one in self.constants]
        parts += [text(10, self.doc)]
        parts += [*(block(11, one) for one in self.inputs), *(block(12, one) for one in self.outputs)]
        return b"".join(parts)


def model(
    graph: Graph,
    *,
    opset: int = OPSET,
    metadata: Mapping[str, str] | None = None,
    doc: str = "",
    producer: str = "anyform.testing",
    domains: Mapping[str, int] | None = None,
    ir_version: int = IR_VERSION,
) -> bytes:
    """A whole file. *metadata*: texts by name; *domains*: further sets of operators and their versions."""
    sets = {"": opset, **(domains or {})}
    parts = [number(1, ir_version), text(2, producer), text(6, doc), block(7, graph.written())]
    parts += [block(8, text(1, domain) + number(2, version)) for domain, version in sets.items()]
    parts += [block(14, pair(*one)) for one in (metadata or {}).items()]
    return b"".join(parts)


def write_onnx(path: Path, graph: Graph, *, external: str = "", **said: object) -> Path:
    """A model at *path*; *external*: the file beside it that constants' numbers go to. *said*: as `model` has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if external:
        graph.constants = _moved(graph.constants, path.parent / external)
    path.write_bytes(model(graph, **said))  # type: ignore[arg-type]
    return path


def _moved(constants: Iterable[Constant], to: Path) -> list[Constant]:
    """The same constants; the larger ones' numbers lie in the file *to*, since shapes have to stay with the graph."""
    moved, content = [], bytearray()
    for one in constants:
        if len(one.data) < SMALLEST_MOVED:
            moved.append(one)
            continue
        content += bytes(-len(content) % ALIGNMENT)
        place = {"location": to.name, "offset": str(len(content)), "length": str(len(one.data))}
        moved.append(Constant(one.name, one.dtype, one.shape, one.data, place))
        content += one.data
    to.write_bytes(content)
    return moved


def described(name: str, dtype: str, shape: Shape) -> bytes:
    """A ValueInfoProto of a tensor."""
    sides = [number(1, one) if isinstance(one, int) else text(2, one) for one in shape]
    tensor = number(1, TYPES[dtype]) + block(2, b"".join(block(1, side) for side in sides))
    return text(1, name) + block(2, block(1, tensor))


def numbers(dtype: str, values: Sequence[float]) -> bytes:
    """*values* as a tensor holds them."""
    kind = PACKING[dtype]
    whole = values if kind in "efd" else [int(value) for value in values]
    return struct.pack(f"<{len(values)}{kind}", *whole)


def _attribute(name: str, value: Attribute) -> bytes:
    match value:
        case bool() | int():
            said, kind = number(3, int(value)), _INT
        case float():
            said, kind = _tag(2, 5) + struct.pack("<f", value), _FLOAT
        case str() | bytes():
            said, kind = block(4, value.encode() if isinstance(value, str) else value), _STRING
        case Constant():
            said, kind = block(5, value.written()), _TENSOR
        case Graph():
            said, kind = block(6, value.written()), _GRAPH
        case _ if all(isinstance(one, int) for one in value):
            said, kind = b"".join(number(8, int(one)) for one in value), _INTS
        case _ if all(isinstance(one, str) for one in value):
            said, kind = b"".join(block(9, str(one).encode()) for one in value), _STRINGS
        case _:
            said, kind = b"".join(_tag(7, 5) + struct.pack("<f", one) for one in value), _FLOATS
    return text(1, name) + said + number(20, kind)


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; negative numbers as 64 bits."""
    rest, made = value % (1 << 64), bytearray()
    while rest > 127:
        made.append(rest & 127 | 128)
        rest >>= 7
    return bytes((*made, rest))


def number(place: int, value: int) -> bytes:
    """A field that holds a whole number."""
    return _tag(place, 0) + varint(value)


def block(place: int, content: bytes) -> bytes:
    """A field that holds bytes, or a message."""
    return _tag(place, 2) + varint(len(content)) + content


def text(place: int, said: str) -> bytes:
    """A field that holds text; nothing for an empty one."""
    return block(place, said.encode()) if said else b""


def pair(key: str, value: str) -> bytes:
    """A StringStringEntryProto."""
    return text(1, key) + text(2, value)


def _packed(place: int, values: Iterable[int]) -> bytes:
    content = b"".join(map(varint, values))
    return block(place, content) if content else b""


def _tag(place: int, kind: int) -> bytes:
    return varint(place << 3 | kind)
