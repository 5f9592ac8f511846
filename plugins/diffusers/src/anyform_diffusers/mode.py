"""The three ways to ask a pipeline: by text, with a picture, with a picture and a mask. All on the same modules."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Any

from anyform.contract.errors import Unsupported
from anyform_diffusers.backend import diffusers
from anyform_diffusers.wish import Wish


class Mode(StrEnum):
    """How a wish is asked for; the value says it in a sentence."""

    TEXT = "pictures from text alone"
    PICTURE = "pictures from another picture"
    MASK = "repainting what a mask shows"

    @classmethod
    def of(cls, wish: Wish) -> Mode:
        """The one that *wish* is for, by the pictures that it has."""
        if wish.picture is None:
            return cls.TEXT
        return cls.PICTURE if wish.mask is None else cls.MASK


_PICTURES = frozenset({"image", "mask_image"})
_NEEDS: Mapping[Mode, frozenset[str]] = {
    Mode.TEXT: frozenset({"width", "height"}),
    Mode.PICTURE: frozenset({"image"}),
    Mode.MASK: _PICTURES,
}
"""Arguments that a call has in each mode, beside the prompt."""
_FOREIGN = frozenset({"control_image", "controlnet_conditioning_scale", "num_frames"})
"""Arguments of calls that need more than a wish has, or make no pictures."""


def views(pipe: Any) -> dict[Mode, Any]:
    """A pipeline for each mode that *pipe*'s modules are enough for. None of them loads, casts or moves anything."""
    linked = {mode: _linked(pipe, mode) for mode in Mode}
    if not any(linked.values()):
        linked = {mode: pipe for mode in Mode if _asks(pipe) & _PICTURES == _NEEDS[mode] & _PICTURES}
    return {mode: view for mode, view in linked.items() if view is not None and _fits(view, mode)}


def chosen(views: Mapping[Mode, Any], mode: Mode) -> Any:
    """The view for *mode*. Raises Unsupported, with what the model does instead."""
    if mode in views:
        return views[mode]
    raise Unsupported(f"This model does no {mode.value}.", f"What it does: {'; '.join(sorted(views))}.")


def for_request(view: Any, scheduler: Any) -> Any:
    """*view* with a *scheduler* of its own. Modules are shared; what a request sets is seen by no other."""
    made = copy.copy(view)
    made.scheduler = scheduler
    made.set_progress_bar_config(disable=True)
    return made


def arguments(view: Any) -> Mapping[str, inspect.Parameter]:
    """What a call of *view* takes, by name."""
    kind: Any = type(view)
    return _parameters(kind)


def denoiser(pipe: Any) -> Any:
    """The network that is run at each step; None: a pipeline of another make."""
    return getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)


@lru_cache(maxsize=64)
def _parameters(kind: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(kind.__call__).parameters


def _asks(view: Any) -> frozenset[str]:
    return frozenset(arguments(view))


def _linked(pipe: Any, mode: Mode) -> Any:
    """The pipeline that diffusers links to *pipe* for *mode*, on the same modules; None: there is none."""
    auto = {
        Mode.TEXT: diffusers.AutoPipelineForText2Image,
        Mode.PICTURE: diffusers.AutoPipelineForImage2Image,
        Mode.MASK: diffusers.AutoPipelineForInpainting,
    }[mode]
    try:
        return auto.from_pipe(pipe)
    except ValueError:  # it says that no class is linked, or that a module is missing
        return None


def _fits(view: Any, mode: Mode) -> bool:
    """Whether *view* can be given what *mode* has, and its network is one that was trained for that."""
    asks = _asks(view)
    if "prompt" not in asks or not _NEEDS[mode] <= asks or asks & _FOREIGN:
        return False
    if mode is Mode.TEXT:
        return not _repaints_only(view) and not _refines_only(view)
    return mode is Mode.MASK or not _repaints_only(view)


def _repaints_only(view: Any) -> bool:
    """Whether the network reads a mask and the masked picture beside the noise, as inpainting models do.

    Source: diffusers' inpainting pipelines, which know 4 or 9 channels of Stable Diffusion and 16 or 33 of SD3.
    """
    channels = getattr(getattr(denoiser(view), "config", None), "in_channels", None)
    latent = getattr(getattr(getattr(view, "vae", None), "config", None), "latent_channels", None)
    return isinstance(latent, int) and channels == 2 * latent + 1


def _refines_only(view: Any) -> bool:
    """Whether it is SDXL's refiner, which finishes pictures that another model began."""
    config = view.config
    return bool(config.get("requires_aesthetics_score") or config.get("_requires_aesthetics_score"))
