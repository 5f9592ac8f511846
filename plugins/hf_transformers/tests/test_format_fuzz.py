"""Damaged bytes and damaged meanings: nothing may raise, hang or fill memory, and facts must cross the wire."""

from __future__ import annotations

import json
import random
import shutil
import struct
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Severity
from anyform.kernel.files import FolderFiles
from anyform.pretrained import safetensors
from anyform.testing.damage import distorted
from anyform.testing.safetensors import CHATML, write_adapter, write_bert, write_llama
from anyform.workers.wire import Decoder, pack
from anyform_hf_transformers import plugin

SEED = 20_241
FILES = 1000
SLOWEST_S = 2.0
MOST_BYTES = 64 << 20
NUMBERS = (
    0,
    1,
    -1,
    2,
    3,
    7,
    8,
    16,
    24,
    63,
    64,
    65,
    255,
    256,
    1 << 31,
    1 << 32,
    (1 << 63) - 1,
    1 << 63,
    1 << 64,
    10**30,
    10**400,
)
VALUES: tuple[Any, ...] = (
    *NUMBERS, None, True, False, 1.5, -0.0, 1e308, "", "F32", "F16", "bert", "llama", "x" * 300, "\ud800", "a\0b",
    "../../etc/passwd", [], [1], [None], ["LlamaForCausalLM"], ["\udfff"], {}, {"0": "a"}, {"a": {"b": {"c": 1}}},
    [[[[1]]]],
)  # fmt: skip
PIECES = (b"9" * 30, b"[" * 50, b'"', b"}", b"cos\nsystem\n")
TEXTS = (b"", b"{}", b"[]", b"null", b"{", b'{"a":', b"\xff", b"\0" * 9, b"[" * 9999, b"1e999", b'"\\ud800"', b"NaN")


def models(folder: Path) -> list[Path]:
    write_llama(folder / "chat", template=CHATML)
    write_llama(folder / "sharded", shards=2, auto_map={"AutoModel": "m.M"}, rope_scaling={"rope_type": "yarn"})
    write_llama(folder / "pickled", pickled=True)
    write_bert(folder / "embedding", pooling="mean")
    write_bert(folder / "classifier", labels=["entailment", "neutral"])
    write_adapter(folder / "adapter")
    return sorted(folder.iterdir())


def damage(chance: random.Random, data: bytes) -> bytes:
    """Flip, overwrite, cut, drop and insert bytes, mostly at the beginning, where headers are."""
    result = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3))):
        if len(result) < 8:
            break
        reach = min(len(result) - 8, chance.choice((8, 300, 2000, len(result)))) + 1
        place = chance.randrange(reach)
        match chance.randrange(6):
            case 0 | 1:
                result[place] ^= 1 << chance.randrange(8)
            case 2:
                result[place : place + 8] = struct.pack("<Q", chance.choice(NUMBERS) % (1 << 64))
            case 3:
                del result[chance.randrange(len(result)) :]
            case 4:
                del result[place : place + chance.randrange(1, 16)]
            case _:
                result[place:place] = chance.choice((chance.randbytes(5), *PIECES))
    return bytes(result)


def bad_copies(folder: Path, count: int, seed: int) -> Iterator[Path]:
    """One folder at a time, which has one damaged file; half of them in bytes, half in meaning."""
    chance = random.Random(seed)
    sound, copy = models(folder / "sound"), folder / "copy"
    for number in range(count):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(chance.choice(sound), copy)
        path = chance.choice(sorted(path for path in copy.rglob("*") if path.is_file()))
        if number % 2 and path.suffix == ".json":
            path.write_text(json.dumps(distorted(chance, json.loads(path.read_text()), VALUES)))
        elif number % 2 and path.suffix == ".safetensors":
            data = path.read_bytes()
            end = 8 + struct.unpack("<Q", data[:8])[0]
            header = json.dumps(distorted(chance, json.loads(data[8:end]), VALUES)).encode()
            path.write_bytes(struct.pack("<Q", len(header)) + header + data[end:])
        else:
            path.write_bytes(chance.choice(TEXTS) if chance.random() < 0.1 else damage(chance, path.read_bytes()))
        yield copy


def sound(folder: Path) -> bool:
    """Whether validation lets a folder through. Nothing may raise, take long or be unfit for the wire."""
    began = time.perf_counter()
    files = FolderFiles(folder)
    passed = False
    for match in plugin.detect_format(files):
        found = plugin.validate(files, match)
        for fact in (match, plugin.extract_metadata(files, match), *found):
            assert Decoder().feed(pack(fact)) == [fact]
        passed |= all(finding.severity is not Severity.CRITICAL for finding in found)
    assert time.perf_counter() - began < SLOWEST_S
    return passed


def test_damaged_folders_raise_nothing(tmp_path: Path) -> None:
    passed = sum(map(sound, bad_copies(tmp_path, FILES, SEED)))
    # Neither all nor nothing: much of the damage is to numbers of weights, and to words that nothing depends on.
    assert FILES // 20 < passed < FILES * 3 // 4


def test_damaged_folders_take_little_memory(tmp_path: Path) -> None:
    copies = bad_copies(tmp_path, 100, SEED + 1)
    next(copies)
    tracemalloc.start()
    for folder in copies:
        sound(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST_BYTES


@pytest.mark.parametrize(
    ("start", "piece", "end"),
    [
        (b'{"a":[', b"[],", b"0]}"),
        (b'{"a":[', b"{},", b"0]}"),
        (b'{"a":{"shape":[', b"0,", b"0]}}"),
        (b'{"__metadata__":{', b'"a":"",', b'"a":""}}'),
        (b"{", b'"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},', b'"b":0}'),
    ],
)
def test_a_header_made_to_fill_memory_does_not(tmp_path: Path, start: bytes, piece: bytes, end: bytes) -> None:
    """A header of the most that is read."""
    header = start + piece * ((safetensors.READ_HEADER_BYTES - 100) // len(piece)) + end
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    files = FolderFiles(path)
    tracemalloc.start()
    found = safetensors.header(files, path.name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.troubles or not found.tensors
    assert peak < 2 * MOST_BYTES
