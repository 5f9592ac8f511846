"""Damaged bytes and damaged meanings: nothing may raise, hang or fill memory, and facts must cross the wire."""

from __future__ import annotations

import json
import random
import struct
import tracemalloc
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from anyform.contract.facts import ModelFiles, Severity
from anyform.kernel.files import FolderFiles
from anyform.testing import painting
from anyform.testing.damage import NUMBERS, distorted, scrambled
from anyform.workers.wire import Decoder, pack
from anyform_diffusers import plugin

SEED = 90_911
COPIES = 1000
MOST_BYTES = 64 << 20
PIECES = (b"9" * 30, b"[" * 50, b'"', b"}", b"null", b"../")
VALUES: tuple[Any, ...] = (
    *NUMBERS, -1, 10**30, None, True, False, 1.5, 1e308, "", "F32", "unet", "x" * 300, "\ud800", "a\0b",
    "../../etc/passwd", [], [1], [None], [None, None], ["diffusers", "UNet2DConditionModel"], ["os", "system"],
    ["a", "b", "c"], ["\udfff", "\udfff"], {}, {"0": "a"}, {"a": {"b": 1}}, [[[[1]]]], "StableDiffusionXLPipeline",
)  # fmt: skip


def samples(folder: Path) -> list[Path]:
    painting.write_pipeline(folder / "sd", variants=("", "fp16"))
    painting.write_pipeline(folder / "flux", "flux", shards=2)
    painting.write_pipeline(folder / "pickled", "sdxl", pickled=("unet",))
    small = painting.Unet((8, 16), (True, False), (1, 1), 16)
    shapes = {f"{painting.CORE}{name}": shape for name, shape in painting.unet_shapes(small).items()}
    painting.write_hollow(
        folder / "single/m.safetensors", shapes | {"first_stage_model.decoder.conv_in.weight": (8, 4, 3, 3)}
    )
    painting.write_lora(folder / "lora/a.safetensors", "sd", "kohya", ss_network_alpha="4")
    return sorted(folder.iterdir())


class Held:
    """`ModelFiles` in memory, so that a thousand damaged ones cost no disk."""

    def __init__(self, path: Path, content: Mapping[str, bytes]) -> None:
        self.path, self._content = path, content

    @cached_property
    def files(self) -> Mapping[str, int]:
        return {name: len(data) for name, data in sorted(self._content.items())}

    def head(self, name: str, size: int = 4096) -> bytes:
        return self._content.get(name, b"")[:size]

    def json(self, name: str) -> Mapping[str, Any]:
        try:
            said = json.loads(self._content.get(name, b""))
        except (ValueError, RecursionError):
            return {}
        return said if isinstance(said, dict) else {}


def damaged(folder: Path, count: int, seed: int) -> Iterator[Held]:
    """One model at a time with one damaged file; half in bytes, half in meaning."""
    chance = random.Random(seed)
    sound = [
        (sample, {str(path.relative_to(sample)): path.read_bytes() for path in sample.rglob("*") if path.is_file()})
        for sample in samples(folder)
    ]
    for number in range(count):
        sample, content = chance.choice(sound)
        name = chance.choice(sorted(content))
        wrong = _wrong(chance, Path(name), content[name], number % 2 == 1)
        yield Held(sample / "elsewhere", {**content, name: wrong})


def _wrong(chance: random.Random, path: Path, whole: bytes, meaning: bool) -> bytes:
    if meaning and path.suffix == ".json":
        return json.dumps(distorted(chance, json.loads(whole), VALUES)).encode()
    if meaning and path.suffix == ".safetensors":
        end = 8 + struct.unpack("<Q", whole[:8])[0]
        header = json.dumps(distorted(chance, json.loads(whole[8:end]), VALUES)).encode()
        return struct.pack("<Q", len(header)) + header + whole[end:]
    return scrambled(chance, whole, PIECES)


def sound(files: ModelFiles) -> bool:
    """Whether validation lets a model through. Nothing may raise or be unfit for the wire."""
    passed = False
    for match in plugin.detect_format(files):
        found = plugin.validate(files, match)
        for fact in (match, plugin.extract_metadata(files, match), *found):
            assert Decoder().feed(pack(fact)) == [fact]
        passed |= all(finding.severity is not Severity.CRITICAL for finding in found)
    return passed


def test_damaged_folders_raise_nothing(tmp_path: Path) -> None:
    passed = sum(map(sound, damaged(tmp_path, COPIES, SEED)))
    # Neither all nor nothing: much of the damage is to words that nothing depends on.
    assert COPIES // 20 < passed < COPIES * 3 // 4


def test_damaged_folders_take_little_memory(tmp_path: Path) -> None:
    copies = damaged(tmp_path, 100, SEED + 1)
    next(copies)
    tracemalloc.start()
    for files in copies:
        sound(files)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST_BYTES


def test_metadata_of_any_configuration(tmp_path: Path) -> None:
    """Each value at each place of a part's configuration: also of those that no finding speaks of."""
    painting.write_pipeline(tmp_path)
    path = tmp_path / "unet/config.json"
    whole = json.loads(path.read_text())
    for key in whole:
        for value in VALUES:
            path.write_text(json.dumps({**whole, key: value}))
            sound(FolderFiles(tmp_path))
