"""How alike a picture and a text are, from the cosine of their vectors: the scale and the shift that were learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anyform.contract.errors import LoadFailed
from anyform.picture.texts import Texts
from anyform_onnx.options import Options
from anyform_onnx.preprocess import GraphPixels
from anyform_onnx.session import Session
from anyform_onnx.tower import Tower, flat

LOGITS = "logits_per_image"
CLIP_SCALE = 100.0
"""Where CLIP's training stops it, "clipped to prevent scaling the logits by more than 100" (https://arxiv.org/abs/2103.00020,
section 2.5); OpenAI's published models all ended there."""
_WORDS = ("a cat", "a photo of a red house", "12", "many people in the rain", "x", "music; and silence")
_OFF = 0.02
"""Of a cosine, by which a graph of half or eighth precision may miss what its own vectors say."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """A logit is *scale* x cosine + *bias*."""

    scale: float
    bias: float = 0.0


def asked(options: Options) -> Likeness | None:
    """As the load options say. None: they do not."""
    return None if options.logit_scale is None else Likeness(options.logit_scale, options.logit_bias or 0.0)


def measured(session: Session, texts: Texts, pixels: GraphPixels, *, sigmoids: bool) -> Likeness | None:
    """From what a graph that both looks and reads makes of a few pictures and texts.

    Exporters fold the learnt numbers into constants without a name, so they are found by least squares. *sigmoids*:
    SigLIP, which has a shift too. None: the graph gives no logits. Raises LoadFailed, where they are no such function.
    """
    if LOGITS not in session.outputs:
        return None
    found = np.array([_seen(session, texts, pixels, seed, text) for seed, text in enumerate(_WORDS)])
    cosines, logits = found[:, 0], found[:, 1]
    terms = np.stack([cosines, np.ones_like(cosines)] if sigmoids else [cosines], 1)
    solved: Sequence[float] = np.linalg.lstsq(terms, logits)[0]
    scale, bias = float(solved[0]), float(solved[1]) if sigmoids else 0.0
    off = np.abs(cosines * scale + bias - logits).max()
    if not scale > 0 or off > _OFF * scale:
        raise LoadFailed(
            f"{LOGITS} of {session.model} is no scaled cosine of its vectors: the nearest scale, {scale:.4g}, misses "
            f"its numbers by up to {off:.3g}.",
            "Say the model's own with the load option logit_scale.",
        )
    return Likeness(scale, bias)


def _seen(session: Session, texts: Texts, pixels: GraphPixels, seed: int, text: str) -> tuple[float, float]:
    """The cosine and the logit of a noisy picture and *text*."""
    chance = np.random.default_rng(seed)
    idle = {name: chance.normal(size=(1, *np.shape(one))) for name, one in pixels.blank().items()}
    tower = Tower(session, LOGITS, flat, texts=texts, idle=idle)
    outputs = tower.run([texts.read(text, "")], [LOGITS, "image_embeds", "text_embeds"])
    logit, picture, words = (one[0].astype(np.float64) for one in outputs)
    return float(picture @ words / np.linalg.norm(picture) / np.linalg.norm(words)), float(logit.flat[0])


def assumed(model: str, *, sigmoids: bool) -> tuple[Likeness | None, str]:
    """What two graphs that were exported apart are compared by, and what their user is to know of it.

    Neither has the learnt scale, and config.json's logit_scale_init_value is what training began with. None: no
    number would do, as SigLIP's scores stand each for itself.
    """
    if sigmoids:
        return None, (
            f"{model} does no zero_shot: its graphs of pictures and of texts lack the logit_scale and logit_bias that "
            "were learnt. Say them as load options, or get the graph that has both."
        )
    return Likeness(CLIP_SCALE), (
        f"The logit_scale of {model} is taken to be {CLIP_SCALE:.0f}, as of all of OpenAI's CLIPs: its graphs of "
        "pictures and of texts lack it. The order of labels holds in any case; say another as load option logit_scale."
    )
