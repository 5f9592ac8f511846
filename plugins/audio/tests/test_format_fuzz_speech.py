"""Damaged Kokoros and Pipers: nothing may raise or fill memory, and facts must cross the wire."""

from __future__ import annotations

import json
import random
import shutil
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from anyform.contract.facts import Settings, Severity
from anyform.kernel.files import FolderFiles
from anyform.testing.damage import NUMBERS, distorted, scrambled
from anyform.testing.kokoro import ROWS, WIDTH, npy, speaker, write_kokoro
from anyform.testing.onnx import write_onnx
from anyform.testing.piper import write_piper
from anyform.workers.wire import Decoder, pack
from anyform_audio import plugin
from anyform_audio.info import BACKENDS

SEED = 20_262
FOLDERS = 1000
MOST_BYTES = 64 << 20
VALUES: tuple[Any, ...] = (
    *NUMBERS, -1, 10**30, None, True, False, 1.5, 1e308, "", "espeak", "x" * 300, "\ud800", "a\0b", "../../etc/passwd",
    [], [1], [None], ["\udfff"], {}, {"a": {"b": 1}}, [[[[1]]]],
)  # fmt: skip
PIECES = (
    b"\xff" * 12,
    b"\x80" * 12,
    b"PK\x03\x04",
    b"PK\x05\x06" + bytes(18),
    b"\x93NUMPY",
    b"'descr': '|O'",
    b"}" * 9,
)
TEXTS = (b"", b"{}", b"[]", b"null", b"{", b"\xff", b"\0" * 9, b"[" * 9999, b"1e999", b'"\\ud800"', b"PK\x03\x04")


def models(folder: Path) -> list[Path]:
    """Small voices, so that copies are cheap."""
    write_kokoro(folder / "archive", voices=("af_heart",))
    write_kokoro(folder / "community", voices=("af_heart",), layout="folder", variants=("", "fp16"))
    write_kokoro(folder / "external", voices=("bm_george",))
    graph = speaker("tokens", "audio", True, False)
    write_onnx(folder / "external/kokoro-v1.0.onnx", graph, external="kokoro-v1.0.onnx_data")
    write_piper(folder / "one")
    write_piper(folder / "three", speakers=3)
    torch = folder / "torch"
    torch.mkdir()
    (torch / "config.json").write_text('{"istftnet": {"a": 1}, "plbert": {"b": 2}, "vocab": {"c": 3}}')
    (torch / "kokoro-v1_0.pth").write_bytes(b"PK\x03\x04" + npy("<f4", (1, WIDTH), bytes(WIDTH * 4)) * (ROWS // 100))
    return sorted(folder.iterdir())


def bad_copies(folder: Path, count: int, seed: int) -> Iterator[Path]:
    """One folder at a time, which has one damaged file, or lacks one."""
    chance = random.Random(seed)
    sound, copy = models(folder / "sound"), folder / "copy"
    for number in range(count):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(chance.choice(sound), copy)
        path = chance.choice(sorted(path for path in copy.rglob("*") if path.is_file()))
        if number % 20 == 0:
            path.unlink()
        elif number % 2 and path.suffix == ".json":
            path.write_text(json.dumps(distorted(chance, json.loads(path.read_text()), VALUES)))
        else:
            path.write_bytes(
                chance.choice(TEXTS) if chance.random() < 0.1 else scrambled(chance, path.read_bytes(), PIECES)
            )
        yield copy


def sound(folder: Path) -> bool:
    """Whether validation lets a folder through. Nothing may raise or be unfit for the wire."""
    files = FolderFiles(folder)
    passed = False
    for match in plugin.detect_format(files):
        found, metadata = plugin.validate(files, match), plugin.extract_metadata(files, match)
        readers = [backend for backend in BACKENDS if match.format in backend.reads]
        estimates = [plugin.estimate_memory(backend, metadata, Settings()) for backend in readers]
        for fact in (match, metadata, *found, *estimates):
            assert Decoder().feed(pack(fact)) == [fact]
        passed |= all(finding.severity is not Severity.CRITICAL for finding in found)
    return passed


def test_damaged_folders_raise_nothing(tmp_path: Path) -> None:
    passed = sum(map(sound, bad_copies(tmp_path, FOLDERS, SEED)))
    # Neither all nor nothing: much of the damage is to numbers of weights and styles, and to words without meaning.
    assert FOLDERS // 20 < passed < FOLDERS * 3 // 4


def test_damaged_folders_take_little_memory(tmp_path: Path) -> None:
    copies = bad_copies(tmp_path, 100, SEED + 1)
    next(copies)
    tracemalloc.start()
    for folder in copies:
        sound(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST_BYTES
