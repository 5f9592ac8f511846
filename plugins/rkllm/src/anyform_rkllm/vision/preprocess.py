"""A picture to the numbers that a vision encoder takes: scaled to fit, grey around it, normalized if it wants that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyform.contract.errors import Invalid, LoadFailed
from anyform.picture.backend import library
from anyform_rkllm.vision.file import nearest_json

MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""CLIP's, of red, green and blue, for pictures scaled to 0 to 1."""
FACTOR = 1 / 255
GREY = 128
"""The vendor's demo fills up with 127.5."""
BILINEAR = 2
"""Pillow's number of the filter."""
MOST_SIDE = 4096
"""Pixels that an encoder may ask for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is done to each picture.

    The whole picture is kept, and its form: it is scaled until it fits and put into the middle of grey, as the vendor's
    demo does. Image processors that stretch, or cut out the middle, are not followed in that.
    """

    width: int
    height: int
    dtype: str = "uint8"
    channels_first: bool = False
    filter: int = BILINEAR
    factor: float | None = None
    """Of the numbers 0 to 255; None: they stay."""
    mean: Sequence[float] | None = None
    """With *deviation*, of each colour; None: left out."""
    deviation: Sequence[float] | None = None

    def follow(self, image: Any) -> NDArray[Any]:
        """A PIL.Image in RGB as one batch: 1 x height x width x 3, or 1 x 3 x height x width, contiguous."""
        array = np.asarray(self.fitted(image))
        if self.dtype != "uint8":
            array = self._normalized(array)
        if self.channels_first:
            array = np.moveaxis(array, -1, 0)
        return np.ascontiguousarray(array[None])

    def fitted(self, image: Any) -> Any:
        """A PIL.Image of the encoder's size. Scaled first, so that a narrow strip never becomes a huge square."""
        scale = min(self.width / image.width, self.height / image.height)
        size = (
            min(self.width, max(1, round(image.width * scale))),
            min(self.height, max(1, round(image.height * scale))),
        )
        scaled = image.resize(size, resample=self.filter)
        if size == (self.width, self.height):
            return scaled
        whole = library().new("RGB", (self.width, self.height), (GREY, GREY, GREY))
        whole.paste(scaled, ((self.width - size[0]) // 2, (self.height - size[1]) // 2))
        return whole

    def _normalized(self, array: NDArray[Any]) -> NDArray[Any]:
        made: NDArray[Any] = array.astype(np.float32)
        if self.factor is not None:
            made *= np.float32(self.factor)
        if self.mean is not None and self.deviation is not None:
            made = (made - np.array(self.mean, np.float32)) / np.array(self.deviation, np.float32)
        return made.astype(self.dtype)


def processor(folders: Sequence[Path]) -> Mapping[str, Any]:
    """The image processor's file in the nearest of *folders* that has one; empty where none has. Raises LoadFailed."""
    said = nearest_json(folders, "preprocessor_config.json")
    inner = {} if said else nearest_json(folders, "processor_config.json").get("image_processor")
    return said or (inner if isinstance(inner, dict) else {})


def normalization(said: Mapping[str, Any]) -> dict[str, Any]:
    """Filter, factor, mean and deviation of an image processor's file, CLIP's where it has none. Raises LoadFailed."""
    resample = said.get("resample")
    found: dict[str, Any] = {"filter": BILINEAR if resample is None else resample}
    if type(found["filter"]) is not int or not 0 <= found["filter"] <= 5:
        raise _wrong("resample", resample, "a filter of Pillow's, 0 to 5")
    if said.get("do_rescale") is not False:
        found["factor"] = _factor(said.get("rescale_factor"))
    if said.get("do_normalize") is not False:
        found["mean"] = _colours("image_mean", said.get("image_mean"), MEAN)
        found["deviation"] = _colours("image_std", said.get("image_std"), DEVIATION)
    return found


def stated_size(said: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Width and height of an image processor's file, else of config.json's vision part; None: neither has both.

    A shortest or longest edge is no size: models that have them take pictures of any.
    """
    vision = config.get("vision_config")
    stated = (said.get("crop_size"), said.get("size"), vision.get("image_size") if isinstance(vision, dict) else None)
    return next((size for size in map(_size, stated) if size), None)


def asked_size(given: str) -> tuple[int, int] | None:
    """Width and height of the load option vision_size: `448` or `448x336`; None for none. Raises Invalid."""
    if not given:
        return None
    parts = given.lower().split("x")
    sides = [int(part) if part.isascii() and part.isdecimal() and len(part) < 6 else 0 for part in parts]
    if len(sides) > 2 or not all(0 < side <= MOST_SIDE for side in sides):
        raise Invalid(
            f"load option vision_size is {given!r}.",
            f"It must be pixels, 448 or 448x336 (width x height), up to {MOST_SIDE}.",
            option="vision_size",
        )
    return sides[0], sides[-1]


def _size(value: Any) -> tuple[int, int] | None:
    if isinstance(value, dict):
        value = [value.get("height"), value.get("width")]
    sides = list(value) if isinstance(value, list | tuple) else [value, value]
    if len(sides) == 2 and all(type(side) is int and 0 < side <= MOST_SIDE for side in sides):
        return sides[1], sides[0]
    return None


def _factor(value: Any) -> float:
    if value is None:
        return FACTOR
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise _wrong("rescale_factor", value, "a number above 0")
    return float(value)


def _colours(name: str, value: Any, otherwise: Sequence[float]) -> Sequence[float]:
    if value is None:
        return otherwise
    many = [value] * 3 if isinstance(value, int | float) else value
    if not isinstance(many, list | tuple) or len(many) != 3 or not all(map(_is_number, many)):
        raise _wrong(name, value, "three numbers")
    if name == "image_std" and not all(many):
        raise _wrong(name, value, "three numbers, none of them 0")
    return tuple(map(float, many))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6


def _wrong(name: str, value: Any, may: str) -> LoadFailed:
    return LoadFailed(
        f"preprocessor_config.json has {name} = {value!r}; it must be {may}.", "Get the model's files again."
    )
