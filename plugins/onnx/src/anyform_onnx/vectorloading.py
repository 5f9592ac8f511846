"""Loads models that make vectors or scores of texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anyform.contract.errors import Fault, Invalid, LoadFailed, Unsupported
from anyform.contract.model import LoadedModel
from anyform.pretrained import sentence
from anyform.pretrained.configuration import OFFSET_POSITIONS, Configuration
from anyform.text.encodeloop import TOGETHER, EncodeLoop
from anyform.text.encoderinputs import EncoderInputs
from anyform.text.labelmodel import HYPOTHESIS, LabelModel, entailing, labels_of, share
from anyform.text.lane import Lanes
from anyform.text.processor import cores
from anyform.text.vectormodel import Floats, Input, VectorModel, score
from anyform_onnx import blending
from anyform_onnx.encoder import Encoder, failed, logits_output, vector_output
from anyform_onnx.head import Head, Layers, activation
from anyform_onnx.memory import BATCHES_AT_ONCE
from anyform_onnx.session import Session

if TYPE_CHECKING:
    from anyform.pretrained.sentence import Sentence
    from anyform_onnx.loading import Loading

_UNTOLD_CONTEXT = 8192
_PROBE = "Some words, to compare numbers by."
_BESIDE = "Quite another text: 1, 2, 3, with much more in it than the first one has, and in other words."
_PAD_TOKENS = ("[PAD]", "<pad>", "<|endoftext|>")


def load(loading: Loading) -> LoadedModel:
    """The model, warmed up. Raises Invalid, LoadFailed, MemoryError, Unsupported."""
    said = sentence.read(loading.plan, loading.folder)
    task = loading.plan.metadata.tasks[0]
    if task == "rerank":
        return _ranker(loading, said)
    return _classifier(loading) if task in ("classify", "zero_shot") else _embedder(loading, said)


def _embedder(loading: Loading, said: Sentence) -> LoadedModel:
    session, model = _session(loading), loading.plan.model
    asked, skips = loading.options.pooling, bool(said.prompt) and not said.pools_prompt
    unpooled = f"the option pooling={asked}" if asked else "a prompt that is not pooled" if skips else ""
    output, by_token = vector_output(session, wanted=said.output, pools=bool(unpooled), unpooled=unpooled)
    if by_token and not asked and not said.parts and _generates(loading):
        raise Unsupported(
            f"{model} does not say how its embeddings are pooled.",
            "Load it with the option pooling=mean, cls or last, as its publisher says.",
        )
    follows = Head(said.steps(asked, Layers(model))) if by_token or output == said.output else None
    encoder = _encoder(loading, session, output, follows)
    inputs = _inputs(loading, session, prompt=said.prompt, pools_prompt=said.pools_prompt, lowers=said.lowers)
    row, context = _warm_up(loading, encoder, inputs), _text_limit(loading, encoder)
    return VectorModel(
        _loop(loading, session, encoder, inputs, context),
        inputs,
        context=context,
        width=len(row),
        parallel=loading.parallel,
        normalize=said.normalizes,
    )


def _ranker(loading: Loading, said: Sentence) -> LoadedModel:
    session = _session(loading)
    encoder, inputs = _encoder(loading, session, logits_output(session)), _inputs(loading, session)
    row, context = _warm_up(loading, encoder, inputs), _text_limit(loading, encoder)
    said.check_ranks(len(row))
    name = said.score(loading.config) if len(row) == 1 else ""
    function: Callable[[Floats], Floats] | None = activation(name, loading.plan.model) if name else None
    return VectorModel(
        _loop(loading, session, encoder, inputs, context),
        inputs,
        context=context,
        width=len(row),
        parallel=loading.parallel,
        score=score(len(row), function),
    )


def _classifier(loading: Loading) -> LoadedModel:
    session = _session(loading)
    encoder, inputs = _encoder(loading, session, logits_output(session)), _inputs(loading, session)
    row, context = _warm_up(loading, encoder, inputs), _text_limit(loading, encoder)
    labels = labels_of(loading.config.get("id2label"), len(row))
    return LabelModel(
        _loop(loading, session, encoder, inputs, context),
        inputs,
        context=context,
        labels=labels,
        share=share(loading.config.get("problem_type"), len(row)),
        entailment=entailing(labels),
        parallel=loading.parallel,
        template=loading.options.hypothesis_template or HYPOTHESIS,
    )


def _session(loading: Loading) -> Session:
    return loading.open(Path(loading.plan.path) / loading.plan.match.entry, spins=False)


def _encoder(loading: Loading, session: Session, output: str, follows: Head | None = None) -> Encoder:
    pad, config = _pad(loading), Configuration(loading.config)
    return Encoder(session, output, follows, pad, pad + 1 if config.model_type in OFFSET_POSITIONS else 0)


def _pad(loading: Loading) -> int:
    stated = Configuration(loading.config).number("pad_token_id")
    known = (loading.tokenizer.token_to_id(name) for name in _PAD_TOKENS)
    return stated if stated is not None else next((id for id in known if id is not None), 0)


def _generates(loading: Loading) -> bool:
    return any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in Configuration(loading.config).architectures)


def _inputs(
    loading: Loading, session: Session, *, prompt: str = "", pools_prompt: bool = True, lowers: bool = False
) -> EncoderInputs:
    size = Configuration(loading.config).number("vocab_size") or loading.tokenizer.get_vocab_size()
    typed = "token_type_ids" in session.inputs
    return EncoderInputs(loading.tokenizer, size, typed, prompt=prompt, pools_prompt=pools_prompt, lowers=lowers)


def _loop(loading: Loading, session: Session, encoder: Encoder, inputs: EncoderInputs, context: int) -> EncodeLoop:
    """The running loop. *context*: tokens of a text.

    A run of onnxruntime computes on the thread that calls it, and on those of the session's pool that are idle then:
    so each of several runs at once gets its share of the cores, and a lone one all of them.
    """
    batch, devices = loading.options.batch, loading.plan.devices
    on_cpu = not devices or devices[0].kind == "cpu"
    lanes = Lanes((loading.options.threads or cores()) if on_cpu else 1, BATCHES_AT_ONCE * batch)
    together = encoder.texts or TOGETHER
    why = _apart(encoder, inputs, context)
    if why and loading.plan.settings.options.get("batch") is None:
        together = 1
        session.notes += (
            f"The graph {why}: each text is computed by itself. The option batch, given as tokens, has several computed"
            " together, up to twice as fast.",
        )
    elif why:
        session.notes += (f"The graph {why}. Without the option batch each text is computed by itself.",)
    return EncodeLoop(encoder, batch, lanes, failed, padded=encoder.tokens, together=together)


def _apart(encoder: Encoder, inputs: EncoderInputs, context: int) -> str:
    """Why texts are not to be computed together, in a clause; empty: they may."""
    if encoder.texts == 1:
        return ""
    alone, other = (_cut(inputs, text, context) for text in (_PROBE, _BESIDE))
    return blending.trouble(encoder.rows, alone, other)


def _cut(inputs: EncoderInputs, text: str, most: int) -> Input:
    """*text* as the model reads it, with *most* tokens at the most."""
    whole = inputs.text(text)
    return inputs.cut(whole, most) if most < len(whole) else whole


def _text_limit(loading: Loading, encoder: Encoder) -> int:
    """Tokens of one text: as asked, but never more positions than there are. Raises Invalid."""
    asked = loading.plan.settings.context
    if asked is not None and asked < 1:
        raise Invalid(f"context is {asked}.", "It must be 1 token or more.")
    stated = (encoder.tokens, Configuration(loading.config).context, _UNTOLD_CONTEXT)
    positions = next(one for one in stated if one)
    return min(asked or loading.plan.metadata.context or positions, positions)


def _warm_up(loading: Loading, encoder: Encoder, inputs: EncoderInputs) -> Floats:
    """One row."""
    try:
        row: Floats = encoder.rows([inputs.text("x")])[0]
    except (MemoryError, Fault):
        raise
    except Exception as error:  # what numpy says of numbers that do not fit each other
        raise LoadFailed(f"{loading.plan.model} cannot be run: {type(error).__name__}: {error}") from error
    if row.ndim != 1 or not row.size:
        raise LoadFailed(f"{loading.plan.model} makes {list(row.shape)} numbers of a text, where a row is wanted.")
    if not np.isfinite(row).all():
        raise LoadFailed(f"{loading.plan.model} computes numbers that are not finite.", "Get the model again.")
    return row
