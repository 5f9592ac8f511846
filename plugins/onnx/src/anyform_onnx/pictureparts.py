"""What all graphs that look at pictures are loaded with: their processor, a first try, and the loop around them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from anyform.contract.errors import Fault, LoadFailed
from anyform.contract.model import LoadedModel
from anyform.picture.memory import TOGETHER, TOGETHER_ON_DEVICE
from anyform.picture.pictureloop import PictureLoop, Rows
from anyform.picture.picturemodel import Ability, PictureModel
from anyform.picture.seen import Seen
from anyform.picture.texts import Texts
from anyform.text.vectormodel import Floats
from anyform_onnx import blending
from anyform_onnx.loading import Loading
from anyform_onnx.preprocess import GraphPixels
from anyform_onnx.processor import FILE, OTHER_FILE, described
from anyform_onnx.session import Session
from anyform_onnx.tower import PIXELS, failed

Made = TypeVar("Made")
_SPREADS = (0.5, 2.0)
_TEXTS = ("a photo", "Quite another text, with more in it: 1, 2, 3")
"""Two pictures, and two texts, that have little in common."""


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
    together = TOGETHER if on_cpu else TOGETHER_ON_DEVICE
    why = _apart(loading, tower, pixels, texts)
    if why:
        together = 1
        loading.sessions[0].notes += (f"The graph {why}: each input is computed by itself.",)
    return PictureModel(
        PictureLoop(tower, together, failed),
        pixels,
        texts,
        ability,
        width=width,
        parallel=loading.parallel,
        normalize=bool(loading.plan.metadata.extra.get("normalize", True)),
    )


def _apart(loading: Loading, tower: Rows, pixels: GraphPixels, texts: Texts | None) -> str:
    """Why inputs are not to be computed together, in a clause; empty: they may. Raises LoadFailed, MemoryError."""
    blank = pixels.blank()
    pairs = [[Seen((), arrays={name: _noise(one, spread) for name, one in blank.items()}) for spread in _SPREADS]]
    if texts is not None:
        pairs.append([texts.read(text, "", truncate=True) for text in _TEXTS])
    found = (tried(loading, partial(blending.trouble, tower.rows, *pair)) for pair in pairs)
    return next((why for why in found if why), "")


def _noise(blank: NDArray[Any], spread: float) -> NDArray[Any]:
    drawn = np.random.default_rng(0).normal(0, spread, blank.shape)
    return np.abs(drawn).astype(blank.dtype)


def _sides(shape: Any) -> str:
    return " x ".join(str(side) if side != "" else "any" for side in shape)
