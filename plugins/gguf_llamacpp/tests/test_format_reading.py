"""The header reader: what it keeps, what it passes over, what it refuses, and what that costs."""

from __future__ import annotations

import math
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from anyform.testing.gguf import (
    CHATML,
    F32,
    FLOAT32,
    INT32,
    UINT8,
    UINT16,
    Tensor,
    Typed,
    write_gguf,
    write_llama,
    write_vocab_only,
)
from anyform_gguf_llamacpp import gguf, metadata, network, quantization, vocabulary

SHARED = Path(__file__).parents[4] / "shared" / "gguf-vocab"
VOCABULARIES = sorted(SHARED.glob("*.gguf")) if SHARED.is_dir() else []
SLOWEST_S = 0.05
MOST_BYTES = 20 << 20
ROUNDS = 7


@pytest.fixture
def reference() -> Any:
    """The format's own package; a test may read with it, the plugin never does."""
    return pytest.importorskip("gguf")


def test_reads_keys_and_tensors(tmp_path: Path) -> None:
    keys = {
        "general.architecture": "x",
        "truth": True,
        "small": Typed(UINT8, 7),
        "negative": -3,
        "large": 1 << 40,
        "real": 0.5,
        "numbers": [1, 2, 3],
        "texts": ["ä", ""],
        "nothing": Typed(FLOAT32, []),
    }
    tensors = [Tensor("a", (3, 2), F32, bytes(24)), Tensor("b", (5,), F32, bytes(20))]
    header = gguf.read(write_gguf(tmp_path / "x.gguf", keys, tensors))
    assert header.trouble is None
    assert header.keys == {
        "general.architecture": "x", "truth": True, "small": 7, "negative": -3, "large": 1 << 40, "real": 0.5,
        "numbers": (1, 2, 3), "texts": ("ä", ""), "nothing": (),
    }  # fmt: skip
    assert header.kinds["numbers"] == (gguf.ARRAY, INT32)
    assert [(tensor.name, tensor.shape, tensor.elements, tensor.size, tensor.offset) for tensor in header.tensors] == [
        ("a", (3, 2), 6, 24, 0),
        ("b", (5,), 5, 20, 32),
    ]
    assert header.data_offset % 32 == 0
    assert header.data_offset + 64 == header.size


@pytest.mark.parametrize("version", [2, 3])
def test_reads_both_versions(tmp_path: Path, version: int) -> None:
    header = gguf.read(write_gguf(tmp_path / "x.gguf", {"general.architecture": "x"}, version=version))
    assert (header.version, header.architecture, header.trouble) == (version, "x", None)


def test_vocabulary_is_passed_over(tmp_path: Path) -> None:
    header = gguf.read(write_vocab_only(tmp_path / "x.gguf", tokens=500))
    tokens = header.keys["tokenizer.ggml.tokens"]
    assert isinstance(tokens, gguf.Array)
    assert header.count("tokenizer.ggml.tokens") == tokens.count == 500
    with gguf.mapped(tmp_path / "x.gguf") as buffer:
        texts = list(gguf.strings(buffer, tokens))
    assert texts[:4] == [b"<unk>", b"<s>", b"</s>", b"<0x00>"]
    assert texts[-1].startswith(b"<extra_")


def test_long_texts_and_arrays_are_not_kept(tmp_path: Path) -> None:
    keys = {"long": "x" * (gguf.MAX_TEXT + 1), "many": [0] * (gguf.KEPT_ELEMENTS + 1), "after": 1}
    header = gguf.read(write_gguf(tmp_path / "x.gguf", keys))
    assert header.keys["long"] is None
    assert isinstance(header.keys["many"], gguf.Array)
    assert header.keys["after"] == 1


def test_a_beginning_is_enough_for_its_keys(tmp_path: Path) -> None:
    data = write_llama(tmp_path / "x.gguf").read_bytes()
    header = gguf.parse(data[:400], len(data))
    assert header.architecture == "llama"
    assert header.trouble is not None
    assert header.trouble.code == "gguf.truncated"


def test_every_cut_within_the_header_is_said(tmp_path: Path) -> None:
    data = write_llama(tmp_path / "x.gguf").read_bytes()
    end = gguf.parse(data, len(data)).end
    for cut in range(0, end, 37):
        trouble = gguf.parse(data[:cut], cut).trouble
        assert trouble is not None, cut
        assert trouble.code in ("gguf.truncated", "gguf.length_too_large", "gguf.count_too_large"), cut


def _head(version: int = 3, tensors: int = 0, keys: int = 0, magic: bytes = b"GGUF") -> bytes:
    return magic + struct.pack("<IQQ", version, tensors, keys)


def _key(name: bytes, rest: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name + rest


HUGE = (1 << 64) - 1
BROKEN = {
    "empty": (b"", "truncated"),
    "magic cut": (b"GG", "truncated"),
    "head cut": (_head()[:20], "truncated"),
    "zip": (b"PK\3\4" + bytes(60), "wrong_magic"),
    "version 1": (_head(version=1), "old_version"),
    "version 0": (_head(version=0), "old_version"),
    "big endian": (_head(version=3 << 24), "big_endian"),
    "keys": (_head(keys=HUGE), "count_too_large"),
    "tensors": (_head(tensors=1 << 40), "count_too_large"),
    "tensors over the file": (_head(tensors=50), "count_too_large"),
    "key length": (_head(keys=1) + struct.pack("<Q", HUGE) + bytes(20), "length_too_large"),
    "text length": (_head(keys=1) + _key(b"a", struct.pack("<IQ", 8, 1 << 50)), "length_too_large"),
    "value type": (_head(keys=1) + _key(b"a", struct.pack("<IQ", 99, 0)), "bad_value_type"),
    "array length": (_head(keys=1) + _key(b"a", struct.pack("<IIQ", 9, 5, HUGE)), "length_too_large"),
    "array of strings": (_head(keys=1) + _key(b"a", struct.pack("<IIQ", 9, 8, 1 << 60)), "count_too_large"),
    "string in an array": (_head(keys=1) + _key(b"a", struct.pack("<IIQQ", 9, 8, 1, HUGE)), "length_too_large"),
    "nested array": (_head(keys=1) + _key(b"a", struct.pack("<IIQIQ", 9, 9, 1, 9, 1)), "bad_value_type"),
    "dimensions": (_head(tensors=1) + _key(b"a", struct.pack("<I4Q", 9, 1, 1, 1, 1)), "bad_shape"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_headers_have_their_code(name: str) -> None:
    data, code = BROKEN[name]
    trouble = gguf.parse(data, len(data)).trouble
    assert trouble is not None
    assert trouble.code == f"gguf.{code}"
    assert trouble.text.endswith(".")


def test_what_is_kept_is_bounded() -> None:
    """20,000 keys that are each a kept array would be half a gigabyte of Python numbers."""
    count = 20_000
    numbers = struct.pack("<IIQ", 9, 0, 1000) + bytes(1000)
    data = _head(keys=count) + b"".join(_key(b"%05d" % number, numbers) for number in range(count))
    tracemalloc.start()
    header = gguf.parse(data, len(data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert header.trouble is None
    assert peak < MOST_BYTES
    assert isinstance(header.keys["00000"], tuple)
    assert isinstance(header.keys[f"{count - 1:05}"], gguf.Array)


def test_a_large_vocabulary_is_quick_and_small(tmp_path: Path) -> None:
    """As many tokens as Qwen's, so that the bound is kept in a clone without the real ones."""
    _check_cost(write_vocab_only(tmp_path / "x.gguf", tokens=151_936))


@pytest.mark.skipif(not VOCABULARIES, reason="the real vocabularies are not beside this checkout")
@pytest.mark.parametrize("path", VOCABULARIES, ids=lambda path: path.stem)
def test_real_vocabularies_are_quick_and_small(path: Path) -> None:
    header = _check_cost(path)
    assert header.trouble is None
    assert header.count("tokenizer.ggml.tokens")


def _check_cost(path: Path) -> gguf.Header:
    """The quickest of several rounds counts, in time of this process: the machine may be busy with something else."""
    taken = []
    for _ in range(ROUNDS):
        began = time.process_time()
        gguf.read(path)
        taken.append(time.process_time() - began)
    assert min(taken) < SLOWEST_S
    tracemalloc.start()
    header = gguf.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak + path.stat().st_size < MOST_BYTES
    return header


def test_tensor_types_agree_with_the_formats_package(reference: Any) -> None:
    known = {
        int(kind): (kind.name, *sizes)
        for kind, sizes in reference.GGML_QUANT_SIZES.items()
        if kind.name != "Q8_1"  # the package counts its two halves as floats; ggml.h has 36 bytes
    }
    for number, (name, block, size) in known.items():
        assert quantization.TENSOR_TYPES[number] == (name, block, size)


def test_file_types_agree_with_the_formats_package(reference: Any) -> None:
    stated = {int(kind): kind.name for kind in reference.LlamaFileType if kind.name != "GUESSED"}
    spelt = {number: name.removeprefix("ALL_").removeprefix("MOSTLY_") for number, name in stated.items()}
    ours = {number: "MXFP4_MOE" if name == "MXFP4" else name for number, name in quantization.FILE_TYPES.items()}
    assert {number: ours[number] for number in spelt} == spelt


def test_keys_agree_with_the_formats_package(reference: Any) -> None:
    known = set(_texts(reference.Keys))
    ours = {f"{{arch}}.{key}" for key in (*network.TYPES, *metadata.SHAPE.values())}
    ours |= {f"tokenizer.ggml.{key}" for key in (*metadata.SPECIAL_TOKENS.values(), *metadata.OLD_FIM.values())}
    ours |= set(metadata.GENERAL.values())
    ours |= {vocabulary.PREFIX + key for key in vocabulary.TYPES}
    newer_than_the_package = {"tokenizer.ggml.suppress_tokens"}
    assert ours - known <= newer_than_the_package


def test_value_types_agree_with_the_formats_package(reference: Any) -> None:
    assert [kind.name.lower() for kind in sorted(reference.GGUFValueType)] == list(gguf.KIND_NAMES)
    assert {member.name.lower(): int(member) for member in reference.PoolingType} == {
        name: number for number, name in enumerate(metadata.POOLINGS)
    }


def _texts(group: Any) -> list[str]:
    found: list[str] = []
    for name, value in vars(group).items():
        if isinstance(value, str) and not name.startswith("_"):
            found.append(value)
        elif isinstance(value, type):
            found += _texts(value)
    return found


def test_reads_what_the_formats_package_writes(tmp_path: Path, reference: Any) -> None:
    np = pytest.importorskip("numpy")
    writer = reference.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_context_length(77)
    writer.add_head_count([4, 2])
    writer.add_token_list(["a", "b"])
    writer.add_chat_template(CHATML)
    writer.add_custom_alignment(64)
    writer.add_tensor("a.weight", np.ones((3, 32), dtype=np.float32), raw_dtype=reference.GGMLQuantizationType.F32)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    header = gguf.read(tmp_path / "x.gguf")
    assert header.trouble is None
    assert header.integer("llama.context_length") == 77
    assert header.keys["llama.attention.head_count"] == (4, 2)
    assert metadata.chat_template(header) == CHATML
    assert header.alignment == 64
    assert header.tensors[0].shape == (32, 3)
    assert header.data_offset + math.prod((32, 3)) * 4 == header.size


def test_the_package_reads_what_our_writer_writes(tmp_path: Path, reference: Any) -> None:
    path = write_llama(tmp_path / "x.gguf", quantization="Q8_0", extra={"split.no": Typed(UINT16, 0)})
    read = reference.GGUFReader(path)
    header = gguf.read(path)
    fields = {name: field.contents() for name, field in read.fields.items() if not name.startswith("GGUF.")}
    assert set(fields) == set(header.keys)
    for name, value in header.keys.items():
        if not isinstance(value, gguf.Array):
            assert fields[name] == value
    assert [
        (
            tensor.name,
            tuple(map(int, tensor.shape)),
            int(tensor.tensor_type),
            int(tensor.n_bytes),
            int(tensor.data_offset),
        )
        for tensor in read.tensors
    ] == [
        (tensor.name, tensor.shape, tensor.kind, tensor.size, header.data_offset + tensor.offset)
        for tensor in header.tensors
    ]


@pytest.mark.parametrize(
    ("stem", "name", "quantized"),
    [
        ("qwen2.5-0.5b-instruct-q4_k_m", "qwen2.5-0.5b-instruct", "Q4_K_M"),
        ("Llama-3.2-1B-Instruct.Q8_0", "Llama-3.2-1B-Instruct", "Q8_0"),
        ("gemma-3-4b-it-UD-Q4_K_XL", "gemma-3-4b-it", "UD-Q4_K_XL"),
        ("gpt-oss-20b-mxfp4", "gpt-oss-20b", "MXFP4"),
        ("model-fp16", "model", "F16"),
        ("ggml-model-bf16", "ggml-model", "BF16"),
        ("Q8_0", "", "Q8_0"),
        ("x-IQ2_XXS", "x", "IQ2_XXS"),
        ("x-Q4_0_4_8", "x", "Q4_0_4_8"),
        ("mistral-7b-v0.1", "mistral-7b-v0.1", ""),
        ("FAQ4_0ther", "FAQ4_0ther", ""),
        ("stories260K-F16", "stories260K", "F16"),
    ],
)
def test_quantization_in_a_name(stem: str, name: str, quantized: str) -> None:
    assert quantization.split_name(stem) == (name, quantized)


@pytest.mark.parametrize(
    ("file_type", "tensors", "agree"),
    [
        ("Q4_K_M", "Q4_K", True),
        ("Q3_K_L", "Q5_K", True),
        ("Q4_K_M", "Q5_0", True),
        ("Q4_K_M", "Q8_0", False),
        ("Q8_0", "Q4_K", False),
        ("F16", "BF16", False),
        ("F16", "Q8_0", False),
        ("Q8_0", "F16", False),
        ("MXFP4", "MXFP4", True),
        ("", "F16", True),
    ],
)
def test_file_type_and_tensors(file_type: str, tensors: str, agree: bool) -> None:
    assert quantization.agrees(file_type, tensors) is agree
