"""Loads models that make vectors or scores of texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anyform.contract.errors import LoadFailed, Unsupported
from anyform.contract.model import LoadedModel
from anyform.pretrained import sentence
from anyform.pretrained.configuration import OFFSET_POSITIONS
from anyform.text.encodeloop import EncodeLoop
from anyform.text.encoderinputs import EncoderInputs
from anyform.text.labelmodel import HYPOTHESIS, LabelModel, entailing, labels_of, share
from anyform.text.lane import Lanes
from anyform.text.vectormodel import Floats, VectorModel, score
from anyform_hf_transformers import weights
from anyform_hf_transformers.backend import torch, transformers
from anyform_hf_transformers.encoder import Encoder, failed, use_threads
from anyform_hf_transformers.head import Head, activation, head
from anyform_hf_transformers.memory import BATCHES_AT_ONCE
from anyform_hf_transformers.packed import pack
from anyform_hf_transformers.words import backend

if TYPE_CHECKING:
    from anyform.pretrained.sentence import Sentence
    from anyform_hf_transformers.loading import Loading

_PROBE = "Some words, to compare numbers by."
_UNTOLD_CONTEXT = 8192


def load(loading: Loading) -> LoadedModel:
    """The model, warmed up. Raises LoadFailed, OutOfMemory, Unsupported."""
    entry = Path(loading.plan.path) / loading.plan.match.entry
    said = sentence.read(loading.plan, entry if entry.is_dir() else entry.parent)
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
    follows = head(said, asked, loading.device)
    model = loading.read(_kind(loading))
    inputs = _inputs(loading, model, prompt=said.prompt, pools_prompt=said.pools_prompt, lowers=said.lowers)
    loop, row = _open(loading, model, follows, inputs)
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
    said.check_ranks(loading.config.num_labels)
    function = _function(loading, said)
    model = loading.read(transformers.AutoModelForSequenceClassification)
    inputs = _inputs(loading, model)
    loop, row = _open(loading, model, None, inputs)
    return VectorModel(
        loop,
        inputs,
        context=_text_limit(loading),
        width=len(row),
        parallel=loading.parallel,
        score=score(loading.config.num_labels, function),
    )


def _classifier(loading: Loading) -> LoadedModel:
    model = loading.read(transformers.AutoModelForSequenceClassification)
    inputs = _inputs(loading, model)
    loop, row = _open(loading, model, None, inputs)
    labels = labels_of(loading.config.id2label, len(row))
    return LabelModel(
        loop,
        inputs,
        context=_text_limit(loading),
        labels=labels,
        share=share(loading.config.problem_type, len(row)),
        entailment=entailing(labels),
        parallel=loading.parallel,
        template=loading.options.hypothesis_template or HYPOTHESIS,
    )


def _inputs(loading: Loading, model: Any, **said: Any) -> EncoderInputs:
    config = model.config.get_text_config()
    typed = getattr(config, "type_vocab_size", 0) > 1
    return EncoderInputs(backend(loading.tokenizer), config.vocab_size, typed, **said)


def _open(loading: Loading, model: Any, follows: Head | None, inputs: EncoderInputs) -> tuple[EncodeLoop, Floats]:
    """The running loop, and one row that it gave."""
    config = model.config.get_text_config()
    config.use_cache = False
    pad = next((one for one in (config.pad_token_id, loading.tokenizer.pad_token_id) if one is not None), None)
    if config.pad_token_id is None:
        config.pad_token_id = pad  # decoders that classify look for the last token that is none
    encoder = Encoder(model, loading.device, follows, pad or 0)
    row = _warm_up(loading, encoder, inputs)
    if loading.device == "cpu" and not loading.exact(model) and loading.options.packed:
        pack(model, lambda: torch.as_tensor(encoder.rows([inputs.text(_PROBE)])))
    batch = loading.options.batch
    threads = torch.get_num_threads() if loading.device == "cpu" else 1
    lanes = Lanes(threads, BATCHES_AT_ONCE * batch, use_threads)
    loop = EncodeLoop(encoder, batch, lanes, failed, even=follows is None and pad is None)
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


def _function(loading: Loading, said: Sentence) -> Callable[[Floats], Floats] | None:
    """What a score goes through; None: what is usual."""
    name = said.score(loading.config.to_dict())
    if not name or loading.config.num_labels > 1:
        return None
    function = activation(name, loading.plan.model)
    return lambda row: np.asarray(function(torch.from_numpy(row)))
