"""Files that a detector must survive: strangers to every plugin, and damaged copies of a plugin's own samples."""

from __future__ import annotations

import random
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from anyform.kernel.files import FolderFiles

SIZES = (1, 7, 64, 4096, 70_000)
"""Bytes of random files."""
CUTS = (0.1, 0.5, 0.9)
"""How much of a file a truncated copy keeps."""

NUMBERS = (0, 1, 2, 7, 127, 128, 255, 256, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
"""Where arithmetic goes wrong."""

Damage = Callable[[bytes], Iterable[tuple[str, bytes]]]
"""Content -> (what was done, new content)."""


def write_strangers(folder: Path) -> None:
    """A folder of ordinary files that hold no model of any form."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(0)
    strangers = {
        "README.md": b"# Notes\n\nNo model lies here.\n",
        "config.json": b'{"editor": "vi", "width": 80}',
        "data.json": b"[1, 2, 3]",
        "table.csv": b"a,b\n1,2\n",
        "photo.png": b"\x89PNG\r\n\x1a\n" + chance.randbytes(500),
        "archive.zip": b"PK\x03\x04" + chance.randbytes(500),
        "noise.bin": chance.randbytes(9000),
        "weights.dat": struct.pack("<256f", *(chance.gauss(0, 1) for _ in range(256))),
        "empty": b"",
        "deep/er/notes.txt": "grüße\n".encode("utf-16"),
        "name with spaces and ünïcode.txt": b"x",
    }
    for name, content in strangers.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def emptied(content: bytes) -> Iterator[tuple[str, bytes]]:
    yield "emptied", b""


def randomised(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The file's place taken by random bytes, and by its own first bytes followed by random ones."""
    for size in SIZES:
        chance = random.Random(size)
        yield f"replaced by {size} random bytes", chance.randbytes(size)
        yield f"given {size} random bytes after its first 16", content[:16] + chance.randbytes(size)


def truncated(content: bytes) -> Iterator[tuple[str, bytes]]:
    for cut in CUTS:
        yield f"cut to {cut:.0%}", content[: int(len(content) * cut)]


def damaged(sample: Path, names: Iterable[str], to: Path, damage: Damage) -> Iterator[tuple[str, Path]]:
    """(what was done, folder) for each damaged copy of the model in *sample*: one of *names* at a time."""
    for name in names:
        original = (sample / name).read_bytes()
        for what, content in damage(original):
            if content == original:
                continue
            if to.exists():
                shutil.rmtree(to)
            shutil.copytree(sample, to)
            (to / name).write_bytes(content)
            yield f"{name} {what}", to


class Remote:
    """A model's files as a remote listing gives them: no folder on this disk."""

    def __init__(self, folder: Path) -> None:
        self._local = FolderFiles(folder)

    @property
    def path(self) -> NoReturn:
        raise AssertionError(
            "detect_format read files.path, which a remote listing does not have. Use head() and json()."
        )

    @property
    def files(self) -> Mapping[str, int]:
        return self._local.files

    def head(self, name: str, size: int = 4096) -> bytes:
        return self._local.head(name, size)

    def json(self, name: str) -> Mapping[str, Any]:
        return self._local.json(name)


def distorted(chance: random.Random, content: Any, values: Sequence[Any], depth: int = 6) -> Any:
    """The same JSON with one of *values* somewhere, at most *depth* levels down."""
    if depth and isinstance(content, dict) and content and chance.random() < 0.9:
        key = chance.choice(list(content))
        return {**content, key: distorted(chance, content[key], values, depth - 1)}
    if depth and isinstance(content, list) and content and chance.random() < 0.9:
        place = chance.randrange(len(content))
        return [*content[:place], distorted(chance, content[place], values, depth - 1), *content[place + 1 :]]
    return chance.choice(values)


def scrambled(chance: random.Random, data: bytes, pieces: Sequence[bytes]) -> bytes:
    """*data* with bytes flipped, overwritten, cut off, dropped and put in, *pieces* too: mostly at both ends."""
    result = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3))):
        if len(result) < 8:
            break
        reach = min(len(result) - 8, chance.choice((8, 300, 3000, len(result)))) + 1
        place = chance.randrange(reach)
        if chance.random() < 0.3:
            place = len(result) - 8 - place
        match chance.randrange(6):
            case 0 | 1:
                result[place] ^= 1 << chance.randrange(8)
            case 2:
                result[place : place + 8] = struct.pack("<Q", chance.choice(NUMBERS))
            case 3:
                del result[chance.randrange(len(result)) :]
            case 4:
                del result[place : place + chance.randrange(1, 16)]
            case _:
                result[place:place] = chance.choice((chance.randbytes(5), *pieces))
    return bytes(result)
