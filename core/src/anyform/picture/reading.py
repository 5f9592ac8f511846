"""Pictures out of requests: encoded bytes that nobody vouches for, to RGB; what is none, or too large, is refused."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any

from anyform.contract.errors import EngineMissing, Invalid
from anyform.picture.backend import INSTALL, library

if TYPE_CHECKING:
    from anyform.contract.jobs import Picture

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Pillow's names of what is read; of several frames the first."""
MOST_PIXELS = 50_000_000
"""Width x height; decoded it takes three bytes each, and as much again while it is converted."""
LONGEST = 200
"""How many times longer than wide: processors scale the short side up, and the long one with it."""
_ORIENTATION = 0x0112
"""The tag of EXIF (JEITA CP-3451) that says how the camera was held."""
_SUPPORTED = "PNG, JPEG, WebP, GIF, BMP and TIFF are read"


def read(picture: Picture, place: str, most_pixels: int = MOST_PIXELS) -> Any:
    """*picture* as a PIL.Image in RGB, upright, without metadata. *place*: what messages call it, such as `input 0`.

    Transparency is dropped, as transformers' load_image does; 16-bit grey is scaled to 8. Size and form are looked at
    before anything is decoded.

    Raises Invalid: no picture, a damaged one or a part of one, or larger than *most_pixels*; EngineMissing: no Pillow.
    """
    return converted(picture, place, most_pixels, rgb)


def converted(picture: Picture, place: str, most_pixels: int, convert: Callable[[Any], Any]) -> Any:
    """As `read`; *convert* makes of the decoded PIL.Image, in its own mode, what is then turned upright."""
    opened = header(picture, place)
    _check_size(opened.size, place, most_pixels)
    try:
        return _upright(library(), opened, convert)
    except MemoryError as error:
        raise Invalid(f"{place} is a picture that memory does not hold.", "Send a smaller one.") from error
    except Exception as error:  # Pillow raises whatever its decoders and the damaged file bring about
        raise Invalid(
            f"{place} is a {opened.format} picture that is damaged or cut short: {_said(error)}.", "Send all of it."
        ) from error


def header(picture: Picture, place: str) -> Any:
    """The PIL.Image of *picture*, of which only the header is read. Raises as `read`, but for size and damage."""
    try:
        pillow = library()
    except EngineMissing as error:
        raise EngineMissing(
            f"{place} is a picture, and Pillow, which reads it, is missing.", f"Install it: {INSTALL}"
        ) from error
    if not picture.data:
        raise Invalid(f"{place} is empty.", f"Send a picture; {_SUPPORTED}.")
    try:
        return pillow.open(BytesIO(picture.data), formats=FORMATS)
    except pillow.UnidentifiedImageError:
        begins = picture.data[:8].hex(" ")
        raise Invalid(
            f"{place} is no picture that can be read: its {len(picture.data)} bytes begin with {begins}.",
            f"Send a whole one; {_SUPPORTED}.",
        ) from None  # it says no more than an address in memory
    except pillow.DecompressionBombError as error:
        raise Invalid(f"{place} is too large a picture: {_said(error)}.", "Send a smaller one.") from error
    except Exception as error:  # as above: a header may be damaged, too
        raise Invalid(
            f"{place} has a damaged header: {_said(error)}.", f"Send a whole picture; {_SUPPORTED}."
        ) from error


def _check_size(size: tuple[int, int], place: str, most_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise Invalid(f"{place} is a picture of {width} x {height} pixels.", "Send one that has some.")
    if width * height > most_pixels:
        raise Invalid(
            f"{place} is a picture of {width} x {height} pixels; up to {most_pixels} in all are read.",
            "Send a smaller one.",
        )
    if max(size) > LONGEST * min(size):
        raise Invalid(
            f"{place} is a picture of {width} x {height} pixels; one side may be up to {LONGEST} times the other.",
            "Send a part of it.",
        )


def rgb(opened: Any) -> Any:
    """A decoded PIL.Image in RGB, whatever its mode, without transparency. Raises ValueError: it has no colours."""
    mode = opened.mode
    if mode.startswith("I;16"):  # Pillow would make white of all above 255
        opened = opened.point(lambda value: value * (1 / 256)).convert("L")
    elif mode in ("I", "F"):
        raise ValueError(f"its pixels are numbers (mode {mode}) and no colours")
    elif mode == "P":
        opened = opened.convert("RGBA")  # Pillow warns on the direct way
    return opened.convert("RGB")


def _upright(pillow: Any, opened: Any, convert: Callable[[Any], Any]) -> Any:
    """Decoded, converted, turned as its EXIF data say."""
    opened.load()
    turned = {
        2: pillow.Transpose.FLIP_LEFT_RIGHT,
        3: pillow.Transpose.ROTATE_180,
        4: pillow.Transpose.FLIP_TOP_BOTTOM,
        5: pillow.Transpose.TRANSPOSE,
        6: pillow.Transpose.ROTATE_270,
        7: pillow.Transpose.TRANSVERSE,
        8: pillow.Transpose.ROTATE_90,
    }.get(opened.getexif().get(_ORIENTATION))
    plain = convert(opened)
    upright = plain if turned is None else plain.transpose(turned)
    upright.info.clear()  # transformers would read the EXIF data again, and turn it again
    return upright


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")[:300] or type(error).__name__
