"""LoRA files: add-ons to a model, told by the names of their tensors, and which family they fit by shapes and words.

The names: kohya's sd-scripts, diffusers and PEFT, Flux trainers (ai-toolkit, ComfyUI, XLabs).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anyform.pretrained.safetensors import Header, Tensor

DOWN = re.compile(
    r"(?:\.lora_down|\.lora_A|_lora\.down|_lora\d?\.down|\.lora\.down|lora_linear_layer\.down)(?:\.default)?\.weight"
)
"""The ending of the first of a LoRA's two matrices, which has as many rows as its rank."""
OTHER = re.compile(r"\.(hada_w1_a|lokr_w1(_a)?|oft_blocks|oft_diag|glora|a1\.weight)$|\.diff$")
"""Of what LyCORIS knows beside LoRA."""
KINDS: Sequence[tuple[str, re.Pattern[str]]] = (
    ("kohya", re.compile(r"lora_(unet|te\d?|transformer|prior)_")),
    ("diffusers", re.compile(r"(unet|transformer|text_encoder(_\d)?)\.")),
    ("ComfyUI", re.compile(r"diffusion_model\.|lycoris_")),
    ("XLabs", re.compile(r"(double|single)_blocks\.\d+\.processor\.")),
    ("processor", re.compile(r"(down|up|mid)_blocks?\..*processor")),
)
"""Who writes such names."""
FLUX = re.compile(r"single_transformer_blocks|double_blocks|single_blocks")
SD3 = re.compile(r"joint_blocks")
DIT = re.compile(r"(?:transformer|diffusion_model)[._](?:transformer_)?blocks?[._]|transformer[._]transformer_blocks")
VIDEO = re.compile(r"motion_module|temporal_transformer")
UNET = re.compile(r"(?:^|[._])(?:down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block)(?:[._]|$)")
CROSS = re.compile(r"attn2[._](?:processor[._])?to_[kv]")
WIDTHS: Mapping[int, str] = {768: "sd", 1024: "sd2", 2048: "sdxl", 1280: "sdxl-refiner"}
"""Numbers of the text encoders' answer -> family with a UNet."""
SD3_WIDTHS = frozenset({1536, 2432})
"""Of SD3's and SD3.5's networks: 64 numbers for each of 24 or 38 layers."""
FLUX_WIDTH = 3072
WORDS: Sequence[tuple[str, str]] = (
    ("flux", "flux"), ("stable-diffusion-3", "sd3"), ("sd3", "sd3"), ("sdxl", "sdxl"), ("stable-diffusion-xl", "sdxl"),
    ("sd_v2", "sd2"), ("stable-diffusion-v2", "sd2"), ("sd_v1", "sd"), ("stable-diffusion-v1", "sd"),
)  # fmt: skip
"""What ss_base_model_version (kohya) and modelspec.architecture hold -> family."""
SAID = ("ss_base_model_version", "modelspec.architecture")


@dataclass(frozen=True, slots=True)
class Addon:
    """What one LoRA file is."""

    kind: str
    """Who writes such names: kohya, diffusers, ComfyUI, XLabs, processor."""
    family: str
    """Which models it fits; empty: neither shapes nor words tell."""
    rank: int
    """Of most of its matrices."""
    ranks: tuple[int, ...]
    """All that occur, sorted."""
    alpha: float | None
    """As the trainer says; None: it does not."""
    targets: tuple[str, ...]
    """What it changes: unet, transformer, text_encoder, text_encoder_2."""
    trigger: str = ""
    """The word that the trainer says calls it."""
    method: str = "LoRA"
    """Or what of LyCORIS it is."""


def recognise(header: Header) -> Addon | None:
    """What a file is; None: no add-on, or one for models of text."""
    names = [tensor.name for tensor in header.tensors]
    kind = _kind(names)
    if not kind:
        return None
    downs = [one for one in header.tensors if DOWN.search(one.name) and one.shape]
    other = next((found[1] for name in names if (found := OTHER.search(name))), "")
    if not downs and not other:
        return None
    counted = Counter(one.shape[0] for one in downs)
    return Addon(
        kind=kind,
        family=_family(header, names, downs),
        rank=counted.most_common(1)[0][0] if counted else 0,
        ranks=tuple(sorted(counted)[:16]),
        alpha=_number(header.texts.get("ss_network_alpha", "")),
        targets=_targets(names),
        trigger=header.texts.get("modelspec.trigger_phrase", "")[:200],
        method="LoRA" if downs else _method(other),
    )


def _kind(names: Sequence[str]) -> str:
    for kind, pattern in KINDS:
        if any(pattern.match(name) for name in names):
            return kind
    return ""


def _method(ending: str) -> str:
    return {"hada": "LoHa", "lokr": "LoKr", "oft_": "OFT"}.get(ending[:4], "LyCORIS")


def _family(header: Header, names: Sequence[str], downs: Sequence[Tensor]) -> str:
    """By the names of blocks, then by the widths that matrices read, then by what the file says of itself."""
    if any(VIDEO.search(name) for name in names):
        return "video"
    if any(FLUX.search(name) for name in names):
        return "flux"
    if any(SD3.search(name) for name in names):
        return "sd3"
    widths = Counter(one.shape[1] for one in downs if len(one.shape) > 1)
    if any(DIT.search(name) for name in names) and not any(UNET.search(name) for name in names):
        return _by_width(widths) or _by_words(header)
    cross = Counter(one.shape[1] for one in downs if len(one.shape) > 1 and CROSS.search(one.name))
    known = [WIDTHS[width] for width, _ in cross.most_common() if width in WIDTHS]
    if known:
        return known[0]
    if any(name.startswith(("lora_te2_", "text_encoder_2.")) for name in names):
        return _by_words(header) or "sdxl"
    return _by_words(header)


def _by_width(widths: Mapping[int, int]) -> str:
    if any(width in SD3_WIDTHS for width in widths):
        return "sd3"
    return "flux" if FLUX_WIDTH in widths else ""


def _by_words(header: Header) -> str:
    said = " ".join(header.texts.get(name, "") for name in SAID).lower()
    return next((family for word, family in WORDS if word in said), "")


def _targets(names: Sequence[str]) -> tuple[str, ...]:
    found = set()
    for name in names:
        if name.startswith(("lora_te2_", "text_encoder_2.")):
            found.add("text_encoder_2")
        elif name.startswith(("lora_te_", "lora_te1_", "text_encoder.")):
            found.add("text_encoder")
        elif FLUX.search(name) or SD3.search(name) or (DIT.search(name) and not UNET.search(name)):
            found.add("transformer")
        elif UNET.search(name) or name.startswith(("lora_unet_", "unet.")):
            found.add("unet")
    return tuple(sorted(found))


def _number(said: str) -> float | None:
    try:
        value = float(said)
    except ValueError:
        return None
    return value if abs(value) < 1e6 else None
