"""Pictures that nobody vouches for: what is read, and what each of the others is refused for."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import EngineMissing, Invalid
from anyform.contract.jobs import Picture
from anyform.picture import reading

np = pytest.importorskip("numpy")
Image = pytest.importorskip("PIL.Image")
ImageOps = pytest.importorskip("PIL.ImageOps")
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore:::PIL")]
"""The engine ignores those warnings, too; pytest sets all filters anew."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


def read(data: bytes, **limits: Any) -> Any:
    return reading.read(Picture(data=data), "input 3", **limits)


def drawn(width: int = 60, height: int = 40) -> Any:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Any, form: str, **given: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **given)
    return file.getvalue()


def by_the_book(data: bytes) -> Any:
    """As transformers' load_image has it."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def turned(orientation: int) -> Any:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "LA", "CMYK"])
def test_every_form_and_mode_becomes_rgb(form: str, mode: str) -> None:
    try:
        data = encoded(drawn().convert(mode), form)
    except (OSError, ValueError):
        pytest.skip(f"Pillow writes no {form} in {mode}")
    found = read(data)
    assert (found.mode, found.size) == ("RGB", (60, 40))
    assert np.array_equal(np.asarray(found), by_the_book(data))


@pytest.mark.parametrize("form", ["JPEG", "TIFF", "WEBP", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright_once(form: str, orientation: int) -> None:
    data = encoded(drawn(), form, exif=turned(orientation))
    found = read(data)
    assert np.array_equal(np.asarray(found), by_the_book(data))
    assert found.size == ((60, 40) if orientation < 5 else (40, 60))
    assert np.array_equal(np.asarray(ImageOps.exif_transpose(found)), np.asarray(found))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled(form: str) -> None:
    grey = np.arange(0, 65536, 27, dtype=np.uint16)[:2400].reshape(40, 60)
    found = np.asarray(read(encoded(Image.fromarray(grey), form)))
    assert np.abs(found[..., 0].astype(int) - grey // 256).max() <= 1
    assert found.max() > 200
    assert found.min() == 0


def test_of_several_frames_the_first_is_read() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    for form in ("GIF", "WEBP", "TIFF", "PNG"):
        data = encoded(frames[0], form, save_all=True, append_images=frames[1:])
        red, green, _ = np.asarray(read(data))[4, 4]
        assert red > 200 > 50 > green


def test_transparent_palettes_and_damaged_exif_are_read_without_a_word(tmp_path: Path) -> None:
    palette = encoded(drawn().quantize(16), "PNG", transparency=bytes(range(16)))
    data = encoded(drawn(), "JPEG", exif=turned(6))
    place = data.index(b"Exif\0\0")
    broken = data[: place + 14] + b"\xff" * 12 + data[place + 26 :]
    bomb = png(12_000, 12_000)
    for name, content in (("palette", palette), ("broken", broken), ("bomb", bomb)):
        (tmp_path / name).write_bytes(content)
    ended = subprocess.run(
        [sys.executable, "-Wdefault", "-c", READING, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert ended.stdout == "(60, 40) (60, 40) refused "
    assert "PIL" not in ended.stderr
    assert "exif" not in ended.stderr.lower()
    assert "bomb" not in ended.stderr.lower()


READING = """
import pathlib, sys
from anyform.contract.errors import Invalid
from anyform.contract.jobs import Picture
from anyform.picture import reading
from anyform.picture import reading
for name in ("palette", "broken", "bomb"):
    try:
        said = reading.read(Picture(data=pathlib.Path(sys.argv[1], name).read_bytes()), "x").size
    except Invalid:
        said = "refused"
    print(said, end=" ")
"""


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, *more: bytes, data: bytes = b"") -> bytes:
    """A PNG of this size in RGB, with *more* chunks before its *data*."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def gif(screen: int, frame: int) -> bytes:
    sizes = struct.pack("<HH", screen, screen), struct.pack("<HHHH", 0, 0, frame, frame)
    return b"GIF89a" + sizes[0] + bytes(3) + b"," + sizes[1] + b"\0\x08\x01\0\0;"


def webp(side: int) -> bytes:
    return b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + 2 * struct.pack("<I", side - 1)[:3]


def jpeg(side: int) -> bytes:
    data = encoded(drawn(), "JPEG")
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", side, side) + data[place + 4 :]


def bmp(side: int) -> bytes:
    data = encoded(drawn(), "BMP")
    return data[:18] + struct.pack("<ii", side, side) + data[26:]


def tiff(side: int) -> bytes:
    image = Image.new("1", (side, 1))
    data = encoded(image, "TIFF")
    return data.replace(struct.pack("<HHIHH", 257, 4, 1, 1, 0), struct.pack("<HHIHH", 257, 4, 1, side, 0)).replace(
        struct.pack("<HHIHH", 257, 3, 1, 1, 0), struct.pack("<HHIHH", 257, 3, 1, side, 0)
    )


BOMB = zlib.compress(bytes(100 << 20))
"""100 MiB in 100 KiB."""
BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "input 3 is empty"),
    "a text": (
        lambda: b"hello there, no picture here",
        "no picture that can be read: its 28 bytes begin with 68 65 6c",
    ),
    "a page": (lambda: b"<html><body>", "no picture that can be read"),
    "a drawing": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no picture that can be read"),
    "a document": (lambda: b"%PDF-1.4 ", "no picture that can be read"),
    "PostScript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture that can be read"),
    "another form": (lambda: encoded(drawn(), "ICO"), "no picture that can be read"),
    "no pixels": (lambda: png(0, 10), "no picture that can be read"),
    "20,000 a side in PNG": (lambda: png(20_000, 20_000), "too large a picture.*400000000 pixels"),
    "20,000 a side in JPEG": (lambda: jpeg(20_000), "too large a picture.*400000000 pixels"),
    "20,000 a side in WebP": (lambda: webp(20_000 - 4_000), "too large a picture.*256000000 pixels"),
    "20,000 a side in GIF": (lambda: gif(20_000, 20_000), "too large a picture.*400000000 pixels"),
    "20,000 a side in a frame of GIF": (lambda: gif(1, 20_000), "too large a picture.*400000000 pixels"),
    "20,000 a side in BMP": (lambda: bmp(20_000), "too large a picture.*400000000 pixels"),
    "20,000 a side in TIFF": (lambda: tiff(20_000), "too large a picture.*400000000 pixels"),
    "10,000 a side": (lambda: png(10_000, 10_000), "10000 x 10000 pixels; up to 50000000 in all"),
    "a bomb": (lambda: png(12_000, 12_000, data=bytes(100 << 20)), "12000 x 12000 pixels"),
    "a strip": (lambda: png(1, 30_000), "1 x 30000 pixels; one side may be up to 200 times"),
    "a bomb in a text": (lambda: png(10, 10, chunk(b"zTXt", b"a\0\0" + BOMB)), "damaged header.*too large"),
    "a bomb in a profile": (lambda: png(10, 10, chunk(b"iCCP", b"a\0\0" + BOMB)), "damaged header.*too large"),
    "many texts": (
        lambda: png(10, 10, *[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000)))] * 100),
        "damaged header.*Too much memory",
    ),
    "too few pixels": (lambda: png(10, 10, data=bytes(50)), "PNG picture that is damaged or cut short"),
    "numbers": (
        lambda: encoded(Image.fromarray(np.ones((9, 9), np.float32)), "TIFF"),
        "numbers .mode F. and no colours",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_picture_for_a_model_is_refused_with_its_reason(name: str) -> None:
    make, reason = BAD[name]
    data = make()
    tracemalloc.start()
    try:
        with pytest.raises(Invalid, match=reason) as caught:
            read(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < (100 << 20)
    assert str(caught.value).startswith("input 3 ")
    assert caught.value.hint
    assert caught.value.category.value == "invalid"


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9])
def test_what_is_cut_short_is_refused(form: str, part: float) -> None:
    data = encoded(drawn(), form)
    with pytest.raises(Invalid, match=r"damaged|no picture that can be read"):
        read(data[: int(len(data) * part)])


def test_damage_anywhere_is_refused_or_read_and_nothing_else() -> None:
    random = np.random.default_rng(1)
    for form in FORMATS:
        whole = encoded(drawn(20, 12), form)
        for _ in range(60):
            data = bytearray(whole)
            for place in random.integers(0, len(data), 3):
                data[place] = random.integers(0, 256)
            try:
                assert read(bytes(data)).mode == "RGB"
            except Invalid:
                continue


def test_the_limit_may_be_another() -> None:
    with pytest.raises(Invalid, match="60 x 40 pixels; up to 2399 in all"):
        read(encoded(drawn(), "PNG"), most_pixels=2399)
    assert read(encoded(drawn(), "PNG"), most_pixels=2400).size == (60, 40)


def test_without_pillow_a_picture_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(drawn(), "PNG")
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(EngineMissing, match=r"Pillow.*pip install .*pillow"):
        read(data)
