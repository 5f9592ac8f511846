"""Loads graphs that look at pictures: classifiers and encoders; those that read, too, are loaded by duals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from anyform.contract.errors import EngineMissing, Invalid, LoadFailed, Unsupported
from anyform.contract.model import LoadedModel
from anyform.picture.backend import library
from anyform.picture.picturemodel import Ability, sigmoid
from anyform.picture.seen import Seen
from anyform.pretrained.listing import Listing
from anyform.text.labelmodel import softmax
from anyform.text.vectormodel import Floats
from anyform_onnx import dualloading, layout, tower
from anyform_onnx.info import PICTURE_INSTALL, PLAIN
from anyform_onnx.loading import Loading
from anyform_onnx.pictureparts import first_row, kind, model, processor
from anyform_onnx.session import Session
from anyform_onnx.tower import TOKENS, Tower

POOLED = ("image_embeds", "pooler_output")
"""Outputs that are one vector of a picture."""
_PATCHES = ("last_hidden_state", "embeddings")
_POOLINGS = ("mean", "cls")
_NO_FIRST = ("ijepa",)
"""Model types with no patch of their own for the whole picture."""


def load(loading: Loading) -> LoadedModel:
    """The model, warmed up. Raises EngineMissing, Invalid, LoadFailed, OutOfMemory, Unsupported."""
    try:
        library()
    except EngineMissing as error:
        raise EngineMissing(
            f"{loading.plan.model} reads pictures, for which Pillow is missing.", f"Install it: {PICTURE_INSTALL}"
        ) from error
    path = _graph(loading)
    if dualloading.is_pair(path):
        return dualloading.load_pair(loading, path)
    session = loading.open(path)
    if TOKENS in session.inputs:
        return dualloading.load_joint(loading, session)
    if "logits" in session.outputs or "classify" in loading.plan.metadata.tasks:
        return _classifier(loading, session)
    return _embedder(loading, session)


def _graph(loading: Loading) -> Path:
    """The graph itself, which export.json names. Raises LoadFailed."""
    match, entry = loading.plan.match, Path(loading.plan.path) / loading.plan.match.entry
    if match.format == PLAIN:
        return entry
    name = layout.named(Listing(entry.parent), match.format, entry.name).get("model")
    if name is None:
        raise LoadFailed(f"{entry.name} of {loading.plan.model} names no graph of a model.", "Export it again, whole.")
    return entry.parent / name


def _classifier(loading: Loading, session: Session) -> LoadedModel:
    output = "logits" if "logits" in session.outputs else next(iter(session.outputs))
    made, pixels = Tower(session, output, tower.flat), processor(loading, session)
    count = len(first_row(loading, made, Seen((), arrays=pixels.blank())))
    ability = Ability(labels=_labels(loading, count), share=_share(loading, count))
    return model(loading, made, pixels, ability, count)


def _labels(loading: Loading, count: int) -> tuple[str, ...]:
    """As config.json calls them; where it calls them nothing, as transformers does."""
    names = loading.config.get("id2label")
    if not isinstance(names, dict) or not names:
        return tuple(f"LABEL_{place}" for place in range(count))
    if {str(place) for place in range(count)} != {*map(str, names)}:
        raise LoadFailed(
            f"{loading.plan.model} gives {count} scores, and its config.json names {len(names)} labels.",
            "Get the model again.",
        )
    return tuple(str(names[str(place)]) for place in range(count))


def _share(loading: Loading, count: int) -> Callable[[Floats], Floats]:
    """As transformers' image-classification pipeline chooses."""
    problem = loading.config.get("problem_type")
    if problem == "regression":
        return lambda row: row
    return sigmoid if problem == "multi_label_classification" or count == 1 else softmax


def _embedder(loading: Loading, session: Session) -> LoadedModel:
    made, pixels = _pooled(loading, session), processor(loading, session)
    row = first_row(loading, made, Seen((), arrays=pixels.blank()))
    return model(loading, made, pixels, Ability(vectors=True), len(row))


def _pooled(loading: Loading, session: Session) -> Tower:
    """The model's own vector, or, where that is asked for or there is none, one of its patches."""
    asked = loading.options.pooling
    if asked and asked not in _POOLINGS:
        raise Invalid(f"load option pooling is {asked!r}.", f"For pictures it is one of {', '.join(_POOLINGS)}.")
    own = next((name for name in POOLED if name in session.outputs), "")
    patches = next((name for name in _PATCHES if name in session.outputs), "")
    if own and not asked:
        return Tower(session, own, tower.flat)
    if not patches:
        raise Unsupported(
            f"{loading.plan.model} gives {', '.join(session.outputs)}: no patches to pool, which are called "
            f"{' or '.join(_PATCHES)}.",
            "Leave the option pooling out." if asked else "Export it anew with them.",
        )
    averaged = asked == "mean" or (not asked and kind(loading) in _NO_FIRST)
    return Tower(session, patches, tower.mean if averaged else tower.first)
