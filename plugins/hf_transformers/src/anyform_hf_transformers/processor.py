"""Transformers' processors: what makes of pictures and text what a model takes."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

from anyform.contract.errors import EngineMissing, LoadFailed
from anyform_hf_transformers import backend, weights
from anyform_hf_transformers.backend import transformers

if TYPE_CHECKING:
    from anyform_hf_transformers.loading import Loading

FILES = ("processor_config.json", "preprocessor_config.json")
"""A folder without both has no processor."""
_SAMPLE_PIXELS = 56
"""Width and height; many processors make larger pictures of it."""
_PARTS = frozenset({"image_processor", "tokenizer", "video_processor"})


def read(loading: Loading) -> Any:
    """Transformers' processor, without what reads videos, which would need torchvision.

    Raises EngineMissing, LoadFailed.
    """
    place, given = weights.folder(loading.plan), {"local_files_only": True}
    given["trust_remote_code"] = loading.options.trust_remote_code
    try:
        kind = transformers.PROCESSOR_MAPPING.get(type(loading.config), None)
        if kind is None or not set(kind.get_attributes()) <= _PARTS:
            processor = transformers.AutoProcessor.from_pretrained(place, **given)
        else:
            images = transformers.AutoImageProcessor.from_pretrained(place, **given)
            parts = {"image_processor": images, "tokenizer": loading.tokenizer}
            said, _ = kind.get_processor_dict(place, local_files_only=True)
            processor = _still(kind).from_args_and_dict([parts.get(name) for name in kind.get_attributes()], said)
    except ImportError as error:
        raise EngineMissing(
            f"the processor of {loading.plan.model} needs a package that is not installed: {error}",
            "Install what it names.",
        ) from error
    except (ValueError, KeyError, OSError, TypeError, AttributeError) as error:
        raise LoadFailed(
            f"transformers does not read the processor of {loading.plan.model}: {type(error).__name__}: {error}"
        ) from error
    if processor.chat_template:
        loading.tokenizer.chat_template = processor.chat_template
    return processor


def marks(processor: Any) -> bool:
    """Whether it says what stands for a picture in a text, and which id that is among tokens."""
    mark, token = (getattr(processor, name, None) for name in ("image_token", "image_token_id"))
    return isinstance(mark, str) and isinstance(token, int)


def _still(kind: Any) -> Any:
    """The class of processors *kind*, but one that may lack a part."""

    def check(self: Any, name: str, part: Any) -> Any:
        return None if part is None else kind.check_argument_for_proper_class(self, name, part)

    return type(kind.__name__, (kind,), {"check_argument_for_proper_class": check})


def sample() -> bytes:
    """A small picture, no two rows or columns of which are alike: PNG."""
    side = range(_SAMPLE_PIXELS)
    pixels = bytes((5 * x + 11 * y * band + 80 * band) % 256 for y in side for x in side for band in range(3))
    encoded = BytesIO()
    backend.pillow.frombytes("RGB", (_SAMPLE_PIXELS, _SAMPLE_PIXELS), pixels).save(encoded, "PNG")
    return encoded.getvalue()
