"""Sizes of pictures: which ones a model paints, and the nearest of them to one that it does not."""

from __future__ import annotations

import math

from anyform.contract.errors import Invalid

LEAST_UNITS = 8
"""Sides have at least so many units: on less, the networks' coarsest level has no pixel left."""
LONGEST = 8
"""How many times longer than wide: far from that, models repeat what they paint."""
_BEYOND = 1_000_000_000
"""Sides longer than this are as long as this."""


def check(width: int, height: int, unit: int, most_pixels: int) -> None:
    """Whether pictures of *width* x *height* can be asked for. *unit*: sides are multiples of it. Raises Invalid."""
    what = ""
    if min(width, height) < LEAST_UNITS * unit:
        what = f"sides are at least {LEAST_UNITS * unit}"
    elif width % unit or height % unit:
        what = f"sides of this model's pictures are multiples of {unit}"
    elif max(width, height) > LONGEST * min(width, height):
        what = f"one side may be up to {LONGEST} times the other"
    elif width * height > most_pixels:
        what = f"up to {most_pixels} pixels in all are painted here"
    if what:
        other = "x".join(map(str, nearest(width, height, unit, most_pixels)))
        raise Invalid(f"the size is {width}x{height}; {what}.", f"The nearest that fits is {other}.", param="size")


def nearest(width: int, height: int, unit: int, most_pixels: int) -> tuple[int, int]:
    """The size like *width* x *height* that `check` accepts: in its proportion, as near as that can be.

    Where *most_pixels* are fewer than the smallest size has, that.
    """
    least = LEAST_UNITS * unit
    sides = [float(min(max(side, 1), _BEYOND)) for side in (width, height)]
    sides = [min(side, LONGEST * min(sides)) for side in sides]
    scale = max(1.0, least / min(sides))
    scale *= min(1.0, math.sqrt(most_pixels / (sides[0] * sides[1] * scale * scale)))
    whole = [max(least, round(side * scale / unit) * unit) for side in sides]
    while max(whole) > least and (whole[0] * whole[1] > most_pixels or max(whole) > LONGEST * min(whole)):
        whole[whole.index(max(whole))] -= unit
    return whole[0], whole[1]
