"""One safetensors file: what its header may say, and what is wrong with it."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Severity
from anyform.finding import Family
from anyform.kernel.files import FolderFiles
from anyform.pretrained import safetensors
from anyform.testing.safetensors import Tensor, assemble, described, tensor

FAMILY = Family("st")
TENSORS = [tensor("a", 2, 3), tensor("b", 4, dtype="F16"), tensor("c", dtype="I64"), tensor("d", 0, 5)]
DATA = b"".join(one.data for one in TENSORS)

Header = dict[str, Any]


def codes(path: Path) -> list[str]:
    files = FolderFiles(path)
    found = list(safetensors.check(safetensors.header(files, path.name), path.name, FAMILY))
    assert all(finding.severity is Severity.CRITICAL for finding in found)
    assert all(path.name in finding.text for finding in found)
    return [finding.code.removeprefix("st.") for finding in found]


def write(path: Path, header: Header | bytes, data: bytes = DATA) -> Path:
    path.write_bytes(assemble(header, data))
    return path


def test_a_sound_file(tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", described(TENSORS))
    assert codes(path) == []
    header = safetensors.header(FolderFiles(path), path.name)
    # An empty tensor lies before the next that begins at the same byte.
    assert [(one.name, one.dtype, one.shape, one.size) for one in header.tensors] == [
        ("a", "F32", (2, 3), 24), ("b", "F16", (4,), 8), ("c", "I64", (), 8), ("d", "F32", (0, 5), 0),
    ]  # fmt: skip


def test_what_a_file_says_of_itself_is_kept_where_it_is_short(tmp_path: Path) -> None:
    texts = {"ss_network_dim": "16", "format": "pt", "escaped": 'a "b"', "ss_tag_frequency": "x" * 5000}
    texts |= {f"n{number}": "x" for number in range(safetensors.MOST_TEXTS)}
    path = write(tmp_path / "m.safetensors", {**described(TENSORS), "__metadata__": texts})
    kept = safetensors.header(FolderFiles(path), path.name).texts
    assert kept["ss_network_dim"] == "16"
    assert kept["escaped"] == 'a "b"'
    assert "ss_tag_frequency" not in kept
    assert len(kept) == safetensors.MOST_TEXTS - 1


def test_types_of_less_than_a_byte(tmp_path: Path) -> None:
    header = {"a": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}}
    assert codes(write(tmp_path / "m.safetensors", header, bytes(2))) == []
    header["a"]["shape"] = [5]
    assert codes(write(tmp_path / "m.safetensors", header, bytes(2))) == ["bad_size"]


def change(name: str, **fields: Any) -> Callable[[Header], None]:
    return lambda header: header[name].update(fields)


def swap(header: Header) -> None:
    """The names of a and b stand at each other's places, which is sound; their shapes do not fit then."""
    header["a"]["data_offsets"], header["b"]["data_offsets"] = header["b"]["data_offsets"], header["a"]["data_offsets"]


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (change("a", dtype="F31"), "unknown_dtype"),
        (change("a", shape=[2, 4]), "bad_size"),
        (change("a", shape=[1 << 40, 1 << 40]), "bad_size"),
        (change("b", data_offsets=[20, 28]), "overlap"),
        (change("b", data_offsets=[26, 34]), "gap"),
        (change("a", data_offsets=[24, 0]), "bad_size"),
        (swap, "bad_size"),
        (lambda header: header.pop("a"), "gap"),
        (lambda header: (header.pop("c"), header.pop("d")), "too_long"),
        (change("c", data_offsets=[32, 48]), "truncated"),
    ],
)
def test_wrong_places_and_sizes(tmp_path: Path, damage: Callable[[Header], Any], code: str) -> None:
    header = described(TENSORS)
    damage(header)
    assert code in codes(write(tmp_path / "m.safetensors", header))


@pytest.mark.parametrize(
    "header",
    [
        b"", b"[]", b"{", b'{"a": 1}', b'{"a": {}}', b'{"a": {"dtype": "F32", "shape": [1]}}', b"\xff{}", b"null",
        b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [true], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 5]}}',
        b'{"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}',
        b'{"__metadata__": {"format": 1}}', b'{"__metadata__": []}', b"[" * 100_000, b'{"a":' * 100_000,
        b'{"a": ' + b"9" * 10_000 + b"}",
        b'{"a": {"dtype": "F32", "shape": ' + b"[" * 1900 + b"]" * 1900 + b', "data_offsets": [0, 4]}}',
    ],
    ids=lambda header: repr(header[:40]),
)  # fmt: skip
def test_headers_that_are_no_headers(tmp_path: Path, header: bytes) -> None:
    assert codes(write(tmp_path / "m.safetensors", header, bytes(4))) == ["bad_header"]


def test_a_tensor_that_is_there_twice(tmp_path: Path) -> None:
    one, text = TENSORS[0], json.dumps(described(TENSORS[:1])["a"])
    header = f'{{"a": {text}, "a": {text}}}'.encode()
    assert "duplicate_tensor" in codes(write(tmp_path / "m.safetensors", header, one.data))


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "truncated"),
        (b"\x05\0\0", "truncated"),
        (struct.pack("<Q", 200_000_000) + b"{}", "header_too_large"),
        (struct.pack("<Q", 2**63) + b"{}", "header_too_large"),
        (struct.pack("<Q", 100) + b"{}", "truncated"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "header_too_large"),
    ],
)
def test_files_that_end_early(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    assert codes(path) == [code]


@pytest.mark.parametrize("cut", [1, 8, 39, 40, 100])
def test_truncated_and_longer_files(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "m.safetensors", described(TENSORS))
    content = path.read_bytes()
    path.write_bytes(content[:-cut])
    assert codes(path)
    path.write_bytes(content + bytes(cut))
    assert codes(path) == ["too_long"]


def test_a_header_that_is_too_long_to_be_read_is_said_to_be(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {"x": "y" * safetensors.READ_HEADER_BYTES}}).encode()
    path = write(tmp_path / "m.safetensors", header, b"")
    files = FolderFiles(path)
    [finding] = safetensors.check(safetensors.header(files, path.name), path.name, FAMILY)
    assert (finding.code, finding.severity) == ("st.header_unseen", Severity.WARNING)


def test_many_tensors_are_read_quickly(tmp_path: Path) -> None:
    many = [Tensor(f"model.layers.{n}.mlp.experts.{n}.down_proj.weight", (1,), "U8", b"x") for n in range(50_000)]
    path = write(tmp_path / "m.safetensors", described(many), b"x" * len(many))
    assert codes(path) == []
