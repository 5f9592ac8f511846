"""Damaged Whispers: nothing may raise, take long or fill memory, and facts must cross the wire."""

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

from anyform.contract.facts import Settings, Severity
from anyform.kernel.files import FolderFiles
from anyform.testing.ctranslate2 import write_ct2_whisper
from anyform.testing.damage import distorted
from anyform.testing.safetensors import write_sharded
from anyform.testing.whisper import tensors, vocabulary, write_whisper
from anyform.workers.wire import Decoder, pack
from anyform_audio.hearing import binary, form, safetensors
from anyform_audio.hearing.vocabulary import MOST_TOKENS, READ_BYTES
from anyform_audio.hearing.vocabulary import vocabulary as read_vocabulary

SEED = 41_003
FOLDERS = 1000
SLOWEST_S = 2.0
MOST_BYTES = 64 << 20
NUMBERS = (0, 1, 2, 3, 7, 16, 80, 128, 255, 256, 1500, 65_535, 1 << 31, (1 << 32) - 1)
VALUES: tuple[Any, ...] = (
    *NUMBERS, -1, 10**30, None, True, False, 1.5, 1e308, "", "whisper", "x" * 300, "\ud800", "a\0b", "../../etc/passwd",
    [], [1], [[1]], [[-1, 10**9]], [None], ["WhisperForConditionalGeneration"], ["\udfff"], {}, {"<|en|>": 1},
    {"<|de|>": "a", "x": {"y": []}}, [[[[1]]]],
)  # fmt: skip
TEXTS = (b"", b"{}", b"[]", b"null", b"{", b'{"a":', b"\xff", b"\0" * 9, b"[" * 9999, b"1e999", b'["\\ud800"]', b"NaN")
HEADS = 9000
"""Bytes at the beginning of model.bin in which names, shapes and sizes are dense enough to be hit."""


def models(folder: Path) -> list[Path]:
    write_ct2_whisper(folder / "several")
    write_ct2_whisper(folder / "english", english=True, quantization="int8", positions=64)
    write_whisper(folder / "transformers")
    write_whisper(folder / "sharded")
    (folder / "sharded" / "model.safetensors").unlink()
    write_sharded(folder / "sharded", tensors(len(vocabulary(False))), 2)
    return sorted(folder.iterdir())


def damage(chance: random.Random, data: bytes, reach: int) -> bytes:
    """Flip, overwrite, cut, drop and insert bytes within the first *reach*."""
    result = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3))):
        if len(result) < 8:
            break
        place = chance.randrange(min(reach, len(result) - 7))
        match chance.randrange(6):
            case 0 | 1:
                result[place] ^= 1 << chance.randrange(8)
            case 2:
                result[place : place + 4] = struct.pack("<I", chance.choice(NUMBERS))
            case 3:
                del result[chance.randrange(len(result)) :]
            case 4:
                del result[place : place + chance.randrange(1, 16)]
            case _:
                result[place:place] = chance.choice((chance.randbytes(5), b"9" * 30, b"[" * 50, b'"'))
    return bytes(result)


def harmed(chance: random.Random, data: bytes) -> bytes:
    """A model.bin with damage in the description of some variable."""
    place = chance.choice([0, *(at for at in range(0, len(data), 97) if data[at : at + 600].find(b"coder/") >= 0)])
    return data[:place] + damage(chance, data[place:], 600)


def bad_copies(folder: Path, count: int, seed: int) -> Iterator[Path]:
    """One folder at a time, which has one damaged file; half of the JSON in meaning."""
    chance = random.Random(seed)
    sound, copy = models(folder / "sound"), folder / "copy"
    for number in range(count):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(chance.choice(sound), copy)
        path = chance.choice(sorted(path for path in copy.iterdir() if path.name != "tokenizer_config.json"))
        data = path.read_bytes()
        if number % 2 and path.suffix == ".json":
            path.write_text(json.dumps(distorted(chance, json.loads(data), VALUES, 5)))
        elif number % 2 and path.suffix == ".safetensors":
            end = 8 + struct.unpack("<Q", data[:8])[0]
            header = json.dumps(distorted(chance, json.loads(data[8:end]), VALUES, 5)).encode()
            path.write_bytes(struct.pack("<Q", len(header)) + header + data[end:])
        elif chance.random() < 0.1:
            path.write_bytes(chance.choice(TEXTS))
        else:
            path.write_bytes(harmed(chance, data) if path.suffix == ".bin" else damage(chance, data, HEADS))
        yield copy


def sound(folder: Path) -> bool:
    """Whether validation lets a folder through. Nothing may raise, take long or be unfit for the wire."""
    began = time.perf_counter()
    files = FolderFiles(folder)
    passed = False
    for match in form.detect(files):
        found, facts = form.validate(files, match), form.extract(files, match)
        for fact in (match, facts, *found, form.estimate(facts, Settings())):
            assert Decoder().feed(pack(fact)) == [fact]
        passed |= all(finding.severity is not Severity.CRITICAL for finding in found)
    assert time.perf_counter() - began < SLOWEST_S
    return passed


def test_damaged_folders_raise_nothing(tmp_path: Path) -> None:
    passed = sum(map(sound, bad_copies(tmp_path, FOLDERS, SEED)))
    # Neither all nor nothing: some of the damage is to numbers of weights, and to words that nothing depends on.
    assert FOLDERS // 20 < passed < FOLDERS * 3 // 4


def test_damaged_folders_take_little_memory(tmp_path: Path) -> None:
    copies = bad_copies(tmp_path, 60, SEED + 1)
    next(copies)
    peak = 0
    for folder in copies:
        tracemalloc.start()
        sound(folder)
        peak = max(peak, tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peak < MOST_BYTES


def test_a_description_made_to_fill_memory_does_not(tmp_path: Path) -> None:
    """Variables without numbers and with the longest names, as many as are allowed."""
    count = binary.MOST_VARIABLES
    names = (f"{number:0{binary.MOST_NAME - 1}}".encode() + b"\0" for number in range(count))
    start = struct.pack("<IH", 6, 12) + b"WhisperSpec\0" + struct.pack("<II", 3, count)
    empty = struct.pack("<BIBI", 1, 0, 0, 0)
    path = tmp_path / "model.bin"
    path.write_bytes(start + b"".join(struct.pack("<H", len(name)) + name + empty for name in names) + bytes(4))
    tracemalloc.start()
    found = binary.binary(FolderFiles(path), path.name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.read
    assert peak < MOST_BYTES


@pytest.mark.parametrize("piece", [b"[],", b"{},", b'"a",', b'"",', b'{"a":[]},'])
def test_a_list_of_tokens_made_to_fill_memory_does_not(tmp_path: Path, piece: bytes) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_bytes(b"[" + piece * ((READ_BYTES - 10) // len(piece)) + b'"a"]')
    files = FolderFiles(path)
    tracemalloc.start()
    found = read_vocabulary(files, path.name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.trouble
    assert found.count <= MOST_TOKENS + 1
    assert peak < MOST_BYTES


@pytest.mark.parametrize("piece", [b'"a":{},', b'"a":[[],[],[]],', b'"a":{"shape":[0,0,0,0],"dtype":"F32"},'])
def test_a_header_made_to_fill_memory_does_not(tmp_path: Path, piece: bytes) -> None:
    header = b"{" + piece * ((safetensors.READ_BYTES - 20) // len(piece)) + b'"b":0}'
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    files = FolderFiles(path)
    tracemalloc.start()
    found = safetensors.header(files, path.name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.troubles
    assert peak < MOST_BYTES
