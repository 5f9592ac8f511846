"""Loads models that generate text about pictures."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from anyform.contract.errors import Invalid, LoadFailed
from anyform.contract.jobs import Chat, Message, Picture, Text
from anyform.contract.model import LoadedModel
from anyform.text.defaults import sampling
from anyform.text.prompt import ChatForm
from anyform.text.slot import Media
from anyform_hf_transformers import backend, florence, processor, textloading, weights
from anyform_hf_transformers.backend import transformers
from anyform_hf_transformers.info import PICTURE_INSTALL
from anyform_hf_transformers.projector import Projector
from anyform_hf_transformers.sight import SightLoop, open_decoder
from anyform_hf_transformers.sightmodel import SightModel

if TYPE_CHECKING:
    from anyform_hf_transformers.loading import Loading

log = logging.getLogger("anyform.transformers")
_PREFIXED = frozenset({"paligemma", "colpali"})
"""Types whose prompts look at themselves both ways, so that none may be read in pieces."""
_QUESTION = "What does this picture show?"


def load(loading: Loading) -> LoadedModel:
    """The model, its first steps done, on a picture too. Raises LoadFailed, OutOfMemory, Unsupported.

    Where pictures cannot be read, it is one that reads text, and says why to who sends it a picture.
    """
    if type(loading.config) not in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return textloading.load(loading, "transformers has no class that reads pictures for it.")
    if loading.config.model_type == "florence2":
        return florence.load(loading)
    why = _lacking(loading)
    made = None if why else processor.read(loading)
    if made is not None and not processor.marks(made):
        why = f"its {type(made).__name__} names no token that stands for one."
    model = loading.read(transformers.AutoModelForImageTextToText)
    if made is None or why:
        return textloading.made(loading, model, why)
    try:
        return _seeing(loading, model, made)
    except LoadFailed as fault:
        log.warning("%s is loaded without its eyes: %s", loading.plan.model, fault)
        return textloading.made(loading, model, f"{fault.message}")


def _seeing(loading: Loading, model: Any, made: Any) -> LoadedModel:
    """The model that reads pictures. *made*: its processor."""
    parallel, context = loading.parallel, loading.context
    words = textloading.vocabulary(loading, model)
    form = textloading.chat_form(loading, words)
    projector = Projector(made, model, words, marker(form, made.image_token), loading.options.max_pixels)
    tried = probe(form, projector)
    decoder = open_decoder(model, loading.device, parallel, context, projector, tried, exact=loading.exact(model))
    return SightModel(
        SightLoop(decoder, parallel, loading.options.batch, loading.options.text_interval, projector),
        words,
        form,
        context=context,
        parallel=parallel,
        defaults=sampling(loading.plan.metadata.extra),
        projector=projector,
    )


def _lacking(loading: Loading) -> str:
    """Why its pictures cannot be read here; empty: they can."""
    if loading.config.model_type in _PREFIXED:
        return "its prompts look at themselves both ways, which they do not here."
    if backend.pillow is None:
        return f"Pillow, which reads them, is missing ({PICTURE_INSTALL})."
    if not any((weights.folder(loading.plan) / name).is_file() for name in processor.FILES):
        return f"its folder has neither {' nor '.join(processor.FILES)}."
    return ""


def marker(form: ChatForm, mark: str) -> str | None:
    """What to write for a picture, if the chat template does not write *mark* by itself."""
    try:
        return None if mark in form.render(_asking(b"")) else mark
    except Invalid:
        return mark


def probe(form: ChatForm, projector: Projector) -> tuple[list[int], tuple[Media, ...]]:
    """A prompt with a picture, to try the model on. Raises LoadFailed."""
    try:
        text = form.render(_asking(b""), marker=projector.marker)
        return projector.tokenize(text, [processor.sample()])
    except Invalid as fault:
        raise LoadFailed(f"it cannot be asked about a picture: {fault.message}") from fault


def _asking(data: bytes) -> Chat:
    parts = (Picture(data=data), Text(text=_QUESTION))
    return Chat(messages=(Message(role="user", parts=parts),))
