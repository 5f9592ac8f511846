"""Loads graphs that look at pictures and read texts in one space (CLIP, SigLIP): one graph of both, or one of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anyform.contract.errors import LoadFailed, Unsupported
from anyform.contract.model import LoadedModel
from anyform.picture.picturemodel import SIGLIP_TOKENS, TEMPLATE, Ability, resemblance, sigmoid
from anyform.picture.seen import Seen
from anyform.picture.texts import Texts
from anyform.text.labelmodel import softmax
from anyform.text.words import whole
from anyform_onnx import likeness, tower
from anyform_onnx.likeness import Likeness
from anyform_onnx.loading import Loading
from anyform_onnx.pictureparts import first_row, kind, model, processor, tried
from anyform_onnx.preprocess import GraphPixels
from anyform_onnx.session import Session
from anyform_onnx.tower import BESIDE_TEXT, TOKENS, Tower, Towers

BOTH, LOOKS, READS = "model", "vision_model", "text_model"
"""What files are called (transformers.js, optimum)."""
_OF_PICTURES = ("image_embeds", "pooler_output")
_OF_TEXTS = ("text_embeds", "pooler_output", "sentence_embedding")


def is_pair(path: Path) -> bool:
    """Whether *path* is one of two graphs, or the graph of both with the two beside it, which do less for each task."""
    return _twin(path, LOOKS) is not None and _twin(path, READS) is not None


def load_pair(loading: Loading, path: Path) -> LoadedModel:
    """Two graphs. The one of both, where it lies beside them, is run for a moment: it knows the scale of scores."""
    looks, reads = (loading.open(found) for name in (LOOKS, READS) if (found := _twin(path, name)) is not None)
    texts, pixels = _texts(loading, reads), processor(loading, looks)
    towers = Towers(
        Tower(looks, _output(looks, _OF_PICTURES), tower.flat),
        Tower(reads, _output(reads, _OF_TEXTS), tower.flat, texts=texts),
    )
    known = likeness.asked(loading.options) or _told_by_both(loading, path, texts, pixels)
    if known is None:
        known, note = likeness.assumed(loading.plan.model, sigmoids=_is_siglip(loading))
        looks.notes = (*looks.notes, note)
    return _compared(loading, towers, texts, pixels, known)


def load_joint(loading: Loading, session: Session) -> LoadedModel:
    """One graph: what looks is given some text, and what reads an empty picture, as it runs both each time."""
    if not {"image_embeds", "text_embeds"} <= session.outputs.keys():
        raise Unsupported(
            f"{loading.plan.model} gives {', '.join(session.outputs)}, and no vectors (image_embeds, text_embeds).",
            "Export it anew with them.",
        )
    texts, pixels = _texts(loading, session), processor(loading, session)
    known = likeness.asked(loading.options) or _measured(loading, session, texts, pixels)
    blank = {name: np.asarray(one)[None] for name, one in pixels.blank().items()}
    words = texts.batch([texts.read("x", "")])
    words |= {name: make(words[TOKENS]) for name, make in BESIDE_TEXT.items() if name not in words}
    towers = Towers(
        Tower(session, "image_embeds", tower.flat, idle={one: words[one] for one in words if one in session.inputs}),
        Tower(session, "text_embeds", tower.flat, texts=texts, idle=blank),
    )
    if known is None:
        known, note = likeness.assumed(loading.plan.model, sigmoids=_is_siglip(loading))
        session.notes = (*session.notes, note)
    return _compared(loading, towers, texts, pixels, known)


def _twin(path: Path, bare: str) -> Path | None:
    """The graph called *bare* of the same variant, as text_model_q8 is of vision_model_q8; None: there is none."""
    named = next((one for one in (BOTH, LOOKS, READS) if path.name.startswith(one)), None)
    twin = path.with_name(f"{bare}{path.name.removeprefix(named)}") if named else None
    return twin if twin is not None and twin.is_file() else None


def _told_by_both(loading: Loading, path: Path, texts: Texts, pixels: GraphPixels) -> Likeness | None:
    """From the graph of both, of any variant: they share what was learnt. None: there is none."""
    beside = _twin(path, BOTH) or next(iter(sorted(path.parent.glob(f"{BOTH}*.onnx"))), None)
    if beside is None:
        return None
    session = loading.open(beside)
    loading.sessions.remove(session)  # it does not run the model
    return _measured(loading, session, texts, pixels)


def _measured(loading: Loading, session: Session, texts: Texts, pixels: GraphPixels) -> Likeness | None:
    sigmoids = _is_siglip(loading)
    return tried(loading, lambda: likeness.measured(session, texts, pixels, sigmoids=sigmoids))


def _compared(
    loading: Loading, towers: Towers, texts: Texts, pixels: GraphPixels, known: Likeness | None
) -> LoadedModel:
    row = first_row(loading, towers, Seen((), arrays=pixels.blank()))
    written = first_row(loading, towers, texts.read("x", ""))
    if len(row) != len(written):
        raise LoadFailed(
            f"{loading.plan.model} makes {len(row)} numbers of a picture, and {len(written)} of a text.",
            "Its graphs were exported without what brings them together: export them anew, with their projections.",
        )
    ability = Ability(
        alike=resemblance(known.scale, known.bias, sigmoid if _is_siglip(loading) else softmax) if known else None,
        template=loading.options.hypothesis_template or TEMPLATE,
        vectors=True,
    )
    return model(loading, towers, pixels, ability, len(row), texts)


def _is_siglip(loading: Loading) -> bool:
    return "siglip" in kind(loading)


def _output(session: Session, names: Sequence[str]) -> str:
    found = next((name for name in names if name in session.outputs), None)
    if found is None:
        raise Unsupported(
            f"a graph of {session.model} gives {', '.join(session.outputs)}; none is called {' or '.join(names)}.",
            "Export it anew with one.",
        )
    return found


def _texts(loading: Loading, session: Session) -> Texts:
    """The tokenizer, and how long texts may be, or are to be, for *session*."""
    tokenizer = loading.tokenizer
    shape = session.inputs.get(TOKENS, ("", ()))[1]
    if len(shape) != 2:
        raise Unsupported(
            f"the graph of {session.model} that reads texts takes {', '.join(session.inputs)}, and no {TOKENS} of a"
            " row for each text.",
            "Export it anew with them.",
        )
    fixed = shape[1]
    inner = loading.config.get("text_config")
    told = inner if isinstance(inner, dict) else loading.config
    limits = [told.get("max_position_embeddings"), SIGLIP_TOKENS if _is_siglip(loading) else None]
    limit = min((one for one in limits if isinstance(one, int)), default=loading.context)
    return Texts(
        lambda text: tokenizer.encode(whole(text)).ids,
        tokenizer.get_vocab_size(),
        fixed if isinstance(fixed, int) else limit,
        pad=_padding(loading, tokenizer, told),
        masked="attention_mask" in session.inputs,
        padded=isinstance(fixed, int) or _is_siglip(loading),
    )


def _padding(loading: Loading, tokenizer: Any, told: Any) -> int:
    """The token that fills texts up; 0 where no file says."""
    name = loading.json("tokenizer_config.json").get("pad_token")
    text = name.get("content") if isinstance(name, dict) else name
    found = tokenizer.token_to_id(text) if isinstance(text, str) else told.get("pad_token_id")
    return found if isinstance(found, int) else 0
