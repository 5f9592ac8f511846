"""Single files with all or most of a model, told apart by the names and shapes of their tensors. Reads no weights.

The names: Stable Diffusion's own code, Stability's for SDXL and SD3, Black Forest Labs' for Flux; those that tell kinds
apart are in diffusers' loaders/single_file_utils.py (CHECKPOINT_KEY_NAMES, infer_diffusers_model_type).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anyform.pretrained.safetensors import Tensor
from anyform_diffusers import family

Shapes = Mapping[str, tuple[int, ...]]
CORE = "model.diffusion_model."
"""Before the names of the network that is run at each step, where a file holds more than that."""
VAES = ("first_stage_model.", "vae.")
TEXTS: Mapping[str, Sequence[str]] = {
    "sd": ("cond_stage_model.",),
    "sd2": ("cond_stage_model.",),
    "sdxl": ("conditioner.embedders.0.", "conditioner.embedders.1."),
    "sdxl-refiner": ("", "conditioner.embedders.0."),
    "sd3": ("text_encoders.clip_l.", "text_encoders.clip_g.", "text_encoders.t5xxl."),
    "flux": ("text_encoders.clip_l.", "text_encoders.t5xxl."),
}
"""Family -> before the names of text_encoder, text_encoder_2, text_encoder_3; empty: it has no such part."""
PIPELINES: Mapping[str, str] = {
    "sd": "StableDiffusionPipeline",
    "sd2": "StableDiffusionPipeline",
    "sdxl": "StableDiffusionXLPipeline",
    "sdxl-refiner": "StableDiffusionXLImg2ImgPipeline",
    "sd3": "StableDiffusion3Pipeline",
    "flux": "FluxPipeline",
}
INPAINTING: Mapping[str, str] = {
    "sd": "stable-diffusion-v1-5/stable-diffusion-inpainting",
    "sd2": "stabilityai/stable-diffusion-2-inpainting",
    "sdxl": "diffusers/stable-diffusion-xl-1.0-inpainting-0.1",
    "flux": "black-forest-labs/FLUX.1-Fill-dev",
}
REPOSITORIES: Mapping[str, str] = {
    "sd": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sd2": "stabilityai/stable-diffusion-2-1",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
    "sdxl-refiner": "stabilityai/stable-diffusion-xl-refiner-1.0",
    "playground": "playgroundai/playground-v2.5-1024px-aesthetic",
    "sd3": "stabilityai/stable-diffusion-3-medium-diffusers",
    "sd3.5-medium": "stabilityai/stable-diffusion-3.5-medium",
    "sd3.5-large": "stabilityai/stable-diffusion-3.5-large",
    "flux": "black-forest-labs/FLUX.1-dev",
    "flux-schnell": "black-forest-labs/FLUX.1-schnell",
}
"""Whose configurations a file of the family needs; INPAINTING where its network reads a mask at each step."""
_STRANGERS: Mapping[str, str] = {
    "control_model.time_embed.0.weight": "a ControlNet, which steers another model by a second picture",
    "controlnet_cond_embedding.conv_in.weight": "a ControlNet, which steers another model by a second picture",
    "controlnet_x_embedder.weight": "a ControlNet, which steers another model by a second picture",
    "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.pos_encoder.pe":
        "AnimateDiff's motion, a part of models that make videos",
    "patchify_proj.weight": "LTX, which makes videos",
    "head.modulation": "Wan, which makes videos",
    "blocks.0.attn.qkv_x.weight": "Mochi, which makes videos",
    "txt_in.individual_token_refiner.blocks.0.adaLN_modulation.1.bias": "HunyuanVideo, which makes videos",
    "net.x_embedder.proj.1.weight": "Cosmos, which makes videos",
    "double_stream_blocks.0.block.adaLN_modulation.1.bias": "HiDream",
    "distilled_guidance_layer.in_proj.bias": "Chroma",
    "single_stream_modulation.lin.weight": "Flux 2",
    "early_stream_modulations.image.lin.weight": "Flux 3",
    "layers.0.adaLN_modulation.0.weight": "Z-Image",
    "cap_embedder.0.weight": "Lumina 2",
    "cond_seq_linear.weight": "AuraFlow",
    "txt_in.text_norm.weight": "Qwen-Image 2.1",
    "clip_txt_mapper.weight": "the first half of Stable Cascade",
    "down_blocks.1.0.channelwise.0.weight": "the second half of Stable Cascade",
}  # fmt: skip
"""A tensor -> whose it is, of models that single files of are not run here."""
_UNET_CHANNELS: Mapping[int, str] = {
    5: "a model that follows a map of depth",
    7: "a model that enlarges pictures",
    8: "InstructPix2Pix, which changes pictures by an instruction",
}
"""Numbers that the first convolution takes at each place, of networks that are not run here."""
QUANTIZED = re.compile(r"\.(quant_state\.|absmax$|quant_map$|SCB$)")
"""What bitsandbytes keeps beside its weights."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What one file holds."""

    family: str
    """Empty: it is `stranger`."""
    pipeline: str = ""
    """The class of diffusers that runs it."""
    tasks: tuple[str, ...] = ()
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Part -> what the names of its tensors begin with: unet or transformer, vae, text_encoder, text_encoder_2, ..."""
    missing: tuple[str, ...] = ()
    """Parts of the pipeline that the file does not hold."""
    distilled: bool = False
    """Whether it is made for few steps without guidance, as far as names tell."""
    channels: int = 0
    """Numbers that the network takes at each place."""
    edition: str = ""
    """Which of REPOSITORIES, where not the one that is called like the family."""
    stranger: str = ""
    """What it is, where it cannot be run here, as the end of a sentence."""

    @property
    def repository(self) -> str:
        """Whose configurations fit."""
        if self.tasks == family.REPAINTING:
            return INPAINTING.get(self.family, "")
        schnell = "flux-schnell" if self.family == "flux" and self.distilled else ""
        return REPOSITORIES.get(self.edition or schnell or self.family, "")


def recognise(tensors: Sequence[Tensor]) -> Checkpoint | None:
    """What *tensors* are of; None: of nothing that paints."""
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    before = CORE if any(name.startswith(CORE) for name in shapes) else ""
    core = {name[len(before) :]: shape for name, shape in shapes.items() if name.startswith(before)}
    stranger = next((said for name, said in _STRANGERS.items() if name in core or name in shapes), "")
    if stranger:
        return Checkpoint(family="", stranger=stranger)
    found = _unet(shapes, core) or _sd3(core) or _flux(core)
    if not found or (not before and _is_part(core)):
        return None
    if any(QUANTIZED.search(name) for name in core):
        return Checkpoint(family="", stranger="a model whose weights bitsandbytes packed, which single files of are")
    return found and _whole(found, shapes, before)


def _is_part(core: Shapes) -> bool:
    """Whether these are names that diffusers' own modules have: then it is a part of a folder."""
    return "conv_in.weight" in core or "time_embedding.linear_1.weight" in core


def _unet(shapes: Shapes, core: Shapes) -> Checkpoint | None:
    """Stable Diffusion 1, 2 and XL."""
    first = _at(core, "input_blocks.0.0.weight", 1)
    if not first or "time_embed.0.weight" not in core:
        return None
    if first in _UNET_CHANNELS:
        return Checkpoint(family="", stranger=_UNET_CHANNELS[first])
    name = _unet_family(shapes, core)
    tasks = family.REPAINTING if first > 4 else family.CHANGING if name == "sdxl-refiner" else family.ALL
    edition = "playground" if name == "sdxl" and "edm_mean" in shapes else ""
    return Checkpoint(family=name, tasks=tasks, channels=first, edition=edition)


def _unet_family(shapes: Shapes, core: Shapes) -> str:
    """By the text encoders; where the file has none, by the width of their answers and what else is asked for."""
    if any(name.startswith("conditioner.embedders.1.") for name in shapes):
        return "sdxl"
    if any(name.startswith("conditioner.embedders.0.model.") for name in shapes):
        return "sdxl-refiner"
    if any(name.startswith("cond_stage_model.model.") for name in shapes):
        return "sd2"
    if any(name.startswith("cond_stage_model.") for name in shapes):
        return "sd"
    width = next((shape[-1] for name, shape in core.items() if shape and name.endswith(".attn2.to_k.weight")), 0)
    if "label_emb.0.0.weight" in core:
        return "sdxl-refiner" if width == 1280 else "sdxl"
    return "sd2" if width == 1024 else "sd"


def _sd3(core: Shapes) -> Checkpoint | None:
    if "joint_blocks.0.context_block.adaLN_modulation.1.weight" not in core:
        return None
    large = "joint_blocks.37.x_block.mlp.fc1.weight" in core
    medium = _at(core, "pos_embed", 1) == 147_456  # 384 x 384 places; 192 x 192 of the first
    edition = "sd3.5-large" if large else "sd3.5-medium" if medium else ""
    return Checkpoint(family="sd3", tasks=family.ALL, channels=_at(core, "x_embedder.proj.weight", 1), edition=edition)


def _flux(core: Shapes) -> Checkpoint | None:
    """Flux dev, which is told its guidance, and schnell, which has none; others take more than noise."""
    if "double_blocks.0.img_attn.norm.key_norm.scale" not in core:
        return None
    guided = any(name.startswith("guidance_in.") for name in core)
    channels = _at(core, "img_in.weight", 1)
    if channels == 384:
        return Checkpoint(
            family="flux", pipeline="FluxFillPipeline", tasks=family.REPAINTING, channels=channels, distilled=not guided
        )
    if channels == 128:
        return Checkpoint(family="", stranger="Flux that follows edges or depth, for which requests have no place")
    return Checkpoint(family="flux", tasks=family.ALL, channels=channels, distilled=not guided)


def _whole(found: Checkpoint, shapes: Shapes, before: str) -> Checkpoint:
    """*found* with what else the file holds."""
    if not found.family:
        return found
    network = "transformer" if found.family in ("sd3", "flux") else "unet"
    parts: dict[str, tuple[str, ...]] = {network: (before,)}
    wanted: dict[str, tuple[str, ...]] = {"vae": VAES}
    for number, prefix in enumerate(TEXTS[found.family], 1):
        if prefix:
            wanted["text_encoder" + (f"_{number}" if number > 1 else "")] = (prefix,)
    missing = []
    for name, prefixes in wanted.items():
        if any(one.startswith(prefixes) for one in shapes):
            parts[name] = prefixes
        else:
            missing.append(name)
    inpainting = found.family.startswith("sd") and found.tasks == family.REPAINTING
    pipeline = found.pipeline or PIPELINES[found.family]
    return Checkpoint(
        family=found.family,
        pipeline=pipeline.replace("Pipeline", "InpaintPipeline") if inpainting else pipeline,
        tasks=found.tasks,
        parts=parts,
        missing=tuple(missing),
        distilled=found.distilled,
        channels=found.channels,
        edition=found.edition,
    )


def of_part(checkpoint: Checkpoint, part: str, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors of one part."""
    prefixes = checkpoint.parts.get(part, ())
    others = tuple(prefix for name, found in checkpoint.parts.items() if name != part for prefix in found if prefix)
    return [
        one
        for one in tensors
        if one.name.startswith(prefixes) and ("" not in prefixes or not one.name.startswith(others))
    ]


def configs(checkpoint: Checkpoint, tensors: Sequence[Tensor]) -> dict[str, dict[str, Any]]:
    """What the shapes tell of each part's configuration, under the names that diffusers has for it."""
    found: dict[str, dict[str, Any]] = {}
    for part, prefixes in checkpoint.parts.items():
        own = {_bare(one.name, prefixes): one.shape for one in of_part(checkpoint, part, tensors)}
        if part == "unet":
            found[part] = _unet_config(own)
        elif part == "transformer":
            found[part] = _sd3_config(own) if checkpoint.family == "sd3" else _flux_config(own)
        elif part == "vae":
            found[part] = _vae_config(own)
        else:
            found[part] = _text_config(own)
    return _usual(checkpoint) | found


def _bare(name: str, prefixes: Sequence[str]) -> str:
    return name[max((len(one) for one in prefixes if name.startswith(one)), default=0) :]


def _unet_config(core: Shapes) -> dict[str, Any]:
    """Channels by level: a level ends where its last block makes the picture smaller."""
    channels: list[int] = []
    attends: list[str] = []
    attending, layers, widest = False, 0, 0
    for number in range(1, 1000):
        block = f"input_blocks.{number}."
        smaller = f"{block}0.op.weight" in core
        width = _at(core, f"{block}0.out_layers.3.weight", 0)
        if not smaller and not width:
            break
        attending = attending or f"{block}1.transformer_blocks.0.attn2.to_k.weight" in core
        if not smaller:
            layers, widest = layers + 1, width
        last = smaller or not _at(core, f"input_blocks.{number + 1}.0.out_layers.3.weight", 0)
        if last and (smaller or f"input_blocks.{number + 1}.0.op.weight" not in core):
            channels.append(widest)
            attends.append("CrossAttnDownBlock2D" if attending else "DownBlock2D")
            attending = False
    depths = [int(part[1]) + 1 for name in core if (part := re.search(r"\.transformer_blocks\.(\d{1,3})\.", name))]
    return {
        "block_out_channels": channels,
        "down_block_types": attends,
        "layers_per_block": max(1, layers // max(1, len(channels))),
        "transformer_layers_per_block": max(depths, default=1),
        "in_channels": _at(core, "input_blocks.0.0.weight", 1),
        "cross_attention_dim": next(
            (shape[-1] for name, shape in core.items() if shape and name.endswith(".attn2.to_k.weight")), 0
        ),
    }


def _sd3_config(core: Shapes) -> dict[str, Any]:
    layers = _count(core, "joint_blocks")
    return {
        "num_layers": layers,
        "num_attention_heads": layers,  # 64 wide each, and as many as there are layers
        "attention_head_dim": _at(core, "x_embedder.proj.weight", 0) // max(1, layers),
        "patch_size": _at(core, "x_embedder.proj.weight", 2),
        "in_channels": _at(core, "x_embedder.proj.weight", 1),
    }


def _flux_config(core: Shapes) -> dict[str, Any]:
    head = _at(core, "double_blocks.0.img_attn.norm.key_norm.scale", 0)
    return {
        "num_layers": _count(core, "double_blocks"),
        "num_single_layers": _count(core, "single_blocks"),
        "num_attention_heads": _at(core, "img_in.weight", 0) // max(1, head),
        "attention_head_dim": head,
        "patch_size": 1,
        "in_channels": _at(core, "img_in.weight", 1),
        "guidance_embeds": any(name.startswith("guidance_in.") for name in core),
    }


def _vae_config(core: Shapes) -> dict[str, Any]:
    levels = _count(core, "decoder.up")
    return {
        "block_out_channels": [_at(core, f"decoder.up.{level}.block.0.conv1.weight", 0) for level in range(levels)],
        "latent_channels": _at(core, "decoder.conv_in.weight", 1),
    }


def _usual(checkpoint: Checkpoint) -> dict[str, dict[str, Any]]:
    """Of parts that the file does not hold, and that all models of the family have alike."""
    latent = 16 if checkpoint.family in ("sd3", "flux") else 4
    found: dict[str, dict[str, Any]] = {}
    if "vae" in checkpoint.missing:
        found["vae"] = {"block_out_channels": [128, 256, 512, 512], "latent_channels": latent}
    if checkpoint.family == "flux" and "text_encoder_2" in checkpoint.missing:
        found["text_encoder_2"] = {"d_model": 4096, "d_ff": 10240, "num_heads": 64}
    return found


def _text_config(core: Shapes) -> dict[str, Any]:
    """Of CLIP as OpenAI's and OpenCLIP's code have it, and of T5."""
    clip = next((name for name in core if name.endswith(("token_embedding.weight", "embed_tokens.weight"))), "")
    shared = next((name for name in core if name.endswith("shared.weight")), "")
    if shared:
        forward = next((name for name in core if name.endswith("DenseReluDense.wo.weight")), "")
        width = _at(core, shared, 1)
        return {"d_model": width, "d_ff": _at(core, forward, 1), "num_heads": width // 64}
    width = _at(core, clip, 1)
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_attention_heads": width // 64,
        "max_position_embeddings": 77,
    }


def _count(core: Shapes, name: str) -> int:
    """How many blocks there are of one name."""
    pattern = re.compile(rf"{re.escape(name)}\.(\d{{1,3}})\.")
    return len({found[1] for one in core if (found := pattern.match(one))})


def _at(core: Shapes, name: str, place: int) -> int:
    shape = core.get(name, ())
    return shape[place] if len(shape) > place else 0
