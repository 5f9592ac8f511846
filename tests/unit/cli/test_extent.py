"""Sides of pictures, by the heads of their files."""

from __future__ import annotations

import struct

import pytest

from anyform.cli.extent import extent
from anyform.testing.picture import png


def jpeg(width: int, height: int, before: bytes = b"", frame: int = 0xC0) -> bytes:
    return b"\xff\xd8" + before + struct.pack(">2BHB2H", 0xFF, frame, 17, 8, height, width) + bytes(30)


def webp(kind: bytes, body: bytes) -> bytes:
    return b"RIFF" + bytes(4) + b"WEBP" + kind + bytes(4) + body


EXIF = b"\xff\xe1\x00\x08Exif\0\0"
TABLE = b"\xff\xc4\x00\x05abc"
PICTURES = {
    "png": png(300, 7),
    "jpeg": jpeg(300, 7),
    "jpeg, after more": jpeg(300, 7, EXIF + TABLE + b"\xff\xff\xff\x01", 0xC2),
    "webp, lossy": webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<2H", 300 | 0x4000, 7)),
    "webp, lossless": webp(b"VP8L", b"\x2f" + (299 | 6 << 14 | 1 << 28).to_bytes(4, "little")),
    "webp, extended": webp(b"VP8X", bytes(4) + (299).to_bytes(3, "little") + (6).to_bytes(3, "little")),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_width_and_height(kind: str) -> None:
    assert extent(PICTURES[kind]) == (300, 7)


@pytest.mark.parametrize("kind", PICTURES)
def test_a_head_that_is_cut_says_nothing_wrong(kind: str) -> None:
    whole = PICTURES[kind]
    assert {extent(whole[:length]) for length in range(60)} <= {None, (300, 7)}


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\xff\xd8\xff\xda" + bytes(40), b"\xff\xd8\xff\xe1\xff\xff"])
def test_others_are_left_to_engines(data: bytes) -> None:
    assert extent(data) is None


def test_they_are_those_that_a_decoder_reads() -> None:
    image = pytest.importorskip("PIL.Image")
    from io import BytesIO

    for options in ({"format": "png"}, {"format": "jpeg"}, {"format": "jpeg", "progressive": True}, {"format": "webp"},
                    {"format": "webp", "lossless": True}, {"format": "webp", "exif": b"Exif\0\0MM\0*"}):  # fmt: skip
        file = BytesIO()
        image.new("RGB", (300, 7)).save(file, **options)
        assert extent(file.getvalue()) == (300, 7), options
