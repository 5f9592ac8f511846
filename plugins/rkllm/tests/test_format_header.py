"""The clear numbers of a .rkllm: what they tell, and that no masked text has a say."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import pytest

from anyform.kernel.files import FolderFiles
from anyform.testing import rkllm
from anyform.testing.damage import Remote
from anyform.testing.gguf import INT32, STRING, UINT32, Tensor, Typed
from anyform_rkllm import header
from anyform_rkllm.header import Header

NAME = "a.rkllm"


def looked(folder: Path, content: bytes) -> Header:
    folder.mkdir(exist_ok=True)
    (folder / NAME).write_bytes(content)
    return header.read(FolderFiles(folder), NAME)


def test_a_tiny_model(tmp_path: Path) -> None:
    tensors = rkllm.tiny_tensors()
    read = looked(tmp_path, rkllm.assemble(stand_in=None))
    assert read.known
    assert (read.version, read.tensors, read.keys, read.toolkit) == (3, len(tensors), len(rkllm.tiny_keys()), "1.2.3")
    assert read.directory is not None
    assert read.directory.vocabulary == 512
    assert read.directory.elements == sum(len(one.data) // (4 if one.kind == rkllm.F32 else 1) for one in tensors)
    padding = rkllm.ALIGNMENT - 1
    assert 0 <= read.size - len("rkllm-toolkit version: 1.2.3") - read.directory.needed <= 2 * padding


def test_masked_texts_have_no_say(tmp_path: Path) -> None:
    one, other = (looked(tmp_path / str(seed), rkllm.assemble(seed=seed)) for seed in (1, 2))
    assert (tmp_path / "1" / NAME).read_bytes() != (tmp_path / "2" / NAME).read_bytes()
    assert one == other


def test_the_vocabulary_is_told_from_merges_and_other_arrays(tmp_path: Path) -> None:
    keys = rkllm.tiny_keys(100) | {
        "tokenizer.ggml.merges": ["a b"] * 400,
        "general.tags": ["chat", "tiny"],
        "llama.layers": Typed(UINT32, [1] * 900),
    }
    read = looked(tmp_path, rkllm.assemble(keys=keys))
    assert read.directory is not None
    assert read.directory.vocabulary == 100
    keys = {"general.architecture": "llama", "tokenizer.ggml.tokens": ["a"] * 7}
    read = looked(tmp_path / "bare", rkllm.assemble(keys=keys))
    assert read.directory is not None
    assert read.directory.vocabulary == 7


def test_a_vocabulary_of_many_blocks_is_walked_over(tmp_path: Path) -> None:
    keys = {"general.architecture": "llama", "tokens": ["token " * 8] * 20_000, "kinds": Typed(INT32, [1] * 20_000)}
    content = rkllm.assemble(keys=keys)
    assert len(content) > 4 * header.BLOCK
    read = looked(tmp_path, content)
    assert read.directory is not None
    assert read.directory.vocabulary == 20_000
    assert read.toolkit == "1.2.3"


@pytest.mark.parametrize(
    ("end", "trailer", "toolkit"),
    [
        (b"rkllm-toolkit version: 1.1.4", "1.1.4", "1.1.4"),
        (b"rkllm-toolkit version: 1.1.4\n", "1.1.4", "1.1.4"),
        (b"rkllm-toolkit version: 1.2.1b1\0", "1.2.1b1", "1.2.1b1"),
        (b"rkllm-toolkit version: unknown", "unknown", ""),
        (b"rkllm-toolkit version: 1.", "1.", ""),
        (b"rkllm-toolkit version: 1.2.3 and more", None, ""),
        (b"rkllm-toolkit", None, ""),
        (b"", None, ""),
    ],
)
def test_the_end_of_a_file(end: bytes, trailer: str | None, toolkit: str, tmp_path: Path) -> None:
    read = looked(tmp_path, rkllm.assemble(trailer=None) + end)
    assert (read.trailer, read.toolkit) == (trailer, toolkit)


def test_only_the_first_numbers_of_a_file_elsewhere_are_known(tmp_path: Path) -> None:
    rkllm.write(tmp_path / NAME)
    read = header.head(Remote(tmp_path), NAME)
    assert read.known
    assert (read.tensors, read.local, read.directory, read.trailer) == (20, False, None, None)


@pytest.mark.parametrize("size", [0, 1, 4, 31, 32, 33, 100, 5000, 9000])
def test_a_file_that_ends_within_its_directory(size: int, tmp_path: Path) -> None:
    read = looked(tmp_path, rkllm.assemble()[:size])
    assert read.directory is None
    assert read.cut or not read.known


@pytest.mark.parametrize("share", [0.6, 0.75, 0.9, 0.99])
def test_a_file_that_ends_within_its_tensors(share: float, tmp_path: Path) -> None:
    whole = rkllm.assemble(trailer=None)
    read = looked(tmp_path, whole[: int(len(whole) * share)])
    assert read.directory is not None
    assert read.directory.needed > read.size


def test_how_long_the_last_tensor_is_when_no_other_has_its_shape(tmp_path: Path) -> None:
    """By the bytes that numbers of its type take elsewhere; floats by their type."""
    shapes = {"packed": ((40, 40), (60, 50), rkllm.PACKED, 1), "half": ((40, 40), (60, 50), rkllm.F16, 2)}
    for name, (first, last, kind, size) in shapes.items():
        tensors = [
            Tensor("a", first, kind, bytes(first[0] * first[1] * size)),
            Tensor("b", last, kind, bytes(last[0] * last[1] * size)),
        ]
        read = looked(tmp_path / name, rkllm.assemble(tensors=tensors, trailer=None, stand_in=None))
        assert read.directory is not None
        assert read.size * 0.97 < read.directory.needed <= read.size


def numbers(**changes: int) -> bytes:
    """A file of 4 KB whose first numbers are these."""
    said = {"version": 3, "tensors": 1, "keys": 1, "first": 20} | changes
    head = rkllm.MAGIC + struct.pack("<IQQQ", said["version"], said["tensors"], said["keys"], said["first"])
    return head.ljust(4096, b"\0")


@pytest.mark.parametrize("field", ["tensors", "keys", "first"])
@pytest.mark.parametrize("value", [1 << 20, 1 << 32, 1 << 40, (1 << 63) - 1, (1 << 64) - 1])
def test_no_number_of_a_file_is_believed(field: str, value: int, tmp_path: Path) -> None:
    read = looked(tmp_path, numbers(**{field: value}))
    assert not read.known
    assert read.directory is None


HUGE = (1 << 64) - 1


@pytest.mark.parametrize(
    ("value", "trouble"),
    [
        (struct.pack("<IQ", STRING, HUGE), "ends within"),
        (struct.pack("<IIQ", 9, STRING, HUGE), "ends within"),
        (struct.pack("<IIQ", 9, STRING, 1 << 30), "ends within"),
        (struct.pack("<IIQ", 9, 6, HUGE), "ends within"),
        (struct.pack("<IIQ", 9, 9, 2), "type 9"),
        (struct.pack("<I", 99), "type 99"),
        (struct.pack("<IB", 0, 1) + struct.pack("<Q", 0) + struct.pack("<I", 77), "77 dimensions"),
        (struct.pack("<IB", 0, 1) + struct.pack("<QI", 0, 4) + struct.pack("<QQQQIQ", *[HUGE] * 4, 0, 0), "numbers"),
        (struct.pack("<IB", 0, 1) + struct.pack("<Q", 70_000), "70000 characters"),
    ],
)
def test_a_directory_that_cannot_be_walked(value: bytes, trouble: str, tmp_path: Path) -> None:
    content = numbers()[:32] + bytes(20) + value
    tracemalloc.start()
    read = looked(tmp_path, content.ljust(80_000, b"\0"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read.directory is None
    assert trouble in read.trouble
    assert peak < 4 << 20


def test_a_hole_of_a_file_is_not_read_through(tmp_path: Path) -> None:
    """A text may say that it is as long as the file, and a file may be a terabyte of nothing."""
    path = tmp_path / NAME
    with path.open("wb") as file:
        file.write(numbers(keys=2)[:32] + bytes(20) + struct.pack("<IQ", STRING, 1 << 30))
        try:
            file.truncate(1 << 34)
        except OSError:
            pytest.skip("this file system has no room for a large hole")
    read = header.read(FolderFiles(tmp_path), NAME)
    assert "over 256 MiB" in read.trouble


def test_a_file_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    assert looked(tmp_path, rkllm.assemble(trailer="1.1.4")).toolkit == "1.1.4"
    assert looked(tmp_path, rkllm.assemble(trailer="1.2.10")).toolkit == "1.2.10"
