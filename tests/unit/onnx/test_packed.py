"""Matrices of several numbers to a byte, and what users call weights of whole numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from anyform.kernel.files import FolderFiles
from anyform.onnx import graph, inspection
from anyform.onnx.graph import Model
from anyform.testing.onnx import Graph, write_onnx


def read(folder: Path, made: Graph) -> Model:
    write_onnx(folder / "model.onnx", made)
    return graph.read(FolderFiles(folder), "model.onnx")


@pytest.mark.parametrize(("bits", "scales", "called"), [(4, "F32", "INT4"), (4, "F16", "Q4F16"), (8, "F32", "INT8")])
def test_packed_matrices_are_counted_by_their_numbers(tmp_path: Path, bits: int, scales: str, called: str) -> None:
    """K x N numbers in blocks of 32, several in a byte; scales and zero points are no parameters."""
    long, wide, blocks = 96, 40, 3
    made = Graph()
    made.input("x", "F32", ["batch", long])
    matrix = made.weights("matrix", "U8", [wide, blocks, 32 * bits // 8], bytes(wide * blocks * 32 * bits // 8))
    scale = made.weights("scale", scales, [wide * blocks], bytes(wide * blocks * (4 if scales == "F32" else 2)))
    packed = -(-blocks * bits // 8)
    zero = made.weights("zero", "U8", [wide * packed], bytes(wide * packed))
    for _ in range(2):  # the second shares the first's matrix
        product = made.node(
            "MatMulNBits", "x", matrix, scale, zero, domain="com.microsoft", K=long, N=wide, bits=bits, block_size=32
        )
    made.output(product, "F32", ["batch", wide])
    found = read(tmp_path, made)
    assert not found.troubles
    assert found.elements == long * wide
    assert inspection.quantization(found) == called


@pytest.mark.parametrize("strange", [{"K": 0}, {"N": 1 << 40}, {"bits": 9}, {"block_size": 0}, {"K": -1}])
def test_impossible_lengths_are_not_counted(tmp_path: Path, strange: dict[str, int]) -> None:
    made = Graph()
    made.input("x", "F32", ["batch", 32])
    matrix = made.weights("matrix", "U8", [4, 1, 16], bytes(64))
    said = {"K": 32, "N": 4, "bits": 4, "block_size": 32} | strange
    made.output(made.node("MatMulNBits", "x", matrix, "", domain="com.microsoft", **said), "F32", ["batch", 4])
    found = read(tmp_path, made)
    assert found.packed.elements == 0
    assert found.elements == 64


def test_where_products_are_of_whole_numbers_the_embeddings_do_not_count(tmp_path: Path) -> None:
    made = Graph()
    made.input("ids", "I64", ["batch"])
    rows = made.node("Gather", made.weights("words", "F32", [64, 8], bytes(64 * 8 * 4)), "ids")
    whole, _, zero = made.nodes_of("DynamicQuantizeLinear", [rows], ["whole", "scale", "zero"])
    matrix, at = made.weights("matrix", "I8", [8, 4], bytes(32)), made.weights("at", "I8", [], bytes(1))
    made.output(made.node("MatMulInteger", whole, matrix, zero, at), "I32", ["batch", 4])
    assert inspection.quantization(read(tmp_path, made)) == "INT8"


class Elsewhere:
    """A file that is not on this machine, of which the beginning can be fetched."""

    path = Path("/nowhere")

    def __init__(self, content: bytes, size: int) -> None:
        self.files: Mapping[str, int] = {"model.onnx": size}
        self.content, self.fetched = content, 0

    def head(self, name: str, size: int = 4096) -> bytes:
        self.fetched = max(self.fetched, size)
        return self.content[:size]

    def json(self, name: str) -> Mapping[str, Any]:
        return {}


def test_of_a_graph_elsewhere_all_is_fetched_where_that_is_little(tmp_path: Path) -> None:
    """Inputs and outputs stand at its end, behind what the numbers of larger ones would be."""
    made = Graph()
    made.input("x", "F32", ["batch", 50_000])
    made.output(made.node("Add", "x", made.weights("w", "F32", [50_000], bytes(200_000))), "F32", ["batch", 50_000])
    content = write_onnx(tmp_path / "model.onnx", made).read_bytes()
    whole = graph.read(Elsewhere(content, len(content)), "model.onnx")
    assert whole.whole
    assert [one.name for one in whole.inputs] == ["x"]
    large = Elsewhere(content, 1 << 30)
    assert not graph.read(large, "model.onnx").whole
    assert large.fetched == graph.REMOTE_BYTES
