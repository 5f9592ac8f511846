"""Unfinished latents as pictures, decoded as the pipelines do at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from anyform_diffusers.backend import torch
from anyform_diffusers.wish import Wish

_SHIFTLESS = ("StableDiffusion3InpaintPipeline", "StableDiffusion3ControlNetInpaintingPipeline")
"""Pipelines that do not add the VAE's shift at the end."""


def able(pipe: Any) -> bool:
    """Whether the latents of *pipe* can be decoded here: those of video VAEs and of several stages cannot."""
    config: Mapping[str, Any] = getattr(getattr(pipe, "vae", None), "config", None) or {}
    return isinstance(config.get("scaling_factor"), float | int) and hasattr(pipe, "image_processor")


def decoded(view: Any, wish: Wish, latents: Any) -> list[Any]:
    """One PIL.Image for each of *latents*, of the size of *wish*. The latents stay as they are."""
    with torch.no_grad(), _widened(view) as vae:
        if latents.ndim == 3:
            latents = view._unpack_latents(latents, wish.height, wish.width, view.vae_scale_factor)
        pictures = vae.decode(_scaled(view, latents.to(vae.dtype)), return_dict=False)[0]
        return list(view.image_processor.postprocess(pictures, output_type="pil"))


def _scaled(view: Any, latents: Any) -> Any:
    """*latents* as the VAE decodes them. Source: the ends of diffusers' pipelines."""
    config = view.vae.config
    mean, deviation = config.get("latents_mean"), config.get("latents_std")
    if mean is not None and deviation is not None:
        sides = (1, -1, 1, 1)
        mean, deviation = (torch.tensor(one).view(sides).to(latents) for one in (mean, deviation))
        return latents * deviation / config.scaling_factor + mean
    shift = config.get("shift_factor")
    scaled = latents / config.scaling_factor
    return scaled if shift is None or type(view).__name__ in _SHIFTLESS else scaled + shift


@contextmanager
def _widened(view: Any) -> Iterator[Any]:
    """The VAE, in float32 where it overflows in float16; afterwards as it was, and where it lay."""
    vae = view.vae
    narrow, place = vae.dtype, vae.device
    if narrow == torch.float16 and vae.config.get("force_upcast"):
        vae.to(dtype=torch.float32)
    try:
        yield vae
    finally:
        if vae.dtype != narrow:
            vae.to(dtype=narrow)
        if vae.device != place:  # decoding fetched it from main memory, where it is to wait
            vae.to(place)
