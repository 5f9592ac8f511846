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


def check(width: int, height: int, unit: int, most_pixels: int, own: tuple[int, int] | None = None) -> None:
    """Whether pictures of *width* x *height* can be asked for. *unit*: sides are multiples of it. Raises Invalid.

    *own*: the size that the model was trained for, which the refusal of more than *most_pixels* tells.
    """
    what, more = "", ""
    if min(width, height) < LEAST_UNITS * unit:
        what = f"sides are at least {LEAST_UNITS * unit}"
    elif width % unit or height % unit:
        what = f"sides of this model's pictures are multiples of {unit}"
    elif max(width, height) > LONGEST * min(width, height):
        what = f"one side may be up to {LONGEST} times the other"
    elif width * height > most_pixels:
        trained = f", by a model that was trained for {own[0]}x{own[1]}" if own else ""
        what = f"up to {most_pixels} pixels in all are painted here{trained}"
        more = " Its load option max_pixels allows more."
    if what:
        other = "x".join(map(str, nearest(width, height, unit, most_pixels)))
        raise Invalid(
            f"the size is {width}x{height}; {what}.", f"The nearest that fits is {other}.{more}", param="size"
        )


def nearest(width: int, height: int, unit: int, most_pixels: int, usual_pixels: int | None = None) -> tuple[int, int]:
    """The size like *width* x *height* that `check` accepts: in its proportion, as near as that can be.

    *usual_pixels*: it has no more of them, unless the proportion would be lost. Where *most_pixels* are fewer than the
    smallest size has, that.
    """
    least = LEAST_UNITS * unit
    sides = [float(min(max(side, 1), _BEYOND)) for side in (width, height)]
    sides = [min(side, LONGEST * min(sides)) for side in sides]
    bound = min(most_pixels, usual_pixels or most_pixels)
    scale = min(max(1.0, least / min(sides)), math.sqrt(bound / (sides[0] * sides[1])))
    if scale * min(sides) < least:
        bound = most_pixels
        scale = min(least / min(sides), math.sqrt(bound / (sides[0] * sides[1])))
    whole = [max(least, round(side * scale / unit) * unit) for side in sides]
    if whole[0] * whole[1] > bound:
        whole = [max(least, int(side * scale / unit) * unit) for side in sides]
    while max(whole) > least and (whole[0] * whole[1] > bound or max(whole) > LONGEST * min(whole)):
        whole[whole.index(max(whole))] -= unit
    return whole[0], whole[1]


def is_alike(one: tuple[int, int], other: tuple[int, int], unit: int) -> bool:
    """Whether *one*, of multiples of *unit*, has the proportion of *other*, but for the rounding of a side."""
    across, along = (one[0] * other[1], one[1] * other[0])
    return abs(across - along) <= unit * max(other)
