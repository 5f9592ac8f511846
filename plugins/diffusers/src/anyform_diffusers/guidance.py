"""How much the prompt counts, and what is not to be seen: which of a pipeline's arguments say it, and when none does.

Pipelines ignore some of them without a word: what would be ignored is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anyform.contract.errors import Unsupported
from anyform_diffusers import mode
from anyform_diffusers.wish import Wish

OFF = 1.0
"""Up to here a guidance means none: what is not to be seen is not even computed."""
_NOTHING = " "
"""A negative prompt that says nothing, for pipelines that guide only where one is given, as their authors use it."""


def arguments(view: Any, wish: Wish) -> dict[str, Any]:
    """What *view* is called with for *wish*'s guidance and negative prompt."""
    given: dict[str, Any] = {}
    if wish.negative:
        given["negative_prompt"] = wish.negative
    if wish.guidance is None:
        return given
    if not _contrasts(view):
        return given | {"guidance_scale": wish.guidance}
    return {"negative_prompt": _NOTHING} | given | {"true_cfg_scale": wish.guidance}


def check(view: Any, wish: Wish) -> None:
    """Raise Unsupported for what *view* would ignore."""
    if wish.guidance is not None and wish.guidance not in (0, OFF) and _distilled(view):
        raise Unsupported(
            f"guidance is {wish.guidance:g}, and this model was distilled to need none.",
            "Leave it out.",
            param="guidance_scale",
        )
    if wish.negative:
        _check_negative(view, wish)


def _check_negative(view: Any, wish: Wish) -> None:
    if "negative_prompt" not in mode.arguments(view) or not follows_negative(view):
        raise Unsupported(
            "This model takes no negative prompt.", "Say in the prompt what is to be seen.", param="negative_prompt"
        )
    guidance = default(view) if wish.guidance is None else wish.guidance
    if guidance is not None and guidance <= OFF:
        raise Unsupported(
            f"a negative prompt counts only with a guidance above {OFF:g}; this one is {guidance:g}.",
            "Ask for more guidance, or leave the negative prompt out.",
            param="negative_prompt",
        )


def default(view: Any) -> float | None:
    """The pipeline's own guidance; None: it does not say."""
    parameter = mode.arguments(view).get("true_cfg_scale" if _contrasts(view) else "guidance_scale")
    found = None if parameter is None else parameter.default
    return float(found) if isinstance(found, int | float) else None


def follows_negative(view: Any) -> bool:
    """Whether the network is asked twice a step, with the prompt and with the negative one."""
    if "true_cfg_scale" in mode.arguments(view):
        return _contrasts(view)
    return not _embeds_guidance(view)


def _contrasts(view: Any) -> bool:
    """Whether the scale of true classifier-free guidance is what such a pipeline is used with, as Qwen-Image's is."""
    parameter = mode.arguments(view).get("true_cfg_scale")
    return parameter is not None and isinstance(parameter.default, int | float) and parameter.default > OFF


def _distilled(view: Any) -> bool:
    """Whether the network has no input for a guidance, and is asked only once a step, as FLUX.1-schnell."""
    if "true_cfg_scale" not in mode.arguments(view) or _contrasts(view):
        return False
    return _config(view).get("guidance_embeds") is False


def _embeds_guidance(view: Any) -> bool:
    """Whether a UNet was distilled to read the guidance itself, as latent consistency models do."""
    return _config(view).get("time_cond_proj_dim") is not None


def _config(view: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(mode.denoiser(view), "config", None) or {}
    return found
