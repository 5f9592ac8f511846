"""One call of a pipeline: its arguments from wishes, by what its signature takes."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from anyform.contract.errors import Fault, Invalid, Unsupported
from anyform_diffusers import guidance, mode, prompt
from anyform_diffusers.wish import Wish

Told = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]
"""As diffusers calls it after each step."""
_EACH = ("prompt", "negative_prompt", "image", "mask_image")
"""Arguments of which each picture has its own."""
_NAMES = {"num_inference_steps": "steps", "guidance_scale": "guidance", "true_cfg_scale": "guidance"}
"""What users call arguments, where that differs."""


def painted(view: Any, wishes: Sequence[Wish], generators: Sequence[Any], told: Told) -> list[Any]:
    """One PIL.Image for each of *wishes*, which are of one shape and differ in texts and pictures alone."""
    given = together(view, wishes)
    given["generator"] = generators[0] if len(generators) == 1 else list(generators)
    given |= _telling(mode.arguments(view), told)
    made = view(**given, output_type="pil")
    flags = getattr(made, "nsfw_content_detected", None) or ()
    for picture, flag in zip(made.images, flags, strict=False):
        if flag:
            picture.info["flagged"] = True
    return list(made.images)


def tells(view: Any) -> bool:
    """Whether a call of *view* says when a step is done."""
    return bool(_telling(mode.arguments(view), lambda view, place, time, tensors: tensors))


def together(view: Any, wishes: Sequence[Wish]) -> dict[str, Any]:
    """The arguments for *wishes*: as of one where there is one, and where several say the same it is read once."""
    single = [arguments(view, wish) for wish in wishes]
    given, count = dict(single[0]), len(wishes)
    if count == 1:
        return given
    pictures = [name for name in _EACH[2:] if name in given]
    texts = [name for name in _EACH[:2] if any(name in one for one in single)]
    given |= {name: [one[name] for one in single] for name in pictures}
    if "num_images_per_prompt" in mode.arguments(view) and all(_same(single[0], one, texts) for one in single):
        return given | {"num_images_per_prompt": count}
    return given | {name: [one.get(name, "") for one in single] for name in texts}


def arguments(view: Any, wish: Wish) -> dict[str, Any]:
    """What *view* is called with for *wish*, without generators and callbacks."""
    takes = mode.arguments(view)
    given: dict[str, Any] = {"prompt": wish.prompt, "num_inference_steps": wish.steps}
    given |= {name: side for name, side in (("width", wish.width), ("height", wish.height)) if name in takes}
    given |= guidance.arguments(view, wish)
    more = {"image": wish.picture, "mask_image": wish.mask, "strength": wish.strength}
    return given | {name: value for name, value in more.items() if value is not None}


def check(view: Any, wish: Wish) -> None:
    """Raise Invalid, ContextExceeded or Unsupported for what *view* would refuse, cut or ignore."""
    guidance.check(view, wish)
    missing = sorted(arguments(view, wish).keys() - mode.arguments(view).keys())
    if missing:
        name = _NAMES.get(missing[0], missing[0])
        raise Unsupported(f"This model takes no {name} ({type(view).__name__}).", "Leave it out.", param=missing[0])
    if wish.steps < 1:
        raise Invalid(f"steps is {wish.steps}.", "It must be 1 or more.", param="num_inference_steps")
    if wish.strength is not None and not 0 < wish.strength <= 1:
        raise Invalid(f"strength is {wish.strength:g}.", "It must be above 0, to 1.", param="strength")
    if steps(view, wish) < 1:
        share = strength(view, wish) or 1
        least = math.ceil(1000 / wish.steps) / 1000
        raise Invalid(
            f"a strength of {share:g} leaves none of {wish.steps} steps.",
            f"Ask for a strength of {least:g} or more, or for {math.ceil(1 / share)} steps.",
            param="strength",
        )
    prompt.check(view, wish)


def strength(view: Any, wish: Wish) -> float | None:
    """The one that counts; None: this kind of call has none."""
    parameter = mode.arguments(view).get("strength")
    if parameter is None:
        return None
    return float(parameter.default) if wish.strength is None else wish.strength


def steps(view: Any, wish: Wish) -> int:
    """How often *view* would call back: its scheduler's times, less those that a strength below 1 skips.

    Some schedulers ask the network more than once a step. Raises Invalid for numbers that the scheduler refuses.
    """
    scheduler = view.scheduler
    more = {"mu": 1.0} if scheduler.config.get("use_dynamic_shifting") else {}  # of no account for how many
    try:
        scheduler.set_timesteps(wish.steps, **more)
        return _left(view, wish)
    except Fault:
        raise
    except Exception as error:  # schedulers divide and index by the number as they like
        raise Invalid(
            f"{type(scheduler).__name__} cannot do {wish.steps} steps: {error}.",
            "Ask for another number of them, or for another scheduler.",
            param="num_inference_steps",
        ) from error


def _telling(takes: Mapping[str, Any], told: Told) -> dict[str, Any]:
    """The arguments by which a pipeline calls *told*; those of older pipelines know no more than the latents."""
    if "callback_on_step_end" in takes:
        return {"callback_on_step_end": told}
    if {"callback", "callback_steps"} <= takes.keys():
        return {
            "callback": lambda place, time, latents: told(None, place, time, {"latents": latents}),
            "callback_steps": 1,
        }
    return {}


def _left(view: Any, wish: Wish) -> int:
    share = strength(view, wish)
    if share is None:
        return len(view.scheduler.timesteps)
    if not hasattr(view, "get_timesteps"):
        return min(int(wish.steps * share), wish.steps)
    more = {"device": "cpu"} if "device" in inspect.signature(view.get_timesteps).parameters else {}
    found = view.get_timesteps(wish.steps, share, **more)
    times, left = found if isinstance(found, tuple) else (found, len(found))
    return len(times) if left > 0 else 0  # some schedulers have times left where none of the steps is


def _same(one: dict[str, Any], other: dict[str, Any], names: Sequence[str]) -> bool:
    return all(one.get(name) == other.get(name) for name in names)
