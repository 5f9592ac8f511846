"""What is wrong with an ONNX file, before onnxruntime sees it: damage, versions, operators, files beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count, takewhile
from pathlib import PurePosixPath

from anyform.contract.facts import Finding, ModelFiles
from anyform.finding import Family
from anyform.onnx import graph
from anyform.onnx.graph import Model, Value

AGAIN = "Copy or download the file again."
_ANY = Family("")
critical, warning = _ANY.critical, _ANY.warning
DOMAINS = (
    "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc", "ai.onnx.ml", "ai.onnx.training",
    "ai.onnx.preview.training",
)  # fmt: skip
"""Sets of operators that onnxruntime has beside ONNX's own."""
FLOATS = ("F32", "F16", "F64")
WHOLE = ("I64", "I32")
WHOLE_PRODUCTS = frozenset({
    "ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "com.microsoft.DynamicQuantizeMatMul",
    "com.microsoft.MatMulIntegerToFloat", "com.microsoft.QAttention", "com.microsoft.QGemm",
})  # fmt: skip
"""Operators that multiply whole numbers."""
SHOWN = 4


def companions(files: ModelFiles, entry: str) -> list[str]:
    """The files that hold numbers of *entry*, by the names that exporters give them."""
    numbered = takewhile(files.files.__contains__, (f"{entry}_data_{number}" for number in count(1)))
    return [name for name in (f"{entry}_data", f"{entry}.data") if name in files.files] + list(numbered)


def check(files: ModelFiles, name: str, form: str) -> Iterator[Finding]:
    """Findings of the file by itself, with *form* before each code."""
    found = graph.read(files, name)
    for trouble in found.troubles:
        yield critical(f"{form}.{trouble.code}", f"{name} is no sound ONNX model: {trouble}. {AGAIN}")
    if found.troubles:
        return
    if not found.whole:
        text = f"{name} is not on this machine: what it needs is looked at once it is here, before it is loaded."
        yield warning(f"{form}.unseen", text)
        return
    if not found.has_graph or not found.opsets.get("") or not found.outputs or not found.operators:
        lacks = "graph" if not found.has_graph else "opset" if not found.opsets.get("") else "outputs and operators"
        yield critical(f"{form}.damaged", f"{name} is no whole ONNX model: it states no {lacks}. {AGAIN}")
        return
    odd = next((one for one in (*found.inputs, *found.outputs) if _is_odd(one)), None)
    if odd is not None:
        text = f"{name} calls an input or output {odd.name!r:.60}, or a length of it, by what is no UTF-8. {AGAIN}"
        yield critical(f"{form}.damaged", text)
        return
    yield from _versions(found, name, form)
    yield from _external(files, name, found, form)


def _is_odd(value: Value) -> bool:
    """Whether bytes of its names were no text; onnxruntime loads such a model, and fails at each look at it."""
    return any("\N{REPLACEMENT CHARACTER}" in str(one) for one in (value.name, *value.shape))


def _versions(found: Model, name: str, form: str) -> Iterator[Finding]:
    opset = found.opsets[""]
    for what, stated, known in (
        ("opset", opset, graph.NEWEST_OPSET),
        ("IR version", found.ir_version, graph.NEWEST_IR),
    ):
        if stated > known:
            text = (
                f"{name} has {what} {stated}, and onnxruntime 1.31 knows up to {known}: it needs a later one, if any."
            )
            yield warning(f"{form}.new_opset", text)
    foreign = {kind for kind in found.operators if "." in kind} - found.functions
    strange = sorted({kind.rpartition(".")[0] for kind in foreign} - {*DOMAINS})
    if strange:
        said = ", ".join(f"{domain!r:.60}" for domain in strange[:SHOWN])
        text = f"{name} uses operators of {said}, which onnxruntime does not bring, nor the model itself."
        yield critical(f"{form}.unknown_operators", f"{text} Get an export without them.")


def _external(files: ModelFiles, name: str, found: Model, form: str) -> Iterator[Finding]:
    """What other files have to hold."""
    folder = PurePosixPath(name).parent
    ends: dict[str, int] = {}
    for one in found.external:
        ends[one.location] = max(ends.get(one.location, 0), one.offset + one.length)
    for location, end in ends.items():
        path = PurePosixPath(location)
        if path.is_absolute() or ".." in path.parts or "\\" in location or "\0" in location:
            text = f"{name} wants numbers from {location!r:.100}, which lies outside of the model. {AGAIN}"
            yield critical(f"{form}.bad_external", text)
            continue
        there = files.files.get(str(folder / path))
        if there is None:
            text = f"{location:.100} is missing, where {name} has its numbers: fetch it into the same folder."
            yield critical(f"{form}.missing_external", text)
        elif there < end:
            text = f"{location:.100} has {there} bytes, and {name} needs {end} there: it is cut off. {AGAIN}"
            yield critical(f"{form}.truncated", text)


def takes(found: Model, wanted: Sequence[tuple[Sequence[str], Sequence[str], Sequence[int]]]) -> str:
    """What differs from inputs *wanted*: (names, types, lengths; -1: any) each; empty: nothing does."""
    known: set[str] = set()
    for names, types, lengths in wanted:
        value = next((one for one in found.inputs if one.name in names), None)
        if value is None:
            return f"it has no input {' or '.join(names)}, but {_names(found.inputs)}"
        known.add(value.name)
        if value.dtype not in types:
            return f"its input {value.name} is of type {value.dtype or 'none'}, not {' or '.join(types)}"
        if not _fits(value.shape, lengths):
            return f"its input {value.name} has the shape {list(value.shape[:8])}, not {_shape(lengths)}"
    more = [one for one in found.inputs if one.name not in known]
    return f"it has further inputs, {_names(more)}" if more else ""


def _fits(shape: Sequence[int | str], lengths: Sequence[int]) -> bool:
    """Whether a stated shape may be *lengths*; what has names, or no shape at all, may be anything."""
    if not shape:
        return True
    pairs = zip(shape, lengths, strict=False)
    return len(shape) == len(lengths) and all(-1 in (b, a) or isinstance(a, str) or a == b for a, b in pairs)


def _shape(lengths: Sequence[int]) -> str:
    return f"[{', '.join('any' if length < 0 else str(length) for length in lengths)}]"


def _names(values: Sequence[Value]) -> str:
    said = ", ".join(f"{one.name:.60}" for one in values[:SHOWN])
    return (said or "none") + (", …" if len(values) > SHOWN else "")


def quantization(found: Model) -> str:
    """The type that most bytes of the weights have, as users call it; empty: there are none.

    Of packed matrices their bits: INT4, or Q4F16 where all else has 16 bits. Where products are of whole numbers, the
    embeddings' type does not count.
    """
    sizes = {name: one.size for name, one in found.weights.items() if name in _QUANTIZATIONS}
    if not sizes:
        return ""
    if found.packed.elements or any(kind.endswith(graph.PACKED) for kind in found.operators):
        bits = found.packed.bits or 4
        return f"Q{bits}F16" if sizes.get("F16", 0) > sizes.get("F32", 0) else f"INT{bits}"
    integers = {name: size for name, size in sizes.items() if name in ("I8", "U8")}
    if integers and not found.operators.keys().isdisjoint(WHOLE_PRODUCTS):
        sizes = integers
    return _QUANTIZATIONS[max(sizes, key=lambda name: sizes[name])]


_QUANTIZATIONS = {
    "F32": "F32", "F16": "F16", "BF16": "BF16", "F64": "F64", "I8": "INT8", "U8": "UINT8", "I4": "INT4", "U4": "INT4",
}  # fmt: skip
