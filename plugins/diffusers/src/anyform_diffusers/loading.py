"""From a plan to a painter: the pipeline read, put where it is to lie, and tried once."""

from __future__ import annotations

import math
from typing import Any

from anyform.contract.errors import Fault, LoadFailed, OutOfMemory
from anyform.contract.facts import Plan
from anyform.contract.model import LoadedModel
from anyform.picture.backend import library
from anyform_diffusers import folderloading, lora, mode, placement, quiet, schedule
from anyform_diffusers.info import CHECKPOINT
from anyform_diffusers.memory import MAIN
from anyform_diffusers.mode import Mode
from anyform_diffusers.options import Options
from anyform_diffusers.painter import Facts, Painter
from anyform_diffusers.room import Room
from anyform_diffusers.wish import Wish

TRIED_BYTES = 4 << 30
"""Models up to here are tried with a small picture wherever they lie; larger ones would take long over it on a CPU, or
where each step fetches them from main memory."""
_TRIED_SIDE = 64
_FAMILIES = ("sd", "sd2", "sdxl", "sd3", "flux")


def load(plan: Plan, options: Options) -> LoadedModel:
    """The model, tried once. Raises Invalid, LoadFailed, OutOfMemory, Unsupported."""
    from anyform_diffusers.imagemodel import ImageModel

    made: LoadedModel = ImageModel(painter(plan, options), options)
    return made


def painter(plan: Plan, options: Options) -> Painter:
    """What paints with *plan*'s model. Raises Invalid, LoadFailed, OutOfMemory, Unsupported."""
    quiet.hush()
    place = placement.chosen(plan, options)
    pipe, read = _read(plan, options, place)
    told = lora.load(pipe, options.loras)
    runs_on = placement.apply(pipe, place)
    if options.compile:
        _compile(pipe)
    made = Painter(
        pipe,
        facts(plan, pipe, options),
        runs_on=runs_on,
        notes=(*place.notes, *read, *told),
        threads=options.threads,
        room=Room(plan.metadata.extra, place),
    )
    quick = place.device != MAIN and place.way.offload == "none"
    if quick or options.compile or (plan.metadata.weight_bytes or 0) <= TRIED_BYTES:
        _try(made, plan, options)
    return made


def facts(plan: Plan, pipe: Any, options: Options) -> Facts:
    """What *plan*'s metadata say, and where they are silent the pipeline itself."""
    said = plan.metadata.extra
    family, own = str(said.get("family", "")), type(pipe.scheduler).__name__
    side = _side(pipe)
    return Facts(
        name=plan.model,
        family=family,
        width=int(said.get("width") or side),
        height=int(said.get("height") or side),
        unit=math.lcm(int(said.get("unit") or 1), _unit(pipe)),
        steps=int(said.get("steps") or _steps(pipe)),
        guidance=0.0 if said.get("distilled") else None,  # theirs is of models that are not
        scheduler=own,
        schedulers=tuple(said.get("schedulers") or schedule.allowed(own, family)),
        loras=tuple(options.loras),
        extra=said,
    )


def _read(plan: Plan, options: Options, place: placement.Placement) -> tuple[Any, tuple[str, ...]]:
    """The pipeline in main memory, and what is to be said of it."""
    if plan.match.format == CHECKPOINT:
        from anyform_diffusers import checkpointloading

        return checkpointloading.read(plan, options, place.dtype)
    return folderloading.read(plan, place.dtype), ()


def _unit(pipe: Any) -> int:
    """What both sides must be multiples of in pixels, so that no pipeline refuses or rounds them.

    Source: `check_inputs` of diffusers' pipelines: 8, or the VAE's factor; where latents are put together in patches,
    the patch's side of them.
    """
    factor = int(getattr(pipe, "vae_scale_factor", 8))
    if hasattr(pipe, "_pack_latents"):
        return math.lcm(8, 2 * factor)
    patch = getattr(getattr(mode.denoiser(pipe), "config", None), "patch_size", None)
    return math.lcm(8, factor * patch if isinstance(patch, int) else factor)


def _side(pipe: Any) -> int:
    """Of the square that the network was trained for, in pixels."""
    size = getattr(getattr(mode.denoiser(pipe), "config", None), "sample_size", None)
    size = size if isinstance(size, int) else getattr(pipe, "default_sample_size", 64)
    unit = _unit(pipe)
    return max(unit, int(size) * int(getattr(pipe, "vae_scale_factor", 8)) // unit * unit)


def _steps(pipe: Any) -> int:
    parameter = mode.arguments(pipe).get("num_inference_steps")
    return parameter.default if parameter is not None and isinstance(parameter.default, int) else 50


def _compile(pipe: Any) -> None:
    """Compile the network of the steps in place: views and add-ons go on with the same module."""
    network = mode.denoiser(pipe)
    if network is not None:
        network.compile()


def _try(made: Painter, plan: Plan, options: Options) -> None:
    """Have a small picture's step painted, so that what cannot work is told now. Raises LoadFailed, OutOfMemory."""
    if made.facts.family not in _FAMILIES:
        return
    side = math.lcm(_TRIED_SIDE, made.facts.unit)
    kind = made.modes[0]
    blank = library().new("RGB", (side, side))
    wish = Wish(
        prompt="a",
        width=side,
        height=side,
        steps=2,
        strength=None if kind is Mode.TEXT else 1.0,
        picture=None if kind is Mode.TEXT else blank,
        mask=library().new("L", (side, side), 255) if kind is Mode.MASK else None,
    )
    try:
        made.paint(wish, [0], lambda done, latents: None)
    except OutOfMemory:
        raise
    except Fault as error:
        compiled = " Its network was compiled: try without the option compile." if options.compile else ""
        raise LoadFailed(
            f"{plan.model} was read, and could not paint: {error.message}{compiled}", "See whether its files are whole."
        ) from error
