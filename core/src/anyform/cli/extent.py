"""How many pixels a picture has, by the head of its file: of PNG, JPEG and WebP, without an engine."""

from __future__ import annotations

import struct

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG after which the sides stand: SOF0 to SOF15 (ITU-T T.81, table B.1)."""
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers that nothing belongs to."""


def extent(data: bytes) -> tuple[int, int] | None:
    """(width, height) as the file has them, before it is turned as its EXIF says; None: of another form, or damaged."""
    try:
        if data.startswith(PNG):
            return struct.unpack(">2I", data[16:24]) if data[12:16] == b"IHDR" else None
        if data.startswith(JPEG):
            return _jpeg(data)
        return _webp(data) if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None
    except (struct.error, IndexError):
        return None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAMES:
            height, width = struct.unpack(">2H", data[at + 5 : at + 9])
            return width, height
        if marker in (0xD9, 0xDA):  # the end, or the picture itself
            return None
        if marker == 0xFF:  # fill
            at += 1
        else:
            at += 2 if marker in _BARE else 2 + int.from_bytes(data[at + 2 : at + 4])
    return None


def _webp(data: bytes) -> tuple[int, int] | None:
    """RFC 9649: of its extended, lossless and lossy forms."""
    kind, body = data[12:16], data[20:30]
    if kind == b"VP8X" and len(body) == 10:
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L" and body[:1] == b"\x2f" and len(body) >= 5:
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<2H", body[6:10])
        return width & 0x3FFF, height & 0x3FFF
    return None
