"""Which pipelines of diffusers make pictures from text, what each can do, and what the others are instead."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from anyform_diffusers.known import PIPELINES

ALL = ("image", "edit_image", "vary_image")
TEXT, VARYING = ALL[:1], ("image", "vary_image")
CHANGING = ("edit_image", "vary_image")
"""What a refiner does: it begins with a picture."""
REPAINTING = ("edit_image",)
"""What a network does that reads a mask at each step."""
TRIED = ("sd", "sd2", "sdxl", "sd3", "flux")
"""Families that this plugin is tested with; the others are run by what diffusers says of them."""
_FAMILIES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "StableDiffusionPipeline": ("sd", ALL),
    "StableDiffusionImg2ImgPipeline": ("sd", ALL),
    "StableDiffusionInpaintPipeline": ("sd", ALL),
    "StableDiffusionXLPipeline": ("sdxl", ALL),
    "StableDiffusionXLImg2ImgPipeline": ("sdxl", ALL),
    "StableDiffusionXLInpaintPipeline": ("sdxl", ALL),
    "StableDiffusion3Pipeline": ("sd3", ALL),
    "StableDiffusion3Img2ImgPipeline": ("sd3", ALL),
    "StableDiffusion3InpaintPipeline": ("sd3", ALL),
    "FluxPipeline": ("flux", ALL),
    "FluxImg2ImgPipeline": ("flux", ALL),
    "FluxInpaintPipeline": ("flux", ALL),
    "FluxFillPipeline": ("flux", REPAINTING),
    "QwenImagePipeline": ("qwen-image", ALL),
    "QwenImageImg2ImgPipeline": ("qwen-image", ALL),
    "QwenImageInpaintPipeline": ("qwen-image", ALL),
    "ZImagePipeline": ("z-image", ALL),
    "ZImageImg2ImgPipeline": ("z-image", ALL),
    "ZImageInpaintPipeline": ("z-image", ALL),
    "LatentConsistencyModelPipeline": ("lcm", VARYING),
    "LatentConsistencyModelImg2ImgPipeline": ("lcm", VARYING),
    "Kandinsky3Pipeline": ("kandinsky3", VARYING),
    "Kandinsky3Img2ImgPipeline": ("kandinsky3", VARYING),
    "AuraFlowPipeline": ("auraflow", TEXT),
    "ChromaPipeline": ("chroma", TEXT),
    "CogView3PlusPipeline": ("cogview3", TEXT),
    "CogView4Pipeline": ("cogview4", TEXT),
    "HunyuanDiTPipeline": ("hunyuan-dit", TEXT),
    "Lumina2Pipeline": ("lumina2", TEXT),
    "LuminaPipeline": ("lumina", TEXT),
    "OvisImagePipeline": ("ovis", TEXT),
    "PRXPipeline": ("prx", TEXT),
    "QwenImage21Pipeline": ("qwen-image", TEXT),
    "SanaPipeline": ("sana", TEXT),
}
"""Class -> family and tasks: of those that AutoPipeline links, with a prompt, callbacks at each step and all in one
folder."""
_OTHERS: Sequence[tuple[re.Pattern[str], str]] = tuple(
    (re.compile(pattern), said)
    for pattern, said in (
        ("^Onnx|^ORT", "is an export to ONNX, whose graphs diffusers runs no more. Get the form with safetensors."),
        ("^Flax", "computes with JAX. Get the form for PyTorch."),
        ("Modular", "is put together of blocks, which is no fixed way from prompt to picture."),
        ("Audio|Music|AceStep|DanceDiffusion|Spectrogram", "makes sound, not pictures."),
        ("LLaDA|Gemma", "writes text."),
        ("RFD4", "folds proteins."),
        ("ShapE", "makes bodies, not pictures."),
        ("Marigold", "measures depth and surfaces in pictures."),
        (
            r"Video|(?<!Text)2V|T2V|I2V|TI2V|^Wan|^LTX|Mochi|Allegro|Latte|SkyReels|CogVideoX|AnimateDiff|ConsisID"
            r"|EasyAnimate|Helios|World|AnyFlow|LucyEdit|ChronoEdit|^PIA|Cosmos|SanaWM",
            "makes videos, not pictures.",
        ),
        ("Upscale|SuperResolution|Upsample|SRPipeline", "enlarges pictures; it makes none from a prompt."),
        (
            "Control|Adapter|GLIGEN|SparseControl",
            "follows a second picture (edges, poses, depth), for which requests have no place. "
            "Load the model that it steers by itself.",
        ),
        ("Prior", "is the first half of a model: it makes no picture, but what the second half begins with."),
        ("Decoder|^Kandinsky|^Wuerstchen|^StableCascade|UnCLIP", "is one half of a model of two pipelines."),
        (
            "Pix2Pix|ImageEdit|BriaFiboEdit|Kontext|JoyImage|LEdits|Cycle|DiffEdit",
            "changes pictures by an instruction, in a way of its own.",
        ),
        (
            "ImageVariation|PaintByExample|Redux|VisualCloze|BlipDiffusion",
            "takes pictures in the place of the prompt.",
        ),
        (
            "^(DDIM|DDPM|PNDM|LDM|ScoreSdeVe|KarrasVe|ConsistencyModel|DiT|RePaint)Pipeline$",
            "makes pictures of what it was trained on, without a prompt.",
        ),
        ("", "does not go from prompt to picture in the way that this backend asks for."),
    )
)


def family(pipeline: str) -> str:
    """The family of a pipeline's class; empty: not one that is run here."""
    return _FAMILIES.get(pipeline, ("", ()))[0]


def tasks(pipeline: str) -> tuple[str, ...]:
    return _FAMILIES.get(pipeline, ("", ()))[1]


def runnable() -> tuple[str, ...]:
    """The classes that are run here, sorted."""
    return tuple(sorted(_FAMILIES))


def instead(pipeline: str) -> str:
    """What a pipeline is that is not run here, as the end of a sentence; empty: nobody here knows it."""
    if pipeline not in PIPELINES and not re.match("Onnx|Flax|ORT", pipeline):
        return ""
    return next(said for pattern, said in _OTHERS if pattern.search(pipeline))
