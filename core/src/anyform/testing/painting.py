"""Writes what models that paint lie in, in pure Python: folders of pipelines, single files and LoRAs, without weights.

Names and shapes are those of the real ones, as far as they tell one from the other; all numbers are zero, and lie on
the disk as holes where it can have them. No engine can load these.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyform.testing.safetensors import SIZES, write_json, write_pickled
from anyform.testing.safetensors import Tensor as Written

FAMILIES = ("sd", "sd2", "sdxl", "sd3", "flux")
Shapes = Mapping[str, tuple[int, ...]]
CORE = "model.diffusion_model."
CLASSES: Mapping[str, str] = {
    "sd": "StableDiffusionPipeline", "sd2": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline",
    "sd3": "StableDiffusion3Pipeline", "flux": "FluxPipeline",
}  # fmt: skip


@dataclass(frozen=True)
class Unet:
    """What the networks of Stable Diffusion differ in."""

    channels: Sequence[int]
    attends: Sequence[bool]
    depths: Sequence[int]
    words: int
    """Numbers of the text encoders' answer."""


UNETS: Mapping[str, Unet] = {
    "sd": Unet((320, 640, 1280, 1280), (True, True, True, False), (1, 1, 1, 1), 768),
    "sd2": Unet((320, 640, 1280, 1280), (True, True, True, False), (1, 1, 1, 1), 1024),
    "sdxl": Unet((320, 640, 1280), (False, True, True), (1, 2, 10), 2048),
    "sdxl-refiner": Unet((384, 768, 1536, 1536), (False, True, True, False), (4, 4, 4, 4), 1280),
}


def write_hollow(path: Path, shapes: Shapes, dtype: str = "F16", texts: Mapping[str, str] | None = None) -> Path:
    """A sound safetensors file of zeros, of any size; *texts*: what it says of itself."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **(texts or {})}}
    place = 0
    for name, shape in shapes.items():
        end = place + math.prod(shape) * SIZES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [place, end]}
        place = end
    content = json.dumps(header, separators=(",", ":")).encode()
    content += b" " * (-len(content) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(content)) + content)
        file.truncate(file.tell() + place)
    return path


def write_checkpoint(
    path: Path,
    family: str,
    *,
    vae: bool = True,
    texts: bool = True,
    channels: int = 4,
    guided: bool = True,
    dtype: str = "F16",
    more: Shapes | None = None,
) -> Path:
    """A single file of *family*. *channels*: that its network takes at each place, of Stable Diffusion (9: inpainting).

    *guided*: of Flux, whether it is told its guidance (dev) or not (schnell).
    """
    if family == "sd3":
        core = sd3_shapes()
    elif family == "flux":
        core = flux_shapes(guided=guided)
    else:
        core = unet_shapes(UNETS[family], channels, labels=family.startswith("sdxl"))
    shapes = {f"{CORE}{name}": shape for name, shape in core.items()}
    if vae:
        shapes |= vae_shapes(family)
    if texts:
        shapes |= text_shapes(family)
    return write_hollow(path, shapes | dict(more or {}), dtype)


def unet_shapes(unet: Unet, channels: int = 4, labels: bool = False) -> dict[str, tuple[int, ...]]:
    """Some tensors of each block on the way down, and what tells kinds apart."""
    first, number = unet.channels[0], 0
    shapes: dict[str, tuple[int, ...]] = {
        "time_embed.0.weight": (4 * first, first),
        "input_blocks.0.0.weight": (first, channels, 3, 3),
        "out.2.weight": (4, first, 3, 3),
    }
    if labels:
        shapes["label_emb.0.0.weight"] = (4 * first, 2816 if unet.words == 2048 else 2560)
    before = first
    for level, width in enumerate(unet.channels):
        for _ in range(2):
            number += 1
            block = f"input_blocks.{number}"
            shapes[f"{block}.0.in_layers.2.weight"] = (width, before, 3, 3)
            shapes[f"{block}.0.out_layers.3.weight"] = (width, width, 3, 3)
            for layer in range(unet.depths[level] if unet.attends[level] else 0):
                shapes[f"{block}.1.transformer_blocks.{layer}.attn2.to_k.weight"] = (width, unet.words)
            before = width
        if level < len(unet.channels) - 1:
            number += 1
            shapes[f"input_blocks.{number}.0.op.weight"] = (width, width, 3, 3)
    return shapes


def sd3_shapes(layers: int = 24) -> dict[str, tuple[int, ...]]:
    width = 64 * layers
    shapes: dict[str, tuple[int, ...]] = {"x_embedder.proj.weight": (width, 16, 2, 2), "pos_embed": (1, 36864, width)}
    for layer in range(layers):
        shapes[f"joint_blocks.{layer}.context_block.adaLN_modulation.1.weight"] = (6 * width, width)
        shapes[f"joint_blocks.{layer}.x_block.attn.qkv.weight"] = (3 * width, width)
    return shapes


def flux_shapes(*, guided: bool = True, channels: int = 64) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"img_in.weight": (3072, channels), "txt_in.weight": (3072, 4096)}
    if guided:
        shapes["guidance_in.in_layer.weight"] = (3072, 256)
    for layer in range(19):
        shapes[f"double_blocks.{layer}.img_attn.norm.key_norm.scale"] = (128,)
        shapes[f"double_blocks.{layer}.img_attn.qkv.weight"] = (9216, 3072)
    for layer in range(38):
        shapes[f"single_blocks.{layer}.linear1.weight"] = (21504, 3072)
    return shapes


def vae_shapes(family: str) -> dict[str, tuple[int, ...]]:
    latent = 16 if family in ("sd3", "flux") else 4
    shapes: dict[str, tuple[int, ...]] = {
        "decoder.conv_in.weight": (512, latent, 3, 3),
        "encoder.conv_in.weight": (128, 3, 3, 3),
    }
    for level, width in enumerate((128, 256, 512, 512)):
        shapes[f"decoder.up.{level}.block.0.conv1.weight"] = (width, 512, 3, 3)
    before = "vae." if family == "flux" else "first_stage_model."
    return {f"{before}{name}": shape for name, shape in shapes.items()}


def text_shapes(family: str) -> dict[str, tuple[int, ...]]:
    """The embeddings of each text encoder."""
    clip, open_clip, t5 = (49408, 768), (49408, 1280), (32128, 4096)
    token = "transformer.text_model.embeddings.token_embedding.weight"
    known: Mapping[str, dict[str, tuple[int, ...]]] = {
        "sd": {f"cond_stage_model.{token}": clip},
        "sd2": {"cond_stage_model.model.token_embedding.weight": (49408, 1024)},
        "sdxl": {
            f"conditioner.embedders.0.{token}": clip,
            "conditioner.embedders.1.model.token_embedding.weight": open_clip,
        },
        "sdxl-refiner": {"conditioner.embedders.0.model.token_embedding.weight": open_clip},
        "sd3": {
            f"text_encoders.clip_l.{token}": clip,
            f"text_encoders.clip_g.{token}": open_clip,
            "text_encoders.t5xxl.transformer.shared.weight": t5,
        },
        "flux": {f"text_encoders.clip_l.{token}": clip, "text_encoders.t5xxl.transformer.shared.weight": t5},
    }
    return known[family]


def write_pipeline(
    folder: Path,
    family: str = "sd",
    *,
    variants: Sequence[str] = ("",),
    shards: int = 0,
    pickled: Iterable[str] = (),
    **index: Any,
) -> Path:
    """A folder of *family*. *variants*: infixes of weights' names (fp16), empty for the main ones. *shards*: of the
    network that is run at each step. *pickled*: parts that have no safetensors. *index*: changes to model_index.json.
    """
    said: dict[str, Any] = {"_class_name": CLASSES[family], "_diffusers_version": "0.42.1", **parts(family), **index}
    write_json(folder / "model_index.json", said)
    for name, one in said.items():
        if not isinstance(one, list) or one[0] is None:
            continue
        library, kind = one
        place = folder / name
        if kind.endswith("Scheduler"):
            write_json(place / "scheduler_config.json", {"_class_name": kind})
        elif "Tokenizer" in kind:
            write_json(place / "tokenizer.json", {"model": {"type": "BPE", "vocab": {}, "merges": []}})
            write_json(place / "tokenizer_config.json", {"tokenizer_class": kind})
        elif kind.endswith("Processor"):
            write_json(place / "preprocessor_config.json", {"image_processor_type": kind})
        else:
            write_json(place / "config.json", config(family, name, kind))
            stem = "diffusion_pytorch_model" if library == "diffusers" else "model"
            for variant in variants:
                infix = f".{variant}" if variant else ""
                shapes: Shapes = {f"{name}.{number}.weight": (4, 2 + number) for number in range(max(2, shards))}
                if name in pickled:
                    old = stem if library == "diffusers" else "pytorch_model"
                    write_pickled(place / f"{old}{infix}.bin", [Written("a", (2,), "F32", bytes(8))])
                elif shards and name in ("unet", "transformer"):
                    write_shards(
                        place, f"{stem}{infix}", f"{stem}.safetensors.index{infix}.json", shapes, shards, variant
                    )
                else:
                    write_hollow(place / f"{stem}{infix}.safetensors", shapes, _dtype(variant))
    return folder


def write_shards(place: Path, stem: str, index: str, shapes: Shapes, count: int, variant: str = "") -> None:
    mapped = {}
    for number in range(count):
        name = f"{stem}-{number + 1:05}-of-{count:05}.safetensors"
        own = dict(list(shapes.items())[number::count])
        write_hollow(place / name, own, _dtype(variant))
        mapped.update(dict.fromkeys(own, name))
    write_json(place / index, {"metadata": {}, "weight_map": mapped})


def _dtype(variant: str) -> str:
    return {"fp16": "F16", "bf16": "BF16"}.get(variant, "F32")


def parts(family: str) -> dict[str, Any]:
    """Of model_index.json: name -> [library, class]."""
    clip, clips = ["transformers", "CLIPTextModel"], ["transformers", "CLIPTextModelWithProjection"]
    words, t5 = ["transformers", "CLIPTokenizer"], ["transformers", "T5EncoderModel"]
    pieces, vae = ["transformers", "T5TokenizerFast"], ["diffusers", "AutoencoderKL"]
    unet, flow = ["diffusers", "UNet2DConditionModel"], ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    none = [None, None]
    known: Mapping[str, dict[str, Any]] = {
        "sd": {
            "unet": unet, "vae": vae, "text_encoder": clip, "tokenizer": words, "safety_checker": none,
            "feature_extractor": none, "scheduler": ["diffusers", "PNDMScheduler"], "requires_safety_checker": False,
        },
        "sd2": {
            "unet": unet, "vae": vae, "text_encoder": clip, "tokenizer": words, "safety_checker": none,
            "feature_extractor": none, "scheduler": ["diffusers", "DDIMScheduler"], "requires_safety_checker": False,
        },
        "sdxl": {
            "unet": unet, "vae": vae, "text_encoder": clip, "text_encoder_2": clips, "tokenizer": words,
            "tokenizer_2": words, "scheduler": ["diffusers", "EulerDiscreteScheduler"],
            "force_zeros_for_empty_prompt": True,
        },
        "sd3": {
            "transformer": ["diffusers", "SD3Transformer2DModel"], "vae": vae, "text_encoder": clips,
            "text_encoder_2": clips, "text_encoder_3": t5, "tokenizer": words, "tokenizer_2": words,
            "tokenizer_3": pieces, "scheduler": flow,
        },
        "flux": {
            "transformer": ["diffusers", "FluxTransformer2DModel"], "vae": vae, "text_encoder": clip,
            "text_encoder_2": t5, "tokenizer": words, "tokenizer_2": pieces, "scheduler": flow,
        },
    }  # fmt: skip
    return known[family]


def config(family: str, name: str, kind: str) -> dict[str, Any]:
    """Of a real model of the family."""
    if name == "unet":
        one = UNETS[family]
        return {
            "_class_name": kind, "sample_size": {"sd": 64, "sd2": 96, "sdxl": 128}[family], "in_channels": 4,
            "block_out_channels": list(one.channels), "cross_attention_dim": one.words, "layers_per_block": 2,
            "down_block_types": ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in one.attends],
            "transformer_layers_per_block": list(one.depths),
        }  # fmt: skip
    if name == "transformer":
        flux = {"num_single_layers": 38, "num_layers": 19, "patch_size": 1, "in_channels": 64, "guidance_embeds": True}
        sd3 = {"num_layers": 24, "patch_size": 2, "in_channels": 16, "sample_size": 128}
        heads = {"num_attention_heads": 24, "attention_head_dim": 128 if family == "flux" else 64}
        return {"_class_name": kind, **heads, **(flux if family == "flux" else sd3)}
    if name == "vae":
        latent = 16 if family in ("sd3", "flux") else 4
        return {"_class_name": kind, "block_out_channels": [128, 256, 512, 512], "latent_channels": latent}
    if kind == "T5EncoderModel":
        return {"architectures": [kind], "model_type": "t5", "d_model": 4096, "d_ff": 10240, "num_heads": 64}
    shape = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "max_position_embeddings": 77}
    return {"architectures": [kind], "model_type": "clip_text_model", **shape}


def lora_shapes(family: str, kind: str = "diffusers", rank: int = 8) -> dict[str, tuple[int, ...]]:
    """Two layers of a LoRA. *kind*: kohya, diffusers, old (diffusers' before PEFT), comfy, or xlabs (Flux alone)."""
    width = {"sd": 768, "sd2": 1024, "sdxl": 2048, "sd3": 1536, "flux": 3072}[family]
    layers: tuple[str, ...] = {
        "flux": ("double_blocks.0.img_attn.qkv", "single_blocks.1.linear1"),
        "sd3": ("joint_blocks.0.context_block.attn.qkv", "joint_blocks.1.x_block.attn.qkv"),
    }.get(family, ("down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k", "mid_block.attentions.0.proj_in"))
    network = "transformer" if family in ("sd3", "flux") else "unet"
    if kind == "kohya":
        names = [f"lora_unet_{layer.replace('.', '_')}" for layer in layers]
        return _pairs(names, width, rank, ".lora_down.weight", ".lora_up.weight") | {f"{names[0]}.alpha": ()}
    if kind == "comfy":
        return _pairs([f"diffusion_model.{one}" for one in layers], width, rank, ".lora_A.weight", ".lora_B.weight")
    if kind == "xlabs":
        names = ["double_blocks.0.processor.qkv_lora1"]
        return _pairs(names, width, rank, ".down.weight", ".up.weight")
    if network == "transformer":
        layers = ("transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.add_q_proj")
        layers = (*layers, "single_transformer_blocks.0.attn.to_q") if family == "flux" else layers
    names = [f"{network}.{one}" for one in layers]
    if kind == "old":
        return _pairs(names, width, rank, ".lora.down.weight", ".lora.up.weight")
    return _pairs(names, width, rank, ".lora_A.weight", ".lora_B.weight")


def _pairs(names: Sequence[str], width: int, rank: int, down: str, up: str) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name in names:
        shapes |= {f"{name}{down}": (rank, width), f"{name}{up}": (width, rank)}
    return shapes


def write_lora(path: Path, family: str = "sd", kind: str = "diffusers", rank: int = 8, **texts: str) -> Path:
    """A LoRA file. *texts*: what it says of itself, such as ss_network_alpha."""
    return write_hollow(path, lora_shapes(family, kind, rank), texts=texts)
