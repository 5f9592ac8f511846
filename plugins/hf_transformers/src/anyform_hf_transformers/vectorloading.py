"""Loads models that make vectors or scores of texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from anyform.contract.errors import LoadFailed, Unsupported
from anyform.contract.model import LoadedModel
from anyform.text.vectormodel import Floats, VectorModel, sigmoid
from anyform_hf_transformers import folder, weights
from anyform_hf_transformers.backend import transformers
from anyform_hf_transformers.encoder import Encoder, EncoderLoop
from anyform_hf_transformers.encoderinputs import EncoderInputs

if TYPE_CHECKING:
    from anyform_hf_transformers.loading import Loading

_UNTOLD_CONTEXT = 8192
_SHIFTED = ("roberta", "xlm-roberta", "camembert", "mpnet")
"""Model types that never use the first two of their position embeddings."""


def load(loading: Loading) -> LoadedModel:
    """The model, warmed up. Raises LoadFailed, OutOfMemory, Unsupported."""
    if loading.config.is_encoder_decoder:
        raise Unsupported(f"{loading.plan.model} is an encoder-decoder model, which this backend does not run.")
    return _ranker(loading) if loading.task == "rerank" else _embedder(loading)


def _embedder(loading: Loading) -> LoadedModel:
    kind = folder.pooling(loading.plan, loading.options.pooling)
    if not kind and _generates(loading):
        raise Unsupported(
            f"{loading.plan.model} does not say how its embeddings are pooled.",
            "Load it with the option pooling=mean, cls or last, as its publisher says.",
        )
    model = loading.read(transformers.AutoModel)
    return _vectors(loading, model, kind or "mean")


def _generates(loading: Loading) -> bool:
    return any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in loading.config.architectures or ())


def _ranker(loading: Loading) -> LoadedModel:
    if loading.config.num_labels > 2:
        raise Unsupported(f"{loading.plan.model} has {loading.config.num_labels} labels; one that ranks has 1 or 2.")
    model = loading.read(transformers.AutoModelForSequenceClassification)
    return _vectors(loading, model, "")


def _vectors(loading: Loading, model: Any, kind: str) -> LoadedModel:
    config, tokenizer = model.config, loading.tokenizer
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    encoder = Encoder(model, loading.device, kind, pad)
    inputs = EncoderInputs(tokenizer, config.vocab_size, getattr(config, "type_vocab_size", 0) > 1)
    width = len(_warm_up(loading, encoder, inputs))
    return VectorModel(
        EncoderLoop(encoder, max(loading.options.batch, 1)),
        inputs,
        context=_text_limit(loading),
        width=width,
        parallel=loading.parallel,
        score=None if kind else _score,
        normalize=bool(loading.plan.metadata.extra.get("normalize", True)),
    )


def _text_limit(loading: Loading) -> int:
    """Tokens of one text: as asked, but never more positions than there are."""
    positions = loading.trained or _UNTOLD_CONTEXT
    if loading.config.model_type in _SHIFTED:
        positions -= 2
    return min(loading.plan.settings.context or loading.plan.metadata.context or positions, positions)


def _warm_up(loading: Loading, encoder: Encoder, inputs: EncoderInputs) -> Floats:
    try:
        row: Floats = encoder.rows([inputs.text("x")])[0]
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        if weights.out_of_memory(error):
            raise MemoryError(str(error)) from error
        raise LoadFailed(f"{loading.plan.model} cannot be run: {type(error).__name__}: {error}.") from error
    if not np.isfinite(row).all():
        raise LoadFailed(f"{loading.plan.model} computes numbers that are not finite.", "Get the model again.")
    return row


def _score(row: Floats) -> float:
    """0 to 1: of one logit its sigmoid, of two the share of the second."""
    return sigmoid(float(row[0]) if len(row) == 1 else float(row[1]) - float(row[0]))
