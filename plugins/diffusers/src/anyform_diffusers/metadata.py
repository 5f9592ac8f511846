"""What a pipeline, a single file or an add-on says of itself, as `Metadata`: JSON and headers; no weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import lcm
from typing import Any

from anyform.contract.facts import FormatMatch, Metadata, ModelFiles
from anyform.pretrained import facts, safetensors
from anyform.pretrained.layout import CONFIG, folder_of
from anyform.pretrained.safetensors import Tensor
from anyform_diffusers import addon, checkpoint, family, layout, schedule, shape
from anyform_diffusers.checkpoint import Checkpoint
from anyform_diffusers.detection import dominant
from anyform_diffusers.info import FOLDER, LORA
from anyform_diffusers.layout import Part
from anyform_diffusers.shape import DENOISERS

SIDES: Mapping[str, int] = {"sd": 512, "sd2": 768, "lcm": 768}
SIDE = 1024
"""The size that models of families other than SIDES were trained for, where they do not say."""
MOST_SIDE = 1 << 14
FLUX_LATENT_SIDE = 128
"""FluxPipeline's default_sample_size: its network does not say for which size it was trained."""
STEPS: Mapping[str, int] = {"sd": 50, "sd2": 50, "sdxl": 50, "sdxl-refiner": 50, "sd3": 28, "flux": 28, "lcm": 4}
"""What the pipelines take where they are not told."""
FEW_STEPS = 4
"""Of models that are distilled."""
CONSISTENT_STEPS: Mapping[str, int] = {"LCMScheduler": 8, "TCDScheduler": 8}
"""Of models whose own scheduler is made for consistency distillation: papers and pipelines take 4 to 8."""
GUIDANCE: Mapping[str, float] = {"sd": 7.5, "sd2": 7.5, "sdxl": 5.0, "sdxl-refiner": 5.0, "sd3": 7.0, "flux": 3.5}
SCHEDULERS: Mapping[str, str] = {
    "sd": "PNDMScheduler",
    "sd2": "DDIMScheduler",
    "sdxl": "EulerDiscreteScheduler",
    "sdxl-refiner": "EulerDiscreteScheduler",
    "sd3": "FlowMatchEulerDiscreteScheduler",
    "flux": "FlowMatchEulerDiscreteScheduler",
}
"""What the configurations of single files name."""
PATCHED = ("flux", "sd3", "qwen-image", "z-image", "chroma")
"""Families whose network takes squares of latent places; Flux's and its kin's are 2 wide, whatever patch_size says."""


def extract(files: ModelFiles, match: FormatMatch) -> Metadata:
    """Metadata of a match; fields that the files do not tell are None or empty, also in a broken folder.

    `extra` has `kind` (pipeline, checkpoint, addon) and `family`; of models also pipeline (class), components (by name:
    library, class and, where it has weights, bytes and parameters), width, height, unit (sides are multiples of it),
    steps, guidance, distilled, scheduler, schedulers (those that may be chosen), scheduler_names (short ones), dtype,
    latent_channels, inpainting (reads a mask at each step), shape (what memory depends on: see shape.py), file_variant
    (fp16); of single files missing (parts that are not in it) and repository (whose configurations fit); of add-ons
    rank, alpha, targets.
    """
    if match.format == LORA:
        return _addon(files, match)
    if match.entry == CONFIG:
        return Metadata(name=match.name, weight_bytes=_file_bytes(files, match), extra={"kind": "part"})
    return _pipeline(files, match) if match.format == FOLDER else _checkpoint(files, match)


def _pipeline(files: ModelFiles, match: FormatMatch) -> Metadata:
    root = folder_of(match.entry)
    index = files.json(match.entry)
    parts = layout.parts(index)
    configs = {part.name: layout.config(files, root, part) for part in parts}
    tensors = {part.name: _tensors(files, match, root, part) for part in parts if part.has_weights}
    name = of(index, configs)
    pipeline = layout.pipeline(index)
    network = next((configs[one] for one in DENOISERS if one in configs), {})
    latent = _whole(configs.get("vae", {}).get("latent_channels")) or 4
    channels = _whole(network.get("in_channels"))
    inpainting = name in ("sd", "sd2", "sdxl") and channels == 2 * latent + 1
    scheduler = next((part.kind for part in parts if part.name == "scheduler"), "")
    distilled = _is_distilled(name, scheduler, configs.get("scheduler", {}), network)
    extra = {
        "kind": "pipeline",
        "pipeline": pipeline,
        "components": {part.name: _component(part, tensors.get(part.name)) for part in parts},
        "latent_channels": latent if "vae" in configs else None,
        "inpainting": inpainting or None,
        "file_variant": layout.file_variant(match.files),
    }
    doing = family.REPAINTING if inpainting else family.CHANGING if name == "sdxl-refiner" else family.tasks(pipeline)
    return _metadata(
        files, match, name, doing, configs, [one for found in tensors.values() for one in found],
        _denoising(tensors), scheduler, distilled, extra, facts.said(index.get("_diffusers_version")),
    )  # fmt: skip


def of(index: Mapping[str, Any], configs: Mapping[str, Mapping[str, Any]]) -> str:
    """The family of a pipeline: its class says it, and of Stable Diffusion what its text encoder says."""
    name = family.family(layout.pipeline(index))
    if name == "sd" and configs.get("unet", {}).get("cross_attention_dim") == 1024:
        return "sd2"
    if name == "sdxl" and index.get("requires_aesthetics_score") is True:
        return "sdxl-refiner"
    return name or "other"


def _checkpoint(files: ModelFiles, match: FormatMatch) -> Metadata:
    tensors = safetensors.header(files, match.entry).tensors
    found = checkpoint.recognise(tensors) or Checkpoint(family="", stranger="unknown")
    parts = {part: checkpoint.of_part(found, part, tensors) for part in found.parts}
    configs = checkpoint.configs(found, tensors)
    latent = _whole(configs.get("vae", {}).get("latent_channels")) or (16 if found.family in ("sd3", "flux") else 4)
    extra = {
        "kind": "checkpoint",
        "pipeline": found.pipeline,
        "components": {
            part: {"library": "", "class": "", "bytes": sum(map(_size, own)), "parameters": sum(map(_elements, own))}
            for part, own in parts.items()
        },
        "missing": list(found.missing),
        "repository": found.repository,
        "latent_channels": latent,
        "inpainting": (found.tasks == family.REPAINTING) or None,
    }
    return _metadata(
        files, match, found.family or "other", found.tasks, configs, tensors, _denoising(parts),
        SCHEDULERS.get(found.family, ""), found.distilled, extra, "",
    )  # fmt: skip


def _metadata(
    files: ModelFiles,
    match: FormatMatch,
    name: str,
    doing: tuple[str, ...],
    configs: Mapping[str, Mapping[str, Any]],
    tensors: Sequence[Tensor],
    denoising: Sequence[Tensor],
    scheduler: str,
    distilled: bool,
    extra: Mapping[str, Any],
    version: str,
) -> Metadata:
    """What folders and single files have in common."""
    dtype = dominant(denoising)
    width, height, unit = _sizes(name, configs)
    allowed = schedule.allowed(scheduler, name.removesuffix("-refiner")) if scheduler else ()
    told = {
        "family": name,
        **extra,
        "width": width,
        "height": height,
        "unit": unit,
        "steps": FEW_STEPS if distilled else CONSISTENT_STEPS.get(scheduler) or STEPS.get(name, 50),
        "guidance": 0.0 if distilled else GUIDANCE.get(name),
        "distilled": distilled or None,
        "scheduler": scheduler,
        "schedulers": list(allowed),
        "scheduler_names": list(schedule.names(allowed)),
        "dtype": dtype,
        "shape": shape.of(configs),
    }
    kept = {key: facts.whole(value) for key, value in told.items() if value not in (None, "", [], {})}
    return Metadata(
        name=match.name,
        version=version,
        architecture=name,
        tasks=doing,
        parameters=sum(map(_elements, tensors)) or None,
        quantization=dtype,
        weight_bytes=sum(map(_size, tensors)) or _file_bytes(files, match),
        tensors=len(tensors) or None,
        license=facts.license(files, folder_of(match.entry)),
        extra=kept,
    )


def _tensors(files: ModelFiles, match: FormatMatch, root: str, part: Part) -> list[Tensor]:
    """Of one part, as the match's variant has it."""
    prefix = f"{part.name}/" if root == "." else f"{root}/{part.name}/"
    names = [name for name in match.files if name.startswith(prefix) and name.endswith(".safetensors")]
    return [tensor for name in names for tensor in safetensors.header(files, name).tensors]


def _component(part: Part, tensors: Sequence[Tensor] | None) -> dict[str, Any]:
    said: dict[str, Any] = {"library": part.library, "class": part.kind}
    if tensors is not None:
        said |= {"bytes": sum(map(_size, tensors)), "parameters": sum(map(_elements, tensors))}
    return said


def _denoising(tensors: Mapping[str, Sequence[Tensor]]) -> Sequence[Tensor]:
    """Of the network that is run at each step; else of all."""
    found = next((tensors[one] for one in DENOISERS if one in tensors), None)
    return found if found is not None else [one for own in tensors.values() for one in own]


def _sizes(name: str, configs: Mapping[str, Mapping[str, Any]]) -> tuple[int, int, int]:
    """Width and height in pixels that it was trained for, and what sides are multiples of.

    As the pipelines have them: SD and SDXL ask for multiples of 8, whatever their VAE; SD3 and Flux for those of the
    VAE's factor times what the network takes at once.
    """
    vae = configs.get("vae", {}).get("block_out_channels")
    factor = 1 << (min(len(vae), 8) - 1) if isinstance(vae, list) and vae else 8
    network = next((configs[one] for one in DENOISERS if one in configs), {})
    patch = 1
    if name in PATCHED:
        patch = (_whole(network.get("patch_size")) or 2) if name == "sd3" else 2
    unit = factor * min(patch, 64) if name in PATCHED else lcm(8, factor)
    sample = network.get("sample_size")
    sides = sample if isinstance(sample, list) and len(sample) == 2 else [sample, sample]
    height, width = (_whole(side) or (FLUX_LATENT_SIDE if name == "flux" else 0) for side in sides)
    usual = SIDES.get(name, SIDE)
    width, height = (min(side * factor, MOST_SIDE) or usual for side in (width, height))
    return _fitting(width, unit), _fitting(height, unit), unit


def _fitting(side: int, unit: int) -> int:
    return max(side // unit, 1) * unit


def _is_distilled(name: str, scheduler: str, config: Mapping[str, Any], network: Mapping[str, Any]) -> bool:
    """Whether it is made for few steps without guidance: Flux schnell has no guidance to be told; turbo and lightning
    models begin at the last step of the noise, which others of Stable Diffusion do only with its signal scaled to zero.
    """
    if name == "flux":
        return network.get("guidance_embeds") is False
    if name in ("sd", "sd2", "sdxl") and scheduler.startswith("Euler"):
        plain = config.get("prediction_type", "epsilon") == "epsilon"
        spaced = config.get("timestep_spacing") == "trailing" and config.get("rescale_betas_zero_snr") is not True
        return plain and spaced
    return False


def _addon(files: ModelFiles, match: FormatMatch) -> Metadata:
    header = safetensors.header(files, match.entry)
    found = addon.recognise(header)
    if found is None:
        return Metadata(name=match.name, weight_bytes=_file_bytes(files, match), extra={"kind": "addon"})
    told = {
        "kind": "addon",
        "family": found.family,
        "method": found.method,
        "writer": found.kind,
        "rank": found.rank,
        "ranks": list(found.ranks) if len(found.ranks) > 1 else None,
        "alpha": found.alpha,
        "targets": list(found.targets),
        "trigger": found.trigger,
        "dtype": dominant(header.tensors),
    }
    return Metadata(
        name=match.name,
        architecture=f"{found.method.lower()}-{found.family}" if found.family else found.method.lower(),
        parameters=sum(map(_elements, header.tensors)) or None,
        quantization=dominant(header.tensors),
        weight_bytes=sum(map(_size, header.tensors)) or _file_bytes(files, match),
        tensors=len(header.tensors) or None,
        license=facts.license(files, folder_of(match.entry)),
        extra={key: facts.whole(value) for key, value in told.items() if value not in (None, "", [], 0)},
    )


def _file_bytes(files: ModelFiles, match: FormatMatch) -> int | None:
    """Sizes of weights whose headers were not read: they are mostly weights."""
    ends = (".safetensors", ".bin", ".ckpt")
    return sum(files.files.get(name, 0) for name in match.files if name.endswith(ends)) or None


def _size(tensor: Tensor) -> int:
    return max(0, tensor.size)


def _elements(tensor: Tensor) -> int:
    return min(tensor.elements, 1 << 62)


def _whole(value: Any) -> int:
    return value if type(value) is int and 0 < value < 1 << 31 else 0
