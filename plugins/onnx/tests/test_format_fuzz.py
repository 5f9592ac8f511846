"""Damaged graphs and folders: no hook may raise or fill memory, and facts must cross the wire."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Settings, Severity
from anyform.kernel.files import FolderFiles
from anyform.testing.damage import NUMBERS, distorted, scrambled
from anyform.testing.onnx import block, number, text, varint
from anyform.testing.onnxdecoder import write_decoder
from anyform.testing.onnxencoder import write_encoder
from anyform.testing.onnxform import write_beside, write_export, write_form, write_genai, write_graph
from anyform.workers.wire import Decoder, pack
from anyform_onnx import plugin
from anyform_onnx.info import BACKENDS

SEED = 80_312
GRAPHS, FOLDERS = 1000, 300
MOST_BYTES = 64 << 20
VALUES: tuple[Any, ...] = (
    *NUMBERS, -1, 10**30, 10**400, None, True, False, 1.5, 1e308, "", "llama", "x" * 300, "\ud800", "a\0b",
    "../../etc/passwd", "model.onnx", "%d%d%s", [], [1], [None], ["\udfff"], ["LlamaForCausalLM"], {}, {"a": {"b": 1}},
    [[[[1]]]], {"filename": "model.onnx"}, {"file": "decode.onnx"},
)  # fmt: skip
TEXTS = (b"", b"{}", b"[]", b"null", b"{", b"\xff", b"\0" * 9, b"[" * 9999, b"1e999", b'"\\ud800"', b"NaN", b"<html>")
PIECES = (
    b"\xff" * 12, b"\x80" * 12, b"\x08\x08", number(1, 1 << 40), number(8, 99), block(7, b""), block(8, text(1, "x.y")),
    block(5, number(2, 77)), varint((1 << 64) - 1), block(25, block(7, block(5, b"")) + text(1, "a.b")), b"past_key",
    block(11, text(1, "input_ids") + block(2, block(1, number(1, 999)))), b"input_ids", b"\0" * 9,
)  # fmt: skip
"""Fields of other places, and what is none."""


def models(folder: Path) -> list[Path]:
    """One of each layout, small, so that it is quickly written."""
    write_decoder(folder / "decoder", num_hidden_layers=1)
    write_decoder(folder / "genai", layout="onnx_genai", num_hidden_layers=1)
    write_encoder(folder / "encoder", pooling="mean", external=True, num_hidden_layers=1)
    write_form(folder / "picture", "image_classifier", "onnx/model.onnx", "onnx/model_fp16.onnx")
    write_export(folder / "export")
    write_genai(folder / "seen", "phi3v")
    write_beside(folder / "clip", "clip")
    write_graph(folder / "clip/onnx/text_model.onnx", "clip_text")
    write_graph(folder / "clip/onnx/vision_model.onnx", "clip_vision")
    write_graph(folder / "zoo/resnet.onnx", "zoo")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return models(tmp_path_factory.mktemp("sound"))


def damaged(sound: list[Path], count: int, seed: int, suffix: str) -> Iterator[tuple[Path, bytes]]:
    """One folder at a time, with one file of *suffix* damaged; and what is in that file."""
    chance = random.Random(seed)
    for turn in range(count):
        folder = chance.choice(sound)
        there = sorted(path for path in folder.rglob(f"*{suffix}") if path.name != "tokenizer.json")
        if not there:
            continue
        path = chance.choice(there)
        original = path.read_bytes()
        changed = scrambled(chance, original, PIECES)
        if suffix == ".json" and turn % 2:
            changed = json.dumps(distorted(chance, json.loads(original), VALUES)).encode()
        elif chance.random() < 0.05:
            changed = chance.choice(TEXTS)
        path.write_bytes(changed)
        try:
            yield folder, changed
        finally:
            path.write_bytes(original)


def let_through(folder: Path) -> bool | None:
    """Whether validation lets one model through; None: there is none. Nothing may raise or be unfit for the wire."""
    files = FolderFiles(folder)
    passed: bool | None = None
    for match in plugin.detect_format(files):
        found, metadata = plugin.validate(files, match), plugin.extract_metadata(files, match)
        readers = [one for one in BACKENDS if match.format in (*one.reads, *one.converts)]
        estimates = [plugin.estimate_memory(backend, metadata, Settings(context=64)) for backend in readers]
        for fact in (match, metadata, *found, *estimates):
            assert Decoder().feed(pack(fact)) == [fact]
        assert all(estimate.at(Settings(context=64)) >= 0 for estimate in estimates)
        passed = bool(passed) or all(finding.severity is not Severity.CRITICAL for finding in found)
    return passed


def judged(sound: list[Path], count: int, seed: int, suffix: str) -> list[bool | None]:
    return [let_through(folder) for folder, _ in damaged(sound, count, seed, suffix)]


def test_a_thousand_damaged_graphs_raise_nothing(sound: list[Path]) -> None:
    found = judged(sound, GRAPHS, SEED, ".onnx")
    # Some damage is to the numbers of weights, and to names that mean nothing.
    assert found.count(False) > GRAPHS // 3
    assert found.count(True) > GRAPHS // 20
    assert found.count(None) < GRAPHS // 5


def test_damaged_json_raises_nothing(sound: list[Path]) -> None:
    found = judged(sound, FOLDERS, SEED + 1, ".json")
    assert found.count(False) > FOLDERS // 10
    assert found.count(True) > FOLDERS // 10


def test_external_data_is_refused_where_it_is_short_and_only_there(sound: list[Path]) -> None:
    whole = {path: path.stat().st_size for folder in sound for path in folder.rglob("*data")}
    seen: set[bool] = set()
    for folder, _ in damaged(sound, 60, SEED + 2, "data"):
        full = all(path.stat().st_size >= size for path, size in whole.items())
        assert let_through(folder) is full
        seen.add(full)
    assert seen == {True, False}


def test_damaged_graphs_take_little_memory(sound: list[Path]) -> None:
    copies = damaged(sound, 40, SEED + 3, ".onnx")
    next(copies)
    tracemalloc.start()
    for folder, _ in copies:
        let_through(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST_BYTES


def test_nothing_is_left_damaged(sound: list[Path]) -> None:
    for _ in damaged(sound, 20, SEED + 4, ".onnx"):
        pass
    assert [let_through(folder) for folder in sound] == [folder.name not in ("seen", "zoo") for folder in sound]
