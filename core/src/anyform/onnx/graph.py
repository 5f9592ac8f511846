"""Reads what an ONNX file says of itself: inputs, outputs, opsets, metadata, operators, sizes and types of weights.

A walk over the fields as https://github.com/onnx/onnx/blob/main/onnx/onnx.proto numbers them. Weights are stepped over,
never read; memory and time are bounded, whatever the bytes say.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO
from weakref import WeakKeyDictionary

from anyform.contract.facts import ModelFiles
from anyform.onnx import protobuf
from anyform.onnx.protobuf import BLOCK, MOST_TEXT, MOST_TEXTS, VARINT, DamagedError, Reader, UnseenError

SUFFIX = ".onnx"
MOST_FIELDS = 1_000_000
"""About two seconds' worth; a network of 20,000 operators has some 400,000."""
MOST_DEPTH = 16
"""Graphs within graphs."""
MOST_TOLD = 4096
"""Inputs, outputs, operators' kinds and external places that are kept."""
MOST_SIDES = 64
"""Of an input or output."""
CHUNK = protobuf.CHUNK
REMOTE_BYTES, REMOTE_WHOLE_BYTES = CHUNK, 2 << 20
"""What is looked at of a file that is not on this machine, and how large one may be that is fetched whole: a graph with
its numbers elsewhere."""
NEWEST_IR, NEWEST_OPSET = 13, 26
"""Of what onnxruntime 1.31 takes; it refuses later ones."""
DTYPES: Mapping[int, tuple[str, int]] = {
    1: ("F32", 32), 2: ("U8", 8), 3: ("I8", 8), 4: ("U16", 16), 5: ("I16", 16), 6: ("I32", 32), 7: ("I64", 64),
    8: ("TEXT", 0), 9: ("BOOL", 8), 10: ("F16", 16), 11: ("F64", 64), 12: ("U32", 32), 13: ("U64", 64),
    14: ("C64", 64), 15: ("C128", 128), 16: ("BF16", 16), 17: ("F8_E4M3", 8), 18: ("F8_E4M3FNUZ", 8),
    19: ("F8_E5M2", 8), 20: ("F8_E5M2FNUZ", 8), 21: ("U4", 4), 22: ("I4", 4), 23: ("F4", 4), 24: ("F8_E8M0", 8),
    25: ("U2", 2), 26: ("I2", 2),
}  # fmt: skip
"""TensorProto.DataType -> (our name, bits of an element)."""
PACKED = ("MatMulNBits", "MatMulBnb4")
"""Operators of onnxruntime whose matrix lies in bytes of several numbers each
(https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md)."""
MATRIX, ZERO_POINTS = 1, 3
"""Which of their inputs."""


@dataclass(frozen=True, slots=True)
class Value:
    """An input or an output."""

    name: str
    dtype: str
    """Empty: it is no tensor, or does not say."""
    shape: tuple[int | str, ...]
    """A length, or the name of one that differs; "" where it has none."""


@dataclass(frozen=True, slots=True)
class External:
    """Where the numbers of one tensor lie."""

    location: str
    offset: int
    length: int
    """Bytes that the tensor needs there."""


@dataclass(slots=True)
class Weights:
    """All tensors of one type."""

    tensors: int = 0
    elements: int = 0
    size: int = 0
    """Bytes."""


@dataclass(slots=True)
class Packed:
    """All matrices that lie packed, blocks of numbers with a scale each."""

    bits: int = 0
    """Of a number; the most that one of them has."""
    elements: int = 0
    stored: int = 0
    """Elements that they have as tensors, scales and zero points among them."""


@dataclass(slots=True)
class Model:
    """What one file says."""

    size: int
    """Bytes of the file."""
    ir_version: int = 0
    producer: str = ""
    doc: str = ""
    opsets: dict[str, int] = field(default_factory=dict)
    """Domain -> version; "" is ONNX's own."""
    metadata: dict[str, str] = field(default_factory=dict)
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    operators: Counter[str] = field(default_factory=Counter)
    """How often each kind occurs, as `Conv` or `com.microsoft.MatMulNBits`, in all graphs."""
    functions: set[str] = field(default_factory=set)
    """Kinds of operators that the model brings itself, put together of others."""
    weights: dict[str, Weights] = field(default_factory=dict)
    """By type; initializers and constants of all graphs."""
    packed: Packed = field(default_factory=Packed)
    external: list[External] = field(default_factory=list)
    troubles: list[DamagedError] = field(default_factory=list)
    """What is wrong, in the order it was found; the walk ends at damage."""
    has_graph: bool = False
    whole: bool = False
    """Whether it was read to its end."""

    @property
    def weight_bytes(self) -> int:
        """Of all tensors, wherever they lie."""
        return sum(one.size for one in self.weights.values())

    @property
    def elements(self) -> int:
        """Numbers of all tensors that are weights: not those of indices and shapes, nor scales of packed matrices."""
        lies = sum(one.elements for name, one in self.weights.items() if name not in ("I64", "I32", "BOOL", "TEXT"))
        return max(lies - self.packed.stored, 0) + self.packed.elements


def read(files: ModelFiles, name: str) -> Model:
    """What *name* says; read once for the same *files*. Raises nothing: what is wrong is in `troubles`."""
    kept = _read.setdefault(files, {})
    if name not in kept:
        kept[name] = _model(files, name)
    return kept[name]


_read: WeakKeyDictionary[ModelFiles, dict[str, Model]] = WeakKeyDictionary()
"""For as long as somebody holds the listing: metadata and validation ask for the same."""


def peek(files: ModelFiles, name: str, size: int = CHUNK) -> Model:
    """What the first *size* bytes of *name* say: all of a small model, the first operators of a large one."""
    found = Model(files.files.get(name, 0))
    content = files.head(name, size)
    _Walk(io.BytesIO(content), found, len(content)).run()
    return found


def _model(files: ModelFiles, name: str) -> Model:
    found = Model(files.files.get(name, 0))
    if not found.size:
        found.troubles.append(DamagedError("truncated", "it is empty"))
        return found
    try:
        path = files.path / name
        if not path.is_file():
            return peek(files, name, found.size if found.size <= REMOTE_WHOLE_BYTES else REMOTE_BYTES)
        with path.open("rb") as file:
            _Walk(file, found, found.size).run()
    except OSError as error:
        found.troubles.append(DamagedError("unreadable", f"it cannot be read: {error.strerror or error}"))
    return found


class _Walk(Reader):
    """One pass over a file, which fills *found*."""

    def __init__(self, file: IO[bytes], found: Model, seen: int) -> None:
        """*seen*: bytes that can be read, of the file's."""
        super().__init__(file, found.size, seen, MOST_FIELDS)
        self._found = found
        self._constants: set[str] = set()
        """Names of initializers, of files so old that these are inputs too."""
        self._unpacked: set[str] = set()
        """Names of packed matrices that are counted: embeddings may share one with the output."""

    def run(self) -> None:
        found = self._found
        try:
            self._whole()
            found.whole = True
        except DamagedError as wrong:
            found.troubles.append(wrong)
        except UnseenError:
            pass
        if self._constants:
            found.inputs = [one for one in found.inputs if one.name not in self._constants]

    def _whole(self) -> None:
        found = self._found
        for number, kind, value, end in self.fields(0, found.size):
            match number, kind:
                case 1, 0:
                    found.ir_version = value
                case 2, 2:
                    found.producer = self.text(value, end)
                case 6, 2:
                    found.doc = self.text(value, end)
                case 7, 2:
                    found.has_graph = True
                    self._graph(value, end, 0)
                case 8, 2:
                    self._opset(value, end)
                case 14, 2:
                    self._property(value, end)
                case 25, 2:
                    self._function(value, end)

    def _opset(self, begin: int, end: int) -> None:
        domain, version = "", 0
        for number, kind, value, stop in self.fields(begin, end):
            if (number, kind) == (1, BLOCK):
                domain = self.text(value, stop)
            elif (number, kind) == (2, VARINT):
                version = value
        if len(self._found.opsets) < MOST_TOLD:
            self._found.opsets["" if domain == "ai.onnx" else domain] = version

    def _property(self, begin: int, end: int) -> None:
        key, said = self._pair(begin, end, MOST_TEXTS)
        if len(self._found.metadata) < MOST_TOLD:
            self._found.metadata[key] = said

    def _pair(self, begin: int, end: int, most: int) -> tuple[str, str]:
        key = said = ""
        for number, kind, value, stop in self.fields(begin, end):
            if (number, kind) == (1, BLOCK):
                key = self.text(value, stop)
            elif (number, kind) == (2, BLOCK):
                said = self.text(value, stop, most)
        return key, said

    def _graph(self, begin: int, end: int, depth: int) -> None:
        if depth > MOST_DEPTH:
            raise DamagedError("too_deep", f"graphs lie in graphs more than {MOST_DEPTH} deep")
        for number, kind, value, stop in self.fields(begin, end):
            if kind != BLOCK:
                continue
            match number:
                case 1:
                    self._node(value, stop, depth)
                case 5:
                    self._tensor(value, stop, 0 if depth else self._found.ir_version)
                case 11 if not depth:
                    self._keep(self._found.inputs, value, stop)
                case 12 if not depth:
                    self._keep(self._found.outputs, value, stop)

    def _node(self, begin: int, end: int, depth: int) -> None:
        name = domain = ""
        given: list[tuple[int, int]] = []
        said: dict[str, int] = {}
        for number, kind, value, stop in self.fields(begin, end):
            if kind != BLOCK:
                continue
            match number:
                case 1 if len(given) <= ZERO_POINTS:
                    given.append((value, stop))
                case 4:
                    name = self.text(value, stop)
                case 5:
                    self._attribute(value, stop, depth, said if name in PACKED else None)
                case 7:
                    domain = self.text(value, stop)
        if said and len(given) > MATRIX:
            self._unpack(self.text(*given[MATRIX]), said, len(given) > ZERO_POINTS and len(set(given[ZERO_POINTS])) > 1)
        full = f"{domain}.{name}" if domain not in ("", "ai.onnx") else name
        if full in self._found.operators or len(self._found.operators) < MOST_TOLD:
            self._found.operators[full] += 1

    def _unpack(self, name: str, said: Mapping[str, int], zero_points: bool) -> None:
        """Count a packed matrix of K x N numbers, in blocks of `block_size` along K."""
        wide, long, bits, block = (
            said.get(key, usual) for key, usual in (("N", 0), ("K", 0), ("bits", 4), ("block_size", 0))
        )
        known = 0 < wide < 1 << 31 and 0 < long < 1 << 31 and 0 < bits <= 8 and 0 < block < 1 << 31
        if not known or name in self._unpacked or len(self._unpacked) >= MOST_TOLD:
            return
        self._unpacked.add(name)
        blocks, packed = -(-long // block), self._found.packed
        packed.bits = max(packed.bits, bits)
        packed.elements += wide * long
        packed.stored += wide * blocks * (1 + block * bits // 8) + zero_points * wide * -(-blocks * bits // 8)

    def _function(self, begin: int, end: int) -> None:
        name = domain = ""
        for number, kind, value, stop in self.fields(begin, end):
            match number, kind:
                case 1, 2:
                    name = self.text(value, stop)
                case 7, 2:
                    self._node(value, stop, 1)
                case 10, 2:
                    domain = self.text(value, stop)
        if len(self._found.functions) < MOST_TOLD:
            self._found.functions.add(f"{domain}.{name}")

    def _attribute(self, begin: int, end: int, depth: int, said: dict[str, int] | None) -> None:
        """*said*: gets its whole number, under its name."""
        name = ""
        for number, kind, value, stop in self.fields(begin, end):
            if said is not None and (number, kind) == (1, BLOCK):
                name = self.text(value, stop)
            elif said is not None and (number, kind) == (3, VARINT) and len(said) < MOST_SIDES:
                said[name] = value
            elif kind == BLOCK and number in (5, 10):
                self._tensor(value, stop, 0)
            elif kind == BLOCK and number in (6, 11):
                self._graph(value, stop, depth + 1)

    def _keep(self, kept: list[Value], begin: int, end: int) -> None:
        name, dtype = "", ""
        shape: tuple[int | str, ...] = ()
        for number, kind, value, stop in self.fields(begin, end):
            if (number, kind) == (1, BLOCK):
                name = self.text(value, stop)
            elif (number, kind) == (2, BLOCK):
                dtype, shape = self._type(value, stop)
        if len(kept) < MOST_TOLD:
            kept.append(Value(name, dtype, shape))

    def _type(self, begin: int, end: int) -> tuple[str, tuple[int | str, ...]]:
        """Of a TypeProto: of a tensor its type and shape."""
        dtype = ""
        shape: list[int | str] = []
        for number, kind, value, stop in self.fields(begin, end):
            if (number, kind) != (1, BLOCK):
                continue
            for inner, sort, said, until in self.fields(value, stop):
                if (inner, sort) == (1, VARINT):
                    dtype = DTYPES.get(said, (f"type {said}", 0))[0]
                elif (inner, sort) == (2, BLOCK):
                    shape = [self._side(at, to) for at, to in self._blocks(said, until, 1)]
        return dtype, tuple(shape)

    def _side(self, begin: int, end: int) -> int | str:
        side: int | str = ""
        for number, kind, value, stop in self.fields(begin, end):
            if (number, kind) == (1, VARINT):
                side = value if value < 1 << 63 else ""  # -1 and the like: exporters' word for any length
            elif (number, kind) == (2, BLOCK):
                side = self.text(value, stop)
        return side

    def _blocks(self, begin: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
        for count, (number, kind, value, stop) in enumerate(self.fields(begin, end)):
            if (number, kind) == (wanted, BLOCK) and count < MOST_SIDES:
                yield value, stop

    def _tensor(self, begin: int, end: int, ir_version: int) -> None:
        """*ir_version*: of a graph's own initializers, 0 for others."""
        sides: list[int] = []
        dtype, stored, elsewhere, name, place = 0, -1, False, "", {}
        for number, kind, value, stop in self.fields(begin, end):
            match number, kind:
                case 1, 0:
                    sides.append(value)
                case 1, 2:
                    sides += self.numbers(value, stop)
                case 2, 0:
                    dtype = value
                case 8, 2:
                    name = self.text(value, stop)
                case 9, 2:
                    stored = stop - value
                case 13, 2:
                    key, said = self._pair(value, stop, MOST_TEXT)
                    place[key] = said
                case 14, 0:
                    elsewhere = value == 1
        if 0 < ir_version < 4:
            self._constants.add(name)
        self._count(name, dtype, sides, stored)
        if elsewhere:
            self._place(name, place, _size(dtype, sides))

    def _count(self, name: str, dtype: int, sides: list[int], stored: int) -> None:
        kind = DTYPES.get(dtype)
        if kind is None:
            raise DamagedError(
                "unknown_dtype", f"the tensor {name!r:.100} has the type {dtype}, which ONNX does not have"
            )
        if any(side >= 1 << 63 for side in sides) or _elements(sides) >= 1 << 63:
            raise DamagedError("bad_size", f"the tensor {name!r:.100} has an impossible shape, {sides[:8]}")
        needed = _size(dtype, sides)
        if stored >= 0 and stored != needed and kind[1]:
            said = f"the tensor {name!r:.100} has {stored} bytes; {kind[0]} of shape {sides[:8]} needs {needed}"
            raise DamagedError("bad_size", said)
        all_of = self._found.weights.setdefault(kind[0], Weights())
        all_of.tensors += 1
        all_of.elements += _elements(sides)
        all_of.size += needed

    def _place(self, name: str, said: Mapping[str, str], needed: int) -> None:
        try:
            offset, length = (int(said.get(key, "0") or 0) for key in ("offset", "length"))
        except ValueError:
            offset = -1
        if not said.get("location") or offset < 0 or length < 0:
            raise DamagedError("bad_external", f"where the numbers of the tensor {name!r:.100} lie is not said rightly")
        if length and length != needed:
            text = f"the tensor {name!r:.100} has {length} bytes in {said['location']!r:.100}, and needs {needed}"
            raise DamagedError("bad_external", text)
        self._found.external.append(External(said["location"], offset, needed))


def _elements(sides: list[int]) -> int:
    """Of a tensor; no larger than what is refused, however many lengths there are."""
    product = 1
    for side in sides:
        if side == 0:
            return 0
        product = min(product * side, 1 << 64)
    return product


def _size(dtype: int, sides: list[int]) -> int:
    return -(-_elements(sides) * DTYPES.get(dtype, ("", 0))[1] // 8)
