"""Loads models that look at pictures: classifiers, CLIP and its kin, encoders, and those that write about one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from anyform.contract.errors import EngineMissing, Invalid, LoadFailed, Unsupported
from anyform.contract.model import LoadedModel
from anyform.picture.memory import TOGETHER, TOGETHER_ON_DEVICE
from anyform.picture.pictureloop import PictureLoop
from anyform.picture.picturemodel import SIGLIP_TOKENS, TEMPLATE, Ability, PictureModel, resemblance, sigmoid
from anyform.picture.pixels import Pixels
from anyform.picture.seen import Seen
from anyform.picture.texts import Texts
from anyform.text.labelmodel import softmax
from anyform.text.vectormodel import Floats
from anyform_hf_transformers import backend, weights
from anyform_hf_transformers.backend import torch, transformers
from anyform_hf_transformers.captionloop import CaptionLoop
from anyform_hf_transformers.captionmodel import CaptionModel
from anyform_hf_transformers.info import PICTURE_INSTALL
from anyform_hf_transformers.pictureencoder import Labelling, Pairing, PictureEncoder, Pooling, failed
from anyform_hf_transformers.pixels import ProcessorPixels, texts
from anyform_hf_transformers.writer import WRITERS, Writer

if TYPE_CHECKING:
    from anyform_hf_transformers.loading import Loading

_NO_FIRST = ("ijepa",)
"""Model types with no patch of their own for the whole picture."""
_POOLINGS = ("mean", "cls")


def load(loading: Loading) -> LoadedModel:
    """The model, warmed up. Raises EngineMissing, LoadFailed, OutOfMemory, Unsupported."""
    if backend.pillow is None:
        raise EngineMissing(
            f"{loading.plan.model} reads pictures, for which Pillow is missing.", f"Install it: {PICTURE_INSTALL}"
        )
    makers: dict[str, Callable[[Loading], LoadedModel]] = {
        "classify": _classifier, "zero_shot": _pair, "embed": _embedder, "caption": _writer, "answer": _answerer,
    }  # fmt: skip
    if loading.task not in makers:
        raise Unsupported(f"{loading.plan.model} is made for {loading.task}, which this backend does not do.")
    if _is_pair(loading):
        return _pair(loading)
    return makers[loading.task](loading)


def _is_pair(loading: Loading) -> bool:
    """Whether it has one space for pictures and texts, whichever of its tasks is the main one."""
    return "zero_shot" in loading.plan.metadata.tasks


def _classifier(loading: Loading) -> LoadedModel:
    model = loading.read(transformers.AutoModelForImageClassification)
    labels = tuple(str(model.config.id2label[place]) for place in range(model.config.num_labels))
    ability = Ability(labels=labels, share=_share(model.config))
    return _rows(loading, Labelling(model, loading.device), None, ability)


def _share(config: Any) -> Callable[[Floats], Floats]:
    """As transformers' image-classification pipeline chooses."""
    if config.problem_type == "regression":
        return lambda row: row
    return sigmoid if config.problem_type == "multi_label_classification" or config.num_labels == 1 else softmax


def _embedder(loading: Loading) -> LoadedModel:
    name = next(iter(loading.config.architectures or ()), "")
    own = getattr(transformers, name) if name.endswith("VisionModelWithProjection") else transformers.AutoModel
    if hasattr(loading.config, "mask_ratio"):
        loading.config.mask_ratio = 0.0  # else ViTMAE looks at a quarter of the picture, each time another
    model = loading.read(own)
    kind = _pooling(loading)
    if kind == "pooler" and any("pooler." in one for one in model.lacking):
        kind = "cls"
    return _rows(loading, Pooling(model, loading.device, kind), None, Ability(vectors=True))


def _pooling(loading: Loading) -> str:
    asked = loading.options.pooling
    if asked and asked not in _POOLINGS:
        raise Invalid(f"load option pooling is {asked!r}.", f"For pictures it is one of {', '.join(_POOLINGS)}.")
    return asked or ("mean" if loading.config.model_type in _NO_FIRST else "pooler")


def _pair(loading: Loading) -> LoadedModel:
    name = next(iter(loading.config.architectures or ()), "")
    if name.endswith("ForImageTextRetrieval"):
        raise Unsupported(
            f"{loading.plan.model} is a {name}, which looks at each picture with each text.",
            "Use a model with one space for both, such as CLIP or SigLIP.",
        )
    model = loading.read(transformers.AutoModel)
    if not hasattr(model, "get_image_features") or not hasattr(model, "get_text_features"):
        raise Unsupported(f"{type(model).__name__} has no space for pictures and texts together.")
    sigmoids = "siglip" in model.config.model_type
    texts = _texts(loading, model, padded=sigmoids)
    scale = model.logit_scale.detach().exp() if hasattr(model, "logit_scale") else 1 / model.temperature.detach()
    bias = float(model.logit_bias.detach()) if hasattr(model, "logit_bias") else 0.0
    ability = Ability(
        alike=resemblance(float(scale), bias, sigmoid if sigmoids else softmax),
        template=loading.options.hypothesis_template or TEMPLATE,
        vectors=True,
    )
    return _rows(loading, Pairing(model, loading.device, texts), texts, ability)


def _texts(loading: Loading, model: Any, *, padded: bool = False) -> Texts:
    config = model.config.get_text_config()
    limits = [getattr(config, "max_position_embeddings", None), SIGLIP_TOKENS if padded else None]
    limit = min((one for one in limits if isinstance(one, int)), default=loading.context)
    return texts(loading.tokenizer, config.vocab_size, limit, padded=padded)


def _rows(loading: Loading, encoder: PictureEncoder, texts: Texts | None, ability: Ability) -> LoadedModel:
    pixels = ProcessorPixels(loading)
    asked = texts is not None and ability.answers
    seen = Seen(texts.read("x", "").tokens if texts is not None and asked else (), arrays=pixels.blank())
    row = _tried(loading, partial(encoder.rows, [seen]))[0]
    if texts is not None and not asked:
        _tried(loading, partial(encoder.rows, [texts.read("x", "")]))
    return PictureModel(
        PictureLoop(encoder, TOGETHER if loading.device == "cpu" else TOGETHER_ON_DEVICE, failed),
        pixels,
        texts,
        ability,
        width=len(row),
        parallel=loading.parallel,
        normalize=bool(loading.plan.metadata.extra.get("normalize", True)),
    )


def _answerer(loading: Loading) -> LoadedModel:
    if loading.config.model_type == "vilt":
        model = loading.read(transformers.ViltForQuestionAnswering)
        texts = _texts(loading, model)
        labels = tuple(str(model.config.id2label[place]) for place in range(model.config.num_labels))
        ability = Ability(labels=labels, share=softmax, answers=True)
        return _rows(loading, Labelling(model, loading.device, texts), texts, ability)
    return _writer(loading)


def _writer(loading: Loading) -> LoadedModel:
    kind = WRITERS.get(loading.config.model_type)
    name = next(iter(loading.config.architectures or ()), "")
    if kind is None or not hasattr(transformers, name):
        raise Unsupported(
            f"{loading.plan.model} is a {name or loading.config.model_type}, which this backend does not run.",
            f"Of models that write about pictures it runs {', '.join(sorted(WRITERS))}.",
        )
    model = loading.read(getattr(transformers, name))
    texts = _texts(loading, model)
    writer = kind(model, loading.device, texts)
    pixels = ProcessorPixels(loading)
    tasks = tuple(task for task in loading.plan.metadata.tasks if task in ("caption", "answer")) or (loading.task,)
    _tried(loading, partial(_written, writer, pixels, "answer" in tasks))
    return CaptionModel(
        CaptionLoop(writer, loading.parallel),
        pixels,
        texts,
        loading.tokenizer,
        tasks,
        question=writer.question,
        parallel=loading.parallel,
    )


def _written(writer: Writer, pixels: Pixels, asked: bool) -> Any:
    """The logits of the first token about an empty picture."""
    seen = Seen(writer.texts.read("x", "").tokens if asked else (), arrays=pixels.blank())
    with torch.inference_mode():
        return writer.step(writer.begin([seen])).float().cpu().numpy()


def _tried(loading: Loading, compute: Callable[[], Any]) -> Any:
    """What the model computes first. Raises LoadFailed, MemoryError."""
    try:
        made = compute()
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError, Invalid) as error:
        if weights.out_of_memory(error):
            raise MemoryError(str(error)) from error
        raise LoadFailed(f"{loading.plan.model} cannot be run: {type(error).__name__}: {error}.") from error
    if not np.isfinite(made).all():
        raise LoadFailed(f"{loading.plan.model} computes numbers that are not finite.", "Get the model again.")
    return made
