"""What the reader of ONNX files makes of sound, odd and hostile ones; no engine needed."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from anyform.kernel.files import FolderFiles
from anyform.onnx import graph as onnx
from anyform.onnx.graph import Model, Value
from anyform.testing.damage import Remote
from anyform.testing.onnx import Constant, Graph, block, model, number, numbers, pair, text, varint, write_onnx

MOST_BYTES = 64 << 20


def small() -> Graph:
    graph = Graph("small")
    given = graph.input("x", "F16", ("batch", 3))
    weight = graph.weights("w", "F32", (3, 4), bytes(48))
    graph.node("MatMul", graph.node("Cast", given, to=1), weight, called="y")
    graph.output("y", "F32", ("batch", 4))
    return graph


def read(folder: Path, data: bytes) -> Model:
    path = folder / "m.onnx"
    path.write_bytes(data)
    return onnx.read(FolderFiles(path), path.name)


def trouble(folder: Path, data: bytes) -> str:
    (found,) = read(folder, data).troubles
    return found.code


def holding(graph: bytes) -> bytes:
    """A model with *graph*."""
    return number(1, 8) + block(7, graph) + block(8, number(2, 17))


class TestSound:
    def test_all_that_is_said(self, tmp_path: Path) -> None:
        said = model(small(), metadata={"a": "b", "c": ""}, doc="for people", domains={"com.microsoft": 1})
        found = read(tmp_path, said)
        assert found.whole
        assert not found.troubles
        assert found.inputs == [Value("x", "F16", ("batch", 3))]
        assert found.outputs == [Value("y", "F32", ("batch", 4))]
        assert (found.opsets, found.ir_version) == ({"": 17, "com.microsoft": 1}, 8)
        assert (found.metadata, found.doc, found.producer) == ({"a": "b", "c": ""}, "for people", "anyform.testing")
        assert found.operators == {"Cast": 1, "MatMul": 1}
        assert (found.weights["F32"].tensors, found.elements, found.weight_bytes) == (1, 12, 48)

    def test_tensors_and_graphs_within_nodes(self, tmp_path: Path) -> None:
        """Constants and branches hold weights too."""
        inner = Graph("inner")
        inner.node("Constant", value=Constant("c", "F16", (5,), bytes(10)), called="z")
        inner.weights("v", "I8", (7,), bytes(7))
        graph = small()
        graph.node("If", "x", then_branch=inner, else_branch=inner)
        found = read(tmp_path, model(graph))
        assert found.operators["Constant"] == 2
        assert {name: one.elements for name, one in found.weights.items()} == {"F32": 12, "F16": 10, "I8": 14}
        assert len(found.inputs) == 1

    def test_functions_that_the_model_brings(self, tmp_path: Path) -> None:
        """What is in them counts as what is in the graph."""
        inner = block(7, text(4, "Mul")) + block(7, text(4, "Mul"))
        function = text(1, "Scaled") + inner + text(10, "org.example")
        graph = small()
        graph.node("Scaled", "x", domain="org.example")
        found = read(tmp_path, model(graph) + block(25, function) + block(25, b""))
        assert found.functions == {"org.example.Scaled", "."}
        assert found.operators == {"Cast": 1, "MatMul": 1, "Mul": 2, "org.example.Scaled": 1}

    @pytest.mark.parametrize("side", [(1 << 64) - 1, 1 << 63, (1 << 70) - 1])
    def test_a_length_below_zero_is_none(self, tmp_path: Path, side: int) -> None:
        """Some exporters say -1 of a length that differs."""
        sides = block(2, block(1, number(1, side)) + block(1, number(1, 7)))
        said = text(1, "x") + block(2, block(1, number(1, 1) + sides))
        assert read(tmp_path, holding(block(11, said))).inputs == [Value("x", "F32", ("", 7))]

    def test_lists_and_packed_numbers(self, tmp_path: Path) -> None:
        graph = small()
        graph.node("Odd", "x", ints=[1, -2], floats=[1.0, 2.5], texts=["a", "b"], text="c", flag=True)
        assert read(tmp_path, model(graph)).operators["Odd"] == 1

    def test_numbers_of_other_files_are_told(self, tmp_path: Path) -> None:
        graph = small()
        for name in ("v", "u"):
            graph.weights(name, "F16", (600,), bytes(1200))
        write_onnx(tmp_path / "m.onnx", graph, external="m.onnx_data")
        found = onnx.read(FolderFiles(tmp_path), "m.onnx")
        places = [(one.location, one.offset, one.length) for one in found.external]
        assert places == [("m.onnx_data", 0, 1200), ("m.onnx_data", 4096, 1200)]
        assert found.weight_bytes == 48 + 2 * 1200

    def test_old_models_name_their_weights_among_the_inputs(self, tmp_path: Path) -> None:
        graph = small()
        graph.input("w", "F32", (3, 4))
        assert [one.name for one in read(tmp_path, model(graph, ir_version=3)).inputs] == ["x"]

    def test_a_listing_without_a_folder(self, tmp_path: Path) -> None:
        graph = small()
        graph.weights("big", "F32", (1 << 20,), bytes(4 << 20))
        (tmp_path / "m.onnx").write_bytes(model(graph))
        found = onnx.peek(Remote(tmp_path), "m.onnx")
        assert not found.whole
        assert not found.troubles
        assert found.operators["MatMul"] == 1

    def test_weights_are_not_read(self, tmp_path: Path) -> None:
        path = tmp_path / "m.onnx"
        size = 1 << 40
        head = number(1, 8) + text(2, "x")
        tensor = b"".join((block(1, varint(size)), number(2, 2), text(8, "w")))
        raw = varint(9 << 3 | 2) + varint(size)
        begun = varint(5 << 3 | 2) + varint(len(tensor) + len(raw) + size) + tensor + raw
        end = small().written()
        graph = varint(7 << 3 | 2) + varint(len(begun) + size + len(end))
        with path.open("wb") as file:
            file.write(head + graph + begun)
            file.seek(size, 1)  # a hole: nothing is written
            file.write(end + block(8, number(2, 17)))
        tracemalloc.start()
        found = onnx.read(FolderFiles(path), path.name)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert not found.troubles
        assert (found.weights["U8"].size, [one.name for one in found.inputs]) == (size, ["x"])
        assert peak < 1 << 20


class TestDamage:
    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (b"", "truncated"),
            (b"\x08", "truncated"),
            (b"\x08\xff\xff", "truncated"),
            (b"\xff" * 30, "damaged"),
            (b"\x08" + b"\xff" * 30, "damaged"),
            (b"\x00\x00", "damaged"),
            (b"\x3a\xff\xff\xff\xff\x0f\x00", "truncated"),
            (b"\x3a" + b"\xff" * 9 + b"\x01", "truncated"),
            (b"\x0b\x08\x01\x0c", "damaged"),
            (b"GGUF" * 10, "damaged"),
            (holding(block(1, b"\x0a\x7f")), "damaged"),
            (holding(block(5, number(2, 99))), "unknown_dtype"),
            (holding(block(5, number(2, 1) + number(1, -1))), "bad_size"),
            (holding(block(5, number(2, 1) + b"".join(number(1, 1 << 40) for _ in range(4)))), "bad_size"),
            (holding(block(5, number(2, 1) + number(1, 3) + block(9, bytes(11)))), "bad_size"),
            (holding(block(5, number(2, 1) + number(1, 3) + number(14, 1))), "bad_external"),
            (
                holding(block(5, number(2, 1) + number(14, 1) + block(13, pair("location", "a") + pair("x", "")))
                        + block(5, number(2, 1) + number(14, 1) + block(13, pair("offset", "9e9")))),
                "bad_external",
            ),
        ],
    )  # fmt: skip
    def test_is_told(self, tmp_path: Path, data: bytes, code: str) -> None:
        assert trouble(tmp_path, data) == code

    def test_every_cut_of_a_graph_is_seen(self, tmp_path: Path) -> None:
        data = model(small())
        whole = data.index(block(8, number(2, 17)))
        for end in range(whole):
            found = read(tmp_path, data[:end])
            assert found.troubles or not found.has_graph, end


def nested(depth: int) -> bytes:
    graph = small().written()
    for _ in range(depth):
        graph = block(1, text(4, "If") + block(5, block(6, graph)))
    return graph


class TestHostile:
    """Bounded in steps and memory, and told."""

    FIELDS = 50_000

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (holding(nested(2000)), "too_deep"),
            (number(1, 8) * 60_000, "too_many_fields"),
            (holding(block(1, b"") * 60_000), "too_many_fields"),
            (holding(block(5, block(1, varint(1) * 60_000))), "too_many_fields"),
            (holding(block(5, number(2, 1) + block(1, varint(1 << 62) * 40_000))), "bad_size"),
            (holding(block(11, text(1, "x" * 4000)) * 9_000), "too_many_fields"),
            (holding(block(11, block(2, block(1, block(2, block(1, text(2, "y" * 4000)) * 9_000))))), ""),
            (b"".join(block(14, pair("k" * 4000 + str(one), "v" * 4000)) for one in range(4_000)), "too_many_fields"),
            (b"".join(block(8, text(1, f"d{one}") + number(2, 1)) for one in range(60_000)), "too_many_fields"),
            (holding(b"".join(block(1, text(4, f"operator{one}" * 9)) for one in range(60_000))), "too_many_fields"),
        ],
        ids=["deep", "fields", "nodes", "sides", "huge", "inputs", "shape", "metadata", "opsets", "operators"],
    )
    def test_files_made_to_hurt(self, tmp_path: Path, data: bytes, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(onnx, "MOST_FIELDS", self.FIELDS)
        path = tmp_path / "m.onnx"
        path.write_bytes(data)
        files = FolderFiles(path)
        tracemalloc.start()
        found = onnx.read(files, path.name)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert [trouble.code for trouble in found.troubles] == ([code] if code else [])
        assert peak < MOST_BYTES

    def test_depth_is_told(self, tmp_path: Path) -> None:
        assert trouble(tmp_path, holding(nested(onnx.MOST_DEPTH + 2))) == "too_deep"
        assert not read(tmp_path, holding(nested(onnx.MOST_DEPTH))).troubles


def test_the_writer_packs_what_it_is_told() -> None:
    assert numbers("F32", [1.0]) == b"\x00\x00\x80?"
    assert numbers("I64", [-1]) == b"\xff" * 8
    assert numbers("F16", [0.5]) == b"\x008"
    assert varint(300) == b"\xac\x02"
    assert varint(-1) == b"\xff" * 9 + b"\x01"
