"""Writes small PNG files in pure Python, for models that see: https://www.w3.org/TR/png-3/."""

from __future__ import annotations

import random
import struct
import zlib


def png(width: int = 24, height: int = 24, seed: int = 0) -> bytes:
    """A picture of random colours, 8 bits each of red, green and blue."""
    chance = random.Random(seed)
    rows = b"".join(b"\0" + chance.randbytes(3 * width) for _ in range(height))
    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_part(kind, data) for kind, data in parts)


def _part(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
