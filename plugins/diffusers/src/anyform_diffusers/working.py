"""How many bytes the parts of a pipeline hold while they compute, beside their weights. Pure; sizes from shape.py.

The formulas count arrays that the forward passes of diffusers' models have alive at once (resnet.py, attention.py,
vae.py of diffusers 0.42). How many that is was fitted to the VmHWM of processes that ran one part (torch 2.13 for
CPUs, oneDNN, Linux, x86), so that what engines copy for themselves is in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

RGB = 3
DECODED = 4.3
"""Arrays of pixels x channels of the VAE's widest layer at a picture's size."""
ATTENDING, PLAIN = 32.0, 26.0
"""Arrays of latents x channels of a UNet's first level: all levels' own, those kept for the way up, and attention, if
the first level attends."""
JOINT, SINGLE = 19.0, 23.0
"""Arrays of tokens x width of a transformer's block; where there are blocks that attend and feed forward at once."""
TEXT = 8.0
"""The same of an encoder of texts, beside its feed-forward."""
TILED = 4.0
"""Pictures in floats that tiles are put together from: overlapping, in rows, and whole."""
KERNEL = 9
"""Weights of a convolution of 3 x 3, which engines put in another order each time."""
HOLES_BYTES = 96 << 20
"""In a heap where arrays of many sizes come and go; no more than those take. Larger arrays (32 MiB, mallopt(3)) are
mapped one by one, and leave none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Of the pictures that are computed together."""

    width: int
    height: int
    pictures: int = 1
    guided: bool = True
    """Whether each step computes them twice: with the prompt, and with the negative one."""

    @property
    def pixels(self) -> int:
        return self.width * self.height


def vae_factor(shape: Mapping[str, Any]) -> int:
    """Pixels along a side for each of the latents'."""
    return int(2 ** max(len(_levels(shape.get("vae", {}))) - 1, 0))


def text_bytes(shape: Mapping[str, Any], size: Size, each: int) -> int:
    """Of the encoder of texts that takes most: its layer's arrays, and the scores of all tokens with each other."""
    rows = 2 if size.guided else 1
    most = 0
    for text in shape.get("texts", ()):
        tokens = text["tokens"]
        held = 2 * text["feed_forward"] + TEXT * text["width"] + 3 * text["heads"] * tokens
        most = max(most, round(rows * tokens * held * each))
    return most


def step_bytes(shape: Mapping[str, Any], size: Size, each: int) -> int:
    """Of one step of the network that takes noise away."""
    network = shape.get("denoiser", {})
    rows = size.pictures * (2 if size.guided else 1)
    places = size.pixels // vae_factor(shape) ** 2
    if network.get("kind") == "unet":
        return _unet_bytes(network, rows * places, each)
    tokens = places // max(network.get("patch", 1), 1) ** 2 + network.get("tokens", 0)
    arrays = SINGLE if network.get("single") else JOINT
    return _with_holes(rows * tokens * network.get("width", 0) * arrays * each)


def _unet_bytes(network: Mapping[str, Any], places: int, each: int) -> int:
    channels = _levels(network)
    if not channels:
        return 0
    widest = 2 * max(channels) ** 2  # on the way up, where what was kept is put beside
    arrays = ATTENDING if network.get("attends", [True])[:1] == [True] else PLAIN
    return _with_holes(arrays * places * channels[0] * each) + KERNEL * widest * each


def decode_bytes(
    shape: Mapping[str, Any], size: Size, each: int, *, slicing: bool = False, tiling: bool = False
) -> int:
    """Of latents that become pictures; in slices one after the other, in tiles part by part."""
    vae = shape.get("vae", {})
    channels = _levels(vae)
    tile = min(vae.get("sample", size.pixels**0.5) ** 2, size.pixels) if tiling else size.pixels
    pieces = TILED * size.pictures * size.pixels * RGB * each if tile < size.pixels else 0.0
    held = (1 if slicing else size.pictures) * tile * max(channels[:2], default=0) * DECODED * each
    return _with_holes(held) + round(pieces) + KERNEL * max(channels, default=0) ** 2 * each


def _with_holes(held: float) -> int:
    return round(held + min(held, HOLES_BYTES))


def _levels(part: Mapping[str, Any]) -> Sequence[int]:
    levels: Sequence[int] = part.get("channels") or ()
    return levels
