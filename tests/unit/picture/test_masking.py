"""Masks: what is transparent is repainted, or, where nothing is, what is white; upright as the picture is."""

from __future__ import annotations

import io
from typing import Any

import pytest

from anyform.contract.errors import Invalid
from anyform.contract.jobs import Picture
from anyform.picture import masking, reading

np = pytest.importorskip("numpy")
Image = pytest.importorskip("PIL.Image")
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore:::PIL")]

SHAPE = np.zeros((40, 60), dtype=np.uint8)
SHAPE[5:20, 10:50] = 255
"""Of what is to be repainted, white."""


def encoded(image: Any, form: str = "PNG", **given: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **given)
    return file.getvalue()


def read(data: bytes, **limits: Any) -> Any:
    found = masking.read(Picture(data=data), "the mask", **limits)
    assert found.mode == "L"
    return np.asarray(found)


def holed(alpha: Any) -> Any:
    """A photo of which *alpha* says how opaque it is."""
    colours = np.random.default_rng(0).integers(0, 256, (*alpha.shape, 3), dtype=np.uint8)
    return Image.fromarray(np.dstack([colours, alpha]))


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_what_is_transparent_is_repainted(form: str) -> None:
    more = {"lossless": True} if form == "WEBP" else {}
    assert np.array_equal(read(encoded(holed(255 - SHAPE), form, **more)), SHAPE)


def test_grey_with_transparency_and_palettes_count_as_well() -> None:
    grey = holed(255 - SHAPE).convert("LA")
    assert np.array_equal(read(encoded(grey)), SHAPE)
    indices = Image.fromarray((SHAPE > 0).astype(np.uint8), "P")
    indices.putpalette([200, 10, 10, 10, 200, 10])
    assert np.array_equal(read(encoded(indices, transparency=1)), SHAPE)
    assert np.array_equal(read(encoded(indices, "GIF", transparency=1)), SHAPE)


@pytest.mark.parametrize(("mode", "colour"), [("RGB", (9, 9, 9)), ("L", 9), ("1", 255)])
def test_a_colour_that_stands_for_transparent_counts_as_well(mode: str, colour: Any) -> None:
    shape = SHAPE > 0
    if mode == "1":
        image = Image.fromarray(SHAPE).convert("1")
    else:
        image = Image.fromarray(np.where(shape, 9, 100).astype(np.uint8)).convert(mode)
    assert np.array_equal(read(encoded(image, transparency=colour)), SHAPE)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P", "CMYK"])
def test_without_transparency_what_is_white_is_repainted(mode: str) -> None:
    form = "TIFF" if mode == "CMYK" else "PNG"
    assert np.array_equal(read(encoded(Image.fromarray(SHAPE).convert(mode), form)), SHAPE)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_opaque_throughout_has_no_transparency(mode: str) -> None:
    assert np.array_equal(read(encoded(Image.fromarray(SHAPE).convert(mode))), SHAPE)


def test_brightness_is_that_of_the_eye_as_diffusers_has_it() -> None:
    colours = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    assert np.array_equal(read(encoded(colours)), np.asarray(colours.convert("L")))


def test_half_transparent_is_half_repainted() -> None:
    alpha = np.full((8, 8), 255, dtype=np.uint8)
    alpha[0, 0], alpha[0, 1] = 100, 200
    found = read(encoded(holed(alpha)))
    assert (found[0, 0], found[0, 1], found[1, 1]) == (155, 55, 0)


def test_16_bit_grey_is_scaled() -> None:
    grey = Image.fromarray(SHAPE.astype(np.uint16) * 257)
    assert np.array_equal(read(encoded(grey)), SHAPE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_mask_and_picture_are_turned_alike(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for image in (Image.fromarray(SHAPE).convert("RGB"), holed(255 - SHAPE)):
        data = encoded(image, exif=exif)
        size = reading.read(Picture(data=data), "the picture").size
        turned = read(data)
        assert turned.shape[::-1] == size
        assert np.count_nonzero(turned) == np.count_nonzero(SHAPE)
    upright = np.asarray(reading.read(Picture(data=encoded(Image.fromarray(SHAPE), exif=exif)), "x").convert("L"))
    assert np.array_equal(turned, upright)


@pytest.mark.parametrize("data", [b"", b"no picture", encoded(holed(SHAPE))[:200]])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid, match=r"^the mask"):
        read(data)


def test_one_that_is_too_large_is_refused() -> None:
    with pytest.raises(Invalid, match="60 x 40 pixels; up to 2399"):
        read(encoded(holed(SHAPE)), most_pixels=2399)
