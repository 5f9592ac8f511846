"""What all graphs that look at pictures are loaded with: their processor, a first try, and the loop around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from anyform.contract.errors import Fault, LoadFailed
from anyform.contract.model import LoadedModel
from anyform.picture.memory import TOGETHER, TOGETHER_ON_DEVICE
from anyform.picture.pictureloop import PictureLoop, Rows
from anyform.picture.picturemodel import Ability, PictureModel
from anyform.picture.seen import Seen
from anyform.picture.texts import Texts
from anyform.text.vectormodel import Floats
from anyform_onnx.loading import Loading
from anyform_onnx.preprocess import GraphPixels
from anyform_onnx.processor import FILE, OTHER_FILE, described
from anyform_onnx.session import Session
from anyform_onnx.tower import PIXELS, failed

Made = TypeVar("Made")


def kind(loading: Loading) -> str:
    """model_type of config.json; empty where it says none."""
    said = loading.config.get("model_type")
    return said if isinstance(said, str) else ""


def processor(loading: Loading, session: Session) -> GraphPixels:
    """As the folder describes it, for pictures of the size that *session* takes. Raises LoadFailed, Unsupported."""
    said = described(loading.json(OTHER_FILE), loading.json(FILE))
    name = PIXELS if PIXELS in session.inputs else next(iter(session.inputs))
    made = GraphPixels(said, kind(loading), name, loading.options.max_pixels, loading.plan.model)
    (blank,) = tried(loading, made.blank).values()
    wanted = session.inputs[name][1][1:]
    fits = len(wanted) == blank.ndim and all(
        not isinstance(side, int) or side == given for side, given in zip(wanted, blank.shape, strict=True)
    )
    if not fits:
        raise LoadFailed(
            f"the graph of {loading.plan.model} takes pictures of {_sides(wanted)}, and its processor makes some of "
            f"{_sides(blank.shape)}.",
            f"Get the {FILE} of the original model.",
        )
    return made


def tried(loading: Loading, compute: Callable[[], Made]) -> Made:
    """What the model computes first. Raises LoadFailed, MemoryError."""
    try:
        return compute()
    except (Fault, MemoryError):
        raise
    except Exception as error:  # numpy's, where sizes do not fit
        raise LoadFailed(f"{loading.plan.model} cannot be run: {type(error).__name__}: {error}.") from error


def first_row(loading: Loading, tower: Rows, seen: Seen) -> Floats:
    """The row of the first input. Raises LoadFailed, MemoryError."""
    rows = tried(loading, lambda: tower.rows([seen]))
    if not np.isfinite(rows).all():
        raise LoadFailed(f"{loading.plan.model} computes numbers that are not finite.", "Get the model again.")
    made: Floats = rows[0]
    return made


def model(
    loading: Loading, tower: Rows, pixels: GraphPixels, ability: Ability, width: int, texts: Texts | None = None
) -> LoadedModel:
    """The loaded model. *width*: numbers in a row."""
    on_cpu = not loading.plan.devices or loading.plan.devices[0].kind == "cpu"
    return PictureModel(
        PictureLoop(tower, TOGETHER if on_cpu else TOGETHER_ON_DEVICE, failed),
        pixels,
        texts,
        ability,
        width=width,
        parallel=loading.parallel,
        normalize=bool(loading.plan.metadata.extra.get("normalize", True)),
    )


def _sides(shape: Any) -> str:
    return " x ".join(str(side) if side != "" else "any" for side in shape)
