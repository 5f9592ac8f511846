"""What preprocessor_config.json has done to a picture, with Pillow and numpy, as transformers' processors do it.

Compared with the PIL processors of transformers 5.23 (image_processing_pil_*.py, image_transforms.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anyform.contract.errors import Invalid, LoadFailed, Unsupported
from anyform.picture.backend import library
from anyform.picture.pixels import Pixels
from anyform_onnx import processor

Size: TypeAlias = tuple[int, int]
"""Height and width."""
Array: TypeAlias = NDArray[Any]
_FILTERS = range(6)
_WARPED = 384
"""ConvNeXT's pictures of this size or a larger one are not cropped."""
_LEVIT = 256 / 224
_MOST_SIDE = 16_384
"""Pixels that a file may ask for."""
_MOST_PIXELS = 64_000_000
"""Of a picture after scaling, which may be a strip of 1 x 200 before."""


class GraphPixels(Pixels):
    """A folder's image processor, followed with Pillow and numpy. May be called by several threads."""

    def __init__(self, said: Mapping[str, Any], model_type: str, name: str, most_pixels: int, model: str) -> None:
        """*said*: preprocessor_config.json. *name*: of the graph's input. Raises LoadFailed, Unsupported."""
        super().__init__(most_pixels)
        self._name = name
        self._recipe = read(said, model_type, model)

    def prepare(self, image: Any, place: str) -> dict[str, Array]:
        """Channels x height x width, float32, of a PIL.Image in RGB. Raises Invalid."""
        try:
            return {self._name: self._recipe.follow(image)}
        except (ValueError, MemoryError) as error:
            raise Invalid(f"{place} is a picture that the model's processor refuses: {error}.") from error


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is done to each picture. None: that is left out."""

    family: str
    scaled: Callable[[Size], Size] | None
    """From a picture's height and width to those it is scaled to."""
    filter: int
    crop: Size | None
    factor: float | None
    offset: bool
    """One is subtracted from the scaled numbers."""
    colours: tuple[Sequence[float], Sequence[float]] | None
    """Mean and deviation of red, green and blue."""
    again: bool
    """Divided by the deviation once more."""
    flipped: bool
    """Blue first."""

    def follow(self, image: Any) -> Array:
        """Channels x height x width of a PIL.Image in RGB. Raises ValueError."""
        if self.family == "DINOv3ViT":
            return self._normalized(self._resized_numbers(image))
        if self.scaled is not None:
            image = image.resize(self._width_first(image), resample=self.filter)
        array = np.moveaxis(np.asarray(image), -1, 0)
        if self.crop is not None:
            array = cropped(array, self.crop)
        array = self._normalized(self._numbers(array))
        return np.ascontiguousarray(array[::-1] if self.flipped else array)

    def _width_first(self, image: Any) -> tuple[int, int]:
        assert self.scaled is not None
        height, width = self.scaled((image.height, image.width))
        if not 1 <= height * width <= _MOST_PIXELS:
            raise ValueError(f"scaled, it would be {width} x {height} pixels")
        return width, height

    def _numbers(self, array: Array) -> Array:
        if self.factor is None:
            return array.astype(np.float32)
        made = (array.astype(np.float64) * self.factor).astype(np.float32)
        return made - np.float32(1) if self.offset else made

    def _normalized(self, array: Array) -> Array:
        if self.colours is None:
            return array
        mean, deviation = (np.array(one, np.float32)[:, None, None] for one in self.colours)
        array = (array - mean) / deviation
        return array / deviation if self.again else array

    def _resized_numbers(self, image: Any) -> Array:
        """Numbers first, then scaled, as DINOv3 does; each colour on its own, since Pillow scales no three floats."""
        array = self._numbers(np.moveaxis(np.asarray(image), -1, 0))
        if self.scaled is not None:
            size = self._width_first(image)
            planes = (library().fromarray(np.ascontiguousarray(plane)) for plane in array)
            array = np.stack([np.asarray(plane.resize(size, resample=self.filter)) for plane in planes])
        return cropped(array, self.crop) if self.crop is not None else array


def read(said: Mapping[str, Any], model_type: str, model: str) -> Recipe:
    """What preprocessor_config.json *said*. *model*: what messages call it. Raises LoadFailed, Unsupported."""
    family, trouble = processor.family(said, model_type)
    if trouble:
        raise Unsupported(f"pictures for {model} cannot be prepared: {trouble}", processor.INSTEAD)
    given = {name: value for name, value in said.items() if value is not None}
    values = _Values({**processor.PROCESSORS[family], **given}, model)
    colours = (values.colours("image_mean"), values.colours("image_std"))
    square = bool(values.said["default_to_square"])
    scaled, crop = None, None
    if values.said["do_resize"]:
        scaled, crop = _scaling(family, values, values.sides("size", square=square))
    if values.said["do_center_crop"]:
        sides = values.sides("crop_size", square=True)
        crop = values.height_and_width("crop_size", sides)
    normalized = bool(values.said["do_normalize"]) and family != "MobileViT"
    return Recipe(
        family=family,
        scaled=scaled,
        filter=values.filter(),
        crop=crop,
        factor=values.number("rescale_factor") if values.said["do_rescale"] else None,
        offset=bool(values.said.get("rescale_offset")),
        colours=colours if normalized else None,
        again=family == "EfficientNet" and bool(values.said["include_top"]),
        flipped=bool(values.said.get("do_flip_channel_order")),
    )


class _Values:
    """A processor's values, checked when they are asked for."""

    def __init__(self, said: Mapping[str, Any], model: str) -> None:
        self.said = said
        self._model = model

    def wrong(self, name: str, may: str) -> LoadFailed:
        return LoadFailed(
            f"preprocessor_config.json of {self._model} has {name} = {self.said[name]!r}; it must be {may}.",
            "Get the model again.",
        )

    def number(self, name: str) -> float:
        value = self.said[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
            raise self.wrong(name, "a number above 0")
        return float(value)

    def filter(self) -> int:
        value = self.said["resample"]
        if isinstance(value, bool) or value not in _FILTERS:
            raise self.wrong("resample", "a filter of Pillow's, 0 to 5")
        return int(value)

    def colours(self, name: str) -> tuple[float, ...]:
        value = self.said[name]
        many = [value] * 3 if isinstance(value, int | float) else value
        if (
            not isinstance(many, list | tuple)
            or len(many) != 3
            or not all(isinstance(one, int | float) for one in many)
            or (name == "image_std" and not all(many))
        ):
            raise self.wrong(name, "three numbers")
        return tuple(map(float, many))

    def sides(self, name: str, *, square: bool) -> Mapping[str, int]:
        """Height and width, or shortest_edge and perhaps longest_edge."""
        value = self.said[name]
        if isinstance(value, int):
            value = {"height": value, "width": value} if square else {"shortest_edge": value}
        elif isinstance(value, list | tuple) and len(value) == 2:
            value = {"height": value[0], "width": value[1]}
        if not isinstance(value, dict):
            raise self.wrong(name, "a number of pixels, or height and width")
        known = {key: side for key, side in value.items() if side is not None}
        if not all(type(side) is int and 0 < side <= _MOST_SIDE for side in known.values()):
            raise self.wrong(name, f"whole numbers of pixels, 1 to {_MOST_SIDE}")
        if not ({"height", "width"} <= known.keys() or "shortest_edge" in known):
            raise self.wrong(name, "height and width, or shortest_edge")
        return known

    def height_and_width(self, name: str, sides: Mapping[str, int]) -> Size:
        if "height" not in sides or "width" not in sides:
            raise self.wrong(name, "height and width")
        return sides["height"], sides["width"]


def _scaling(family: str, values: _Values, sides: Mapping[str, int]) -> tuple[Callable[[Size], Size], Size | None]:
    """How a picture's size becomes another, and what is cut out of that at once."""
    short = sides.get("shortest_edge")
    if family == "ConvNext":
        if short is None:
            raise values.wrong("size", "shortest_edge")
        if short >= _WARPED:
            return _exactly((short, short)), None
        return _shortest(int(short / values.number("crop_pct"))), (short, short)
    if family == "PoolFormer":
        part = values.number("crop_pct")
        if short is None and sides["height"] != sides["width"]:
            return _exactly((int(sides["height"] / part), int(sides["width"] / part))), None
        return _shortest(int((short or sides["height"]) / part)), None
    if short is None:
        return _exactly((sides["height"], sides["width"])), None
    if family == "Levit":
        return _shortest(int(_LEVIT * short)), None
    longest = sides.get("longest_edge")
    return (_between(short, longest) if longest else _shortest(short)), None


def _exactly(size: Size) -> Callable[[Size], Size]:
    return lambda _: size


def _shortest(short: int) -> Callable[[Size], Size]:
    """Transformers' get_resize_output_image_size."""

    def scaled(size: Size) -> Size:
        height, width = size
        if width <= height:
            return int(short * height / width), short
        return short, int(short * width / height)

    return scaled


def _between(short: int, longest: int) -> Callable[[Size], Size]:
    """Transformers' get_size_with_aspect_ratio."""

    def scaled(size: Size) -> Size:
        least, most = min(size), max(size)
        exact: float = short
        if most / least * short > longest:
            exact = longest * least / most
        side = round(exact)
        if least == side:
            return size
        height, width = size
        return (int(exact * height / width), side) if width < height else (side, int(exact * width / height))

    return scaled


def cropped(array: Array, size: Size) -> Array:
    """The middle of *array* (channels x height x width); zeros around one that is too small."""
    given = array.shape[1:]
    whole = tuple(max(one, other) for one, other in zip(given, size, strict=True))
    before = [ceil((full - one) / 2) for full, one in zip(whole, given, strict=True)]
    if whole != given:
        padded = np.zeros((array.shape[0], *whole), array.dtype)
        padded[:, before[0] : before[0] + given[0], before[1] : before[1] + given[1]] = array
        array = padded
    top, left = ((one - side) // 2 + more for one, side, more in zip(given, size, before, strict=True))
    return array[:, max(top, 0) : top + size[0], max(left, 0) : left + size[1]]
