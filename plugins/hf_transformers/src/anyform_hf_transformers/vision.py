"""What a picture costs a model that reads it, from its config.json and processor. Nothing raises on any JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

PARTS = ("vision_config", "vision_tower_config", "visual")
WIDTHS = ("embed_dim", "hidden_size", "d_model", "width")
"""The first is meant: Qwen2-VL's hidden_size is the width of what reads."""
_MOST = 1 << 24
"""More patches than any picture has: what comes to more is no number to reckon with."""


def picture(config: Mapping[str, Any], processor: Mapping[str, Any]) -> dict[str, int]:
    """Of the largest one: `patches` that are looked at, `tokens` they become, `width` and `feed_forward` of what looks.

    Empty where config.json does not tell.
    *processor*: preprocessor_config.json, or the image processor's part of processor_config.json.
    """
    part = next((found for name in PARTS if isinstance(found := config.get(name), dict)), {})
    side = _first(part.get("patch_stride")) or _largest(part.get("patch_size"))
    width = next((found for name in WIDTHS if (found := _first(part.get(name)))), 0)
    if not side or not width:
        return {}
    merged = _merged(config, part)
    patches = _patches(part, processor, side)
    tiles = _tiles(config, part, processor)
    each = _whole(config.get("mm_tokens_per_image")) or patches // merged
    if not 0 < patches * tiles <= _MOST:
        return {}
    ratio = part.get("mlp_ratio")
    times = ratio if isinstance(ratio, int | float) and 0 < ratio <= 64 else 4
    forward = _largest(part.get("intermediate_size")) or int(width * times)
    return {"patches": patches * tiles, "tokens": max(each * tiles, 1), "width": width, "feed_forward": forward}


def _patches(part: Mapping[str, Any], processor: Mapping[str, Any], side: int) -> int:
    """Of one picture, or of one tile of it."""
    fixed = _largest(part.get("image_size"))
    size = processor.get("size")
    sizes = [_whole(value) for value in size.values()] if isinstance(size, dict) else []
    if "merge_size" in processor:  # Qwen2-VL and those that follow it: sizes are pixels in all
        return max([_whole(processor.get("max_pixels")), *sizes]) // side**2
    return (fixed or max(sizes, default=0)) ** 2 // side**2


def _merged(config: Mapping[str, Any], part: Mapping[str, Any]) -> int:
    """How many patches become one token."""
    names = ("spatial_merge_size", "scale_factor", "downsample_factor")
    along = max(_whole(found.get(name)) for found in (config, part) for name in names)
    strides = part.get("patch_stride")
    if not along and isinstance(strides, list):  # the later stages of Florence-2's DaViT
        along = prod(map(_whole, strides[1:]))
    ratio = config.get("downsample_ratio")
    if not along and isinstance(ratio, float) and 0.01 < ratio <= 1:
        along = round(1 / ratio)
    return max(along, 1) ** 2


def _tiles(config: Mapping[str, Any], part: Mapping[str, Any], processor: Mapping[str, Any]) -> int:
    """Pieces that a large picture is cut into, and the whole of it made smaller."""
    grid, fixed = config.get("image_grid_pinpoints"), _largest(part.get("image_size"))
    if isinstance(grid, list) and fixed:
        areas = [prod(map(_whole, one)) for one in grid if isinstance(one, list)]
        return max(areas, default=0) // fixed**2 + 1
    if processor.get("crop_to_patches") is True:
        return max(_whole(processor.get("max_patches")), 1) + 1
    whole, tile = (_edge(processor.get(name)) for name in ("size", "max_image_size"))
    return (whole // tile) ** 2 + 1 if tile and whole > tile else 1


def _edge(size: Any) -> int:
    return _whole(size.get("longest_edge")) if isinstance(size, dict) else 0


def _first(value: Any) -> int:
    """What a network of several stages begins with."""
    return _whole(next(iter(value), 0)) if isinstance(value, list) else _whole(value)


def _largest(value: Any) -> int:
    return max(map(_whole, value), default=0) if isinstance(value, Sequence) else _whole(value)


def _whole(value: Any) -> int:
    return value if type(value) is int and 0 < value < 1 << 40 else 0
