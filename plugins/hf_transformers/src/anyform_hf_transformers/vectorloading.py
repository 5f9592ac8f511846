"""Loads models that make vectors or scores of texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from anyform.contract.errors import LoadFailed, Unsupported
from anyform.contract.model import LoadedModel
from anyform.text.labelmodel import HYPOTHESIS, LabelModel, softmax
from anyform.text.vectormodel import Floats, VectorModel, sigmoid
from anyform_hf_transformers import sentence, weights
from anyform_hf_transformers.backend import torch, transformers
from anyform_hf_transformers.configuration import OFFSET_POSITIONS
from anyform_hf_transformers.encoder import Encoder, EncoderLoop
from anyform_hf_transformers.encoderinputs import EncoderInputs
from anyform_hf_transformers.head import Head
from anyform_hf_transformers.lane import Lanes
from anyform_hf_transformers.memory import BATCHES_AT_ONCE
from anyform_hf_transformers.packed import pack

if TYPE_CHECKING:
    from anyform_hf_transformers.loading import Loading
    from anyform_hf_transformers.sentence import Sentence

_PROBE = "Some words, to compare numbers by."
_UNTOLD_CONTEXT = 8192


def load(loading: Loading) -> LoadedModel:
    """The model, warmed up. Raises LoadFailed, OutOfMemory, Unsupported."""
    said = sentence.read(loading.plan)
    if loading.task == "rerank":
        return _ranker(loading, said)
    return _classifier(loading) if loading.task in ("classify", "zero_shot") else _embedder(loading, said)


def _embedder(loading: Loading, said: Sentence) -> LoadedModel:
    asked = loading.options.pooling
    if not asked and not said.parts and _generates(loading):
        raise Unsupported(
            f"{loading.plan.model} does not say how its embeddings are pooled.",
            "Load it with the option pooling=mean, cls or last, as its publisher says.",
        )
    head = said.head(asked, loading.device)
    model = loading.read(_kind(loading))
    inputs = _inputs(loading, model, prompt=said.prompt, pools_prompt=said.pools_prompt, lowers=said.lowers)
    loop, row = _open(loading, model, head, inputs)
    return VectorModel(
        loop,
        inputs,
        context=_text_limit(loading),
        width=len(row),
        parallel=loading.parallel,
        normalize=said.normalizes,
    )


def _kind(loading: Loading) -> Any:
    """The auto class; of models with an encoder and a decoder that of their encoder. Raises Unsupported."""
    config = loading.config
    half = config.is_encoder_decoder or any(name.endswith("EncoderModel") for name in config.architectures or ())
    if half and type(config) in transformers.MODEL_FOR_TEXT_ENCODING_MAPPING:
        return transformers.AutoModelForTextEncoding
    if config.is_encoder_decoder:
        raise Unsupported(f"{loading.plan.model} is an encoder-decoder model, whose encoder this backend does not run.")
    return transformers.AutoModel


def _generates(loading: Loading) -> bool:
    return any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in loading.config.architectures or ())


def _ranker(loading: Loading, said: Sentence) -> LoadedModel:
    if strange := [part.kind for part in said.parts if part.kind not in ("Transformer", "Dropout")]:
        raise Unsupported(
            f"{loading.plan.model} scores with a module {strange[0]!r}, which this backend does not run.",
            "Use a cross-encoder that classifies sequences.",
        )
    if loading.config.num_labels > 2:
        raise Unsupported(f"{loading.plan.model} has {loading.config.num_labels} labels; one that ranks has 1 or 2.")
    score = _score(loading, said)
    model = loading.read(transformers.AutoModelForSequenceClassification)
    inputs = _inputs(loading, model)
    loop, row = _open(loading, model, None, inputs)
    return VectorModel(
        loop, inputs, context=_text_limit(loading), width=len(row), parallel=loading.parallel, score=score
    )


def _classifier(loading: Loading) -> LoadedModel:
    model = loading.read(transformers.AutoModelForSequenceClassification)
    inputs = _inputs(loading, model)
    loop, row = _open(loading, model, None, inputs)
    named = loading.config.id2label or {}
    labels = [str(named.get(place, f"LABEL_{place}")) for place in range(len(row))]
    entailing = [place for place, label in enumerate(labels) if label.lower().startswith("entail")]
    return LabelModel(
        loop,
        inputs,
        context=_text_limit(loading),
        labels=labels,
        share=_share(loading.config.problem_type, len(row)),
        entailment=entailing[0] if entailing and len(labels) > 1 else None,
        parallel=loading.parallel,
        template=loading.options.hypothesis_template or HYPOTHESIS,
    )


def _inputs(loading: Loading, model: Any, **said: Any) -> EncoderInputs:
    config = model.config.get_text_config()
    typed = getattr(config, "type_vocab_size", 0) > 1
    return EncoderInputs(loading.tokenizer, config.vocab_size, typed, **said)


def _open(loading: Loading, model: Any, head: Head | None, inputs: EncoderInputs) -> tuple[EncoderLoop, Floats]:
    """The running loop, and one row that it gave."""
    config = model.config.get_text_config()
    config.use_cache = False
    pad = next((one for one in (config.pad_token_id, loading.tokenizer.pad_token_id) if one is not None), None)
    if config.pad_token_id is None:
        config.pad_token_id = pad  # decoders that classify look for the last token that is none
    encoder = Encoder(model, loading.device, head, pad or 0)
    row = _warm_up(loading, encoder, inputs)
    if loading.device == "cpu" and not loading.exact(model) and loading.options.packed:
        pack(model, lambda: torch.as_tensor(encoder.rows([inputs.text(_PROBE)])))
    batch = loading.options.batch
    lanes = Lanes(torch.get_num_threads() if loading.device == "cpu" else 1, BATCHES_AT_ONCE * batch)
    loop = EncoderLoop(encoder, batch, lanes, even=head is None and pad is None)
    return loop, row


def _text_limit(loading: Loading) -> int:
    """Tokens of one text: as asked, but never more positions than there are."""
    positions = loading.trained or _UNTOLD_CONTEXT
    if loading.config.model_type in OFFSET_POSITIONS:
        positions -= 1 + (1 if loading.config.pad_token_id is None else loading.config.pad_token_id)
    return min(loading.plan.settings.context or loading.plan.metadata.context or positions, positions)


def _warm_up(loading: Loading, encoder: Encoder, inputs: EncoderInputs) -> Floats:
    try:
        row: Floats = encoder.rows([inputs.text("x")])[0]
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        if weights.out_of_memory(error):
            raise MemoryError(str(error)) from error
        raise LoadFailed(f"{loading.plan.model} cannot be run: {type(error).__name__}: {error}.") from error
    if not np.isfinite(row).all():
        raise LoadFailed(f"{loading.plan.model} computes numbers that are not finite.", "Get the model again.")
    return row


def _score(loading: Loading, said: Sentence) -> Callable[[Floats], float]:
    """Of two logits the share of the second; of one what its activation says, a sigmoid unless the folder says other.

    As sentence_transformers' CrossEncoder.predict.
    """
    if loading.config.num_labels == 2:
        return lambda row: sigmoid(float(row[1]) - float(row[0]))
    name = said.score(loading.config)
    function = sentence.activation(name, loading.plan.model) if name else None
    if function is None:
        return lambda row: sigmoid(float(row[0]))
    return lambda row: float(function(torch.from_numpy(row[:1])))


def _share(problem: str | None, labels: int) -> Callable[[Floats], Floats]:
    """Scores from a row of logits (transformers' TextClassificationPipeline.postprocess)."""
    if problem == "regression":
        return lambda row: row
    if problem == "multi_label_classification" or labels == 1:
        return _sigmoid
    return softmax


def _sigmoid(row: Floats) -> Floats:
    made: Floats = (1.0 / (1.0 + np.exp(-row.astype(np.float64)))).astype(np.float32)
    return made
