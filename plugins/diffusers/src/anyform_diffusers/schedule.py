"""Schedulers: which of them a family of models can use, what people call them, and a fresh one for each request.

A scheduler says at which levels of noise the network is asked, and what is made of its answers. Those of a family all
ask in the way that its models were trained for. The table needs no engine; only `made` does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from anyform.contract.errors import Invalid

DISCRETE = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
)
"""For models that tell the noise (or v) at one of 1000 steps: diffusers' `compatibles`, less DPMSolverSDEScheduler,
which needs a package that is not among the plugin's, and EDMEulerScheduler, which is for models trained otherwise; and
three that diffusers leaves out there though they do the same."""
EDM = ("EDMDPMSolverMultistepScheduler", "EDMEulerScheduler")
"""For models that are trained as in https://arxiv.org/abs/2206.00364, such as Playground 2.5."""
FLOW = ("FlowMatchEulerDiscreteScheduler", "FlowMatchLCMScheduler")
"""For models that tell the velocity from noise to picture. Others either refuse the levels of noise that pipelines name
themselves, or cannot begin at a picture."""
HEUN = "FlowMatchHeunDiscreteScheduler"
"""Where the pipeline leaves the levels of noise to the scheduler."""

_FAMILIES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "sd": (DISCRETE, EDM),
    "sd2": (DISCRETE, EDM),
    "sdxl": (DISCRETE, EDM),
    "sdxl-refiner": (DISCRETE, EDM),
    "sd3": ((*FLOW[:1], HEUN, *FLOW[1:]),),
    "flux": (FLOW,),
}
"""Groups of a family: within one a model may use all."""

Changes = Mapping[str, Any]


class Choice(NamedTuple):
    """What a name of a scheduler means."""

    scheduler: str
    """The class of diffusers; empty: the model's own."""
    changes: Changes
    """What differs from the model's configuration."""
    name: str
    """The one name for it: the class, or where there are changes the short name with its form."""


def allowed(scheduler: str, family: str) -> tuple[str, ...]:
    """Classes that a model of *family* whose own is *scheduler* can be run with, in all three tasks; its own at least.

    Of families that are not known here, and of schedulers that no group has: its own alone.
    """
    return next((group for group in _FAMILIES.get(family, ()) if scheduler in group), (scheduler,))


def resolve(name: str, allowed: Sequence[str]) -> Choice:
    """What *name* means among the classes *allowed*: one of them, with or without "Scheduler", or what user interfaces
    call it, such as `euler_a` or `DPM++ 2M Karras`. Empty: the model's own.

    Raises Invalid that names the nearest, and in its hint all.
    """
    if not name:
        return Choice("", _NONE, "")
    word = _plain(name)
    for one in allowed:
        if word in (_plain(one), _plain(one.removesuffix("Scheduler"))):
            return Choice(one, _NONE, one)
    for ending, change in _ENDINGS.items():
        found = _short(word.removesuffix(_plain(ending)), allowed) if word.endswith(_plain(ending)) else None
        if found is not None and (not ending or found.scheduler in _SUPPORT[ending]):
            changes = {**found.changes, **change}
            return Choice(found.scheduler, changes, f"{found.name}{ending}" if changes else found.scheduler)
    every = {_plain(one): one for one in (*allowed, *names(allowed))}
    near = [every[one] for one in get_close_matches(word[:_LONGEST], every, n=3, cutoff=0.4)]
    told = f" Near it: {', '.join(near)}." if near else ""
    raise Invalid(
        f"scheduler {name[:_LONGEST]!r} is none that this model has.{told}",
        f"It has {', '.join(allowed)}; in short {', '.join(short(allowed))}; most of them also with "
        f"{' or '.join(_TOLD)} at the end. `anyform show` lists all.",
        param="scheduler",
        allowed=list(allowed),
    )


def canonical(name: str, allowed: Sequence[str]) -> str:
    """The one name for what *name* means, so that equal wishes are equal. Raises Invalid."""
    return resolve(name, allowed).name


def short(allowed: Sequence[str]) -> tuple[str, ...]:
    """Short names that mean something among the classes *allowed*, without those of their forms (`_karras`)."""
    return tuple(name for name, meaning in _NAMES.items() if any(one in allowed for one, _ in meaning))


def names(allowed: Sequence[str]) -> tuple[str, ...]:
    """Short names with those of their forms, such as `euler`, `euler_karras`: all that are told of."""
    meant = {name: next(one for one, _ in _NAMES[name] if one in allowed) for name in short(allowed)}
    return tuple(
        f"{name}{ending}"
        for name, scheduler in meant.items()
        for ending in ("", *_TOLD)
        if not ending or scheduler in _SUPPORT[ending]
    )


def made(config: Mapping[str, Any], name: str, allowed: Sequence[str] = (), generators: Any = None) -> Any:
    """A fresh scheduler of the class that *name* means, from the model's own configuration *config*.

    *allowed*: as of resolve; empty: all that are known. *generators*: what a scheduler that adds noise at each step is
    to take it from: some pipelines do not hand theirs on, and pictures could not be made again. Raises Invalid.
    """
    from anyform_diffusers.backend import diffusers

    own = str(config["_class_name"])
    choice = resolve(name, allowed or (own, *DISCRETE, *EDM, *FLOW, HEUN))
    needed = _NEEDED.get(choice.scheduler, _NONE) if choice.scheduler != own else _NONE
    others = _NO_FORM if choice.changes.keys() & _NO_FORM.keys() else _NONE
    try:
        scheduler = getattr(diffusers, choice.scheduler or own).from_config(
            config, **{**needed, **others, **choice.changes}
        )
    except (NotImplementedError, TypeError, ValueError) as error:
        raise Invalid(
            f"scheduler {choice.name or own} cannot be made from this model's configuration: {error}.",
            "Choose another scheduler.",
            param="scheduler",
        ) from error
    if generators is not None and type(scheduler).__name__ in _NOISY:
        scheduler.step = partial(scheduler.step, generator=generators)
    return scheduler


def check(config: Mapping[str, Any], name: str, allowed: Sequence[str], steps: int) -> None:
    """Raise Invalid where *name* means none, or one that cannot do so many *steps*."""
    scheduler = resolve(name, allowed).scheduler or str(config.get("_class_name", ""))
    said = config.get("original_inference_steps")
    most = said if isinstance(said, int) and said > 0 else 50
    if scheduler in _DISTILLED and steps > most:
        raise Invalid(
            f"{scheduler} cannot do {steps} steps: this model's has {most} at most.",
            f"Ask for {most} or fewer (4 to 8 are usual), or for another scheduler.",
            param="num_inference_steps",
        )


_LONGEST = 100
"""Letters of a name that are said back."""
_NONE: Changes = MappingProxyType({})
_NEEDED: Mapping[str, Changes] = {"PNDMScheduler": MappingProxyType({"skip_prk_steps": True})}
"""What a class must be told where it is not the model's own: as Stable Diffusion's own configuration tells PNDM, which
cannot do few steps else."""
_NO_FORM: Changes = MappingProxyType(
    dict.fromkeys(("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"), False)
)
"""A scheduler can be told one of these, and the model's own configuration may have another."""
_NOISY = frozenset({"FlowMatchLCMScheduler"})
_DISTILLED = ("LCMScheduler", "TCDScheduler")


def _plain(name: str) -> str:
    """`DPM++ 2M`, `dpm++_2m`, `dpmpp-2m`: all `dpmpp2m`."""
    return re.sub(r"[\s_.\-]+", "", name.lower().replace("++", "pp"))


def _short(word: str, allowed: Sequence[str]) -> Choice | None:
    name = _SPELT.get(word) or _SPELT.get(word.removeprefix("k"), "")
    return next((Choice(one, changes, name) for one, changes in _NAMES.get(name, ()) if one in allowed), None)


_SDE: Changes = MappingProxyType({"algorithm_type": "sde-dpmsolver++"})
_NAMES: Mapping[str, tuple[tuple[str, Changes], ...]] = {
    "ddim": (("DDIMScheduler", _NONE),),
    "ddpm": (("DDPMScheduler", _NONE),),
    "deis": (("DEISMultistepScheduler", _NONE),),
    "dpm++_2m": (("DPMSolverMultistepScheduler", _NONE), ("EDMDPMSolverMultistepScheduler", _NONE)),
    "dpm++_2m_sde": (("DPMSolverMultistepScheduler", _SDE),),
    "dpm++_3m": (("DPMSolverMultistepScheduler", {"solver_order": 3}),),
    "dpm++_2s": (("DPMSolverSinglestepScheduler", _NONE),),
    "dpm++_sde": (("DPMSolverSinglestepScheduler", _SDE),),
    "dpm2": (("KDPM2DiscreteScheduler", _NONE),),
    "dpm2_a": (("KDPM2AncestralDiscreteScheduler", _NONE),),
    "euler": tuple((one, _NONE) for one in ("EulerDiscreteScheduler", "EDMEulerScheduler", FLOW[0])),
    "euler_a": (("EulerAncestralDiscreteScheduler", _NONE),),
    "heun": (("HeunDiscreteScheduler", _NONE), (HEUN, _NONE)),
    "lcm": (("LCMScheduler", _NONE), ("FlowMatchLCMScheduler", _NONE)),
    "lms": (("LMSDiscreteScheduler", _NONE),),
    "pndm": (("PNDMScheduler", _NONE),),
    "sa_solver": (("SASolverScheduler", _NONE),),
    "tcd": (("TCDScheduler", _NONE),),
    "unipc": (("UniPCMultistepScheduler", _NONE),),
}
"""As stable-diffusion-webui, ComfyUI and stable-diffusion.cpp call them; what each is in diffusers:
https://huggingface.co/docs/diffusers/api/schedulers/overview"""
_ALSO = {
    "euler_ancestral": "euler_a",
    "dpm_2": "dpm2",
    "dpm_2_ancestral": "dpm2_a",
    "dpm2_ancestral": "dpm2_a",
    "dpm_2_a": "dpm2_a",
    "plms": "pndm",
    "uni_pc": "unipc",
}
"""Other spellings; all of them may begin with `k_`, as k-diffusion's do."""
_SPELT = {_plain(name): name for name in _NAMES} | {_plain(other): name for other, name in _ALSO.items()}

_ENDINGS: Mapping[str, Changes] = {
    "": _NONE,
    "_karras": MappingProxyType({"use_karras_sigmas": True}),
    "_exponential": MappingProxyType({"use_exponential_sigmas": True}),
    "_trailing": MappingProxyType({"timestep_spacing": "trailing"}),
    "_sgm_uniform": MappingProxyType({"timestep_spacing": "trailing"}),
}
"""Forms of a scheduler: how the levels of noise are spaced."""
_TOLD = ("_karras", "_exponential", "_trailing")
"""Those that are told of; the other is one of them by another name."""
_SIGMAS = (
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "SASolverScheduler",
    "UniPCMultistepScheduler",
    *FLOW,
)
_SPACED = tuple(one for one in DISCRETE if one != "DPMSolverSinglestepScheduler")
_SUPPORT: Mapping[str, tuple[str, ...]] = {
    "_karras": _SIGMAS,
    "_exponential": _SIGMAS,
    "_trailing": _SPACED,
    "_sgm_uniform": _SPACED,
}
