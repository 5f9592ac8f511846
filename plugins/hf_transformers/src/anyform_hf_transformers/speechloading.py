"""Loads models that write down speech: Whisper's family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from anyform.contract.errors import LoadFailed, Unsupported
from anyform.contract.model import LoadedModel
from anyform.sound import backend as sound
from anyform_hf_transformers import speechmarks, weights
from anyform_hf_transformers.backend import transformers
from anyform_hf_transformers.mel import Heard, Spectrograph
from anyform_hf_transformers.recognizer import Recognizer
from anyform_hf_transformers.speechloop import SpeechLoop
from anyform_hf_transformers.speechmodel import SpeechModel
from anyform_hf_transformers.transcriber import Transcriber

if TYPE_CHECKING:
    from anyform_hf_transformers.loading import Loading


def load(loading: Loading) -> LoadedModel:
    """The model, its first step done. Raises EngineMissing (no PyAV), LoadFailed, OutOfMemory, Unsupported."""
    if loading.config.model_type != "whisper":
        raise Unsupported(
            f"{loading.plan.model} is a speech model of the type {loading.config.model_type}.",
            "This backend runs those of the type whisper.",
        )
    sound.library()
    model, parallel = loading.read(transformers.AutoModelForSpeechSeq2Seq), loading.parallel
    config, tokenizer = model.generation_config, loading.tokenizer
    marks = speechmarks.read(tokenizer, config, loading.plan.model)
    heads = _alignment_heads(model, loading.plan.model)
    network = Recognizer(model, loading.device, heads)
    _warm_up(network, marks.start, loading.plan.model)
    transcriber = Transcriber(network, tokenizer, marks, config)
    return SpeechModel(
        SpeechLoop(transcriber, parallel),
        _spectrograph(loading, network),
        tokenizer,
        marks,
        context=network.context,
        parallel=parallel,
        most_s=loading.options.audio_seconds,
        aligns=bool(heads),
        fallback=loading.options.fallback,
    )


def _alignment_heads(model: Any, name: str) -> list[list[int]]:
    """Layer and head of each; none: words cannot be timed. Raises LoadFailed."""
    stated = getattr(model.generation_config, "alignment_heads", None) or []
    layers, heads = model.config.decoder_layers, model.config.decoder_attention_heads
    for one in stated:
        if len(one) != 2 or not (0 <= one[0] < layers and 0 <= one[1] < heads):
            raise LoadFailed(
                f"generation_config.json of {name} has the alignment head {one}; there are {layers} layers of {heads}.",
                "Get the model again.",
            )
    return [list(one) for one in stated]


def _spectrograph(loading: Loading, network: Recognizer) -> Spectrograph:
    """As preprocessor_config.json says, else as Whisper's own. Raises LoadFailed."""
    folder = weights.folder(loading.plan)
    try:
        if (folder / "preprocessor_config.json").exists() or (folder / "processor_config.json").exists():
            said = transformers.WhisperFeatureExtractor.from_pretrained(folder, local_files_only=True)
        else:
            said = transformers.WhisperFeatureExtractor(feature_size=network.bands)
    except (ValueError, KeyError, OSError, TypeError) as error:
        raise LoadFailed(f"the preprocessor of {loading.plan.model} cannot be read: {error}.") from error
    filters = np.asarray(said.mel_filters)
    if filters.shape[1] != network.bands or said.n_samples != network.window * said.hop_length:
        raise LoadFailed(
            f"the preprocessor of {loading.plan.model} makes {filters.shape[1]} bands of {said.chunk_length} seconds;"
            f" its network takes {network.bands} bands of {network.window} frames.",
            "Get the model again.",
        )
    return Spectrograph(filters, said.n_fft, said.hop_length, said.sampling_rate, said.n_samples)


def _warm_up(network: Recognizer, start: int, name: str) -> None:
    silence = Heard(np.zeros((network.bands, network.window), np.float32), network.window, 0.0)
    try:
        row = network.begin(network.hear(silence, 0), [start])[-1]
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        if weights.out_of_memory(error):
            raise MemoryError(str(error)) from error
        raise LoadFailed(f"{name} cannot be run: {type(error).__name__}: {error}.") from error
    network.forget()
    if not np.isfinite(row).all():
        raise LoadFailed(f"{name} computes numbers that are not finite.", "Get the model again.")
