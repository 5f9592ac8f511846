"""Which image processors there are, by what preprocessor_config.json calls them, and what each does where it is silent.

The values are those of transformers 5.23 (image_processing_pil_*.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FILE, OTHER_FILE, PART = "preprocessor_config.json", "processor_config.json", "image_processor"
"""Where they are described; in the other file in a part of it, which goes first, as in transformers 5."""
INSTEAD = "Run the original model with hf_transformers."
_BILINEAR, _BICUBIC = 2, 3
"""Numbers of Pillow's filters, as files have them."""
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_ENDINGS = ("ImageProcessorFast", "ImageProcessorPil", "ImageProcessor", "FeatureExtractor")


def _of(size: Any, filter: int, colours: tuple[Any, Any], crop: int = 0, **more: Any) -> dict[str, Any]:
    """A processor's own values, which a file may replace."""
    return {
        "size": size,
        "resample": filter,
        "image_mean": colours[0],
        "image_std": colours[1],
        "crop_size": crop or 224,
        "do_center_crop": bool(crop),
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "rescale_factor": 1 / 255,
        "default_to_square": not isinstance(size, dict),
        **more,
    }


_SHORT = {"shortest_edge": 224}
_CLIPS = _of(_SHORT, _BICUBIC, _CLIP, 224)
_MOBILE = _of({"shortest_edge": 256}, _BILINEAR, _HALF, 224)
PROCESSORS: Mapping[str, Mapping[str, Any]] = {
    "Beit": _of(224, _BICUBIC, _HALF),
    "Bit": _CLIPS,
    "Blip": _of(384, _BICUBIC, _CLIP),
    "CLIP": _CLIPS,
    "ChineseCLIP": _CLIPS,
    "ConvNext": _of({"shortest_edge": 384}, _BICUBIC, _HALF, crop_pct=224 / 256),
    "DINOv3ViT": _of(224, _BILINEAR, _IMAGENET),
    "DeiT": _of(256, _BICUBIC, _HALF, 224),
    "EfficientNet": _of(346, _BICUBIC, _HALF, rescale_offset=False, include_top=True),
    "Levit": _of(_SHORT, _BICUBIC, _IMAGENET, 224),
    "MobileNetV1": _MOBILE,
    "MobileNetV2": _MOBILE,
    "MobileViT": _of(_SHORT, _BICUBIC, _HALF, 256, do_flip_channel_order=True),
    "PoolFormer": _of(_SHORT, _BICUBIC, _IMAGENET, 224, crop_pct=0.9),
    "Pvt": _of(224, _BICUBIC, _IMAGENET),
    "Siglip": _of(224, _BICUBIC, _HALF, default_to_square=False),
    "ViT": _of(224, _BILINEAR, _HALF),
}
"""By the name without ImageProcessor or FeatureExtractor: what transformers fills in where the file says nothing."""
_KINDS: Mapping[str, str] = {
    "beit": "Beit", "bit": "Bit", "blip": "Blip", "chinese_clip": "ChineseCLIP", "clip": "CLIP",
    "clip_vision_model": "CLIP", "convnext": "ConvNext", "convnextv2": "ConvNext", "cvt": "ConvNext",
    "data2vec-vision": "Beit", "deit": "DeiT", "dinov2": "Bit", "dinov2_with_registers": "Bit",
    "dinov3_vit": "DINOv3ViT", "efficientnet": "EfficientNet", "focalnet": "Bit", "hiera": "Bit", "ijepa": "ViT",
    "levit": "Levit",
    "mobilenet_v1": "MobileNetV1", "mobilenet_v2": "MobileNetV2", "mobilevit": "MobileViT", "mobilevitv2": "MobileViT",
    "poolformer": "PoolFormer", "pvt": "Pvt", "regnet": "ConvNext", "resnet": "ConvNext", "siglip": "Siglip",
    "siglip_vision_model": "Siglip", "swiftformer": "ViT", "swin": "ViT", "swinv2": "ViT", "vit": "ViT",
    "vit_mae": "ViT", "vit_msn": "ViT",
}  # fmt: skip
"""By model_type, for files that do not name their processor (transformers' image_processing_auto.py)."""


def described(nested: Mapping[str, Any], plain: Mapping[str, Any]) -> Mapping[str, Any]:
    """The processor, from the content of OTHER_FILE and of FILE."""
    found = nested.get(PART)
    return found if isinstance(found, dict) else plain


def family(said: Mapping[str, Any], model_type: str) -> tuple[str, str]:
    """The key of PROCESSORS for what FILE *said*; or, where it is empty, why there is none, in a sentence."""
    name = said.get("image_processor_type") or said.get("feature_extractor_type")
    if not isinstance(name, str):
        found = _KINDS.get(model_type, "")
        return found, "" if found else f"{FILE} does not say which image processor it is (image_processor_type)."
    short = next((name.removesuffix(one) for one in _ENDINGS if name.endswith(one)), name)
    if short in PROCESSORS:
        return short, ""
    return "", f"{FILE} names the image processor {name:.60}; {', '.join(PROCESSORS)} are followed."
