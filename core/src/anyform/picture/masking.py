"""Masks out of requests: which pixels of a picture are to be repainted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anyform.picture import reading

if TYPE_CHECKING:
    from anyform.contract.jobs import Picture

OPAQUE = 255


def read(picture: Picture, place: str, most_pixels: int = reading.MOST_PIXELS) -> Any:
    """A PIL.Image of mode L, upright as `reading.read` turns pictures: white is repainted, black is kept.

    Where any pixel is transparent, transparency alone counts, and what is transparent is repainted (as OpenAI has it:
    https://platform.openai.com/docs/api-reference/images/createEdit); elsewhere brightness does, and what is white is
    repainted (as diffusers has it). Raises as `reading.read`.
    """
    return reading.converted(picture, place, most_pixels, _mask)


def _mask(opened: Any) -> Any:
    if opened.has_transparency_data and not opened.mode.startswith("I"):
        alpha = opened.convert("RGBA").getchannel("A")
        if alpha.getextrema()[0] < OPAQUE:
            return alpha.point(lambda value: OPAQUE - value)
    return reading.rgb(opened).convert("L")
