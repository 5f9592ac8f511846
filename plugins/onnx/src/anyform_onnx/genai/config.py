"""genai_config.json: what it says of a model, and what is laid over it at load.

The keys are those of onnxruntime-genai's src/config.cpp (0.18), which refuses any that it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyform.contract.errors import Invalid, LoadFailed, Unsupported
from anyform.pretrained.marks import ids
from anyform.text.processor import cores
from anyform_onnx import provider
from anyform_onnx.backend import onnxruntime
from anyform_onnx.genai.backend import og
from anyform_onnx.options import Options
from anyform_onnx.session import LEVELS, arranged

NAME = "genai_config.json"
_PARTS = ("encoder", "embedding", "vision", "speech", "joiner", "encoder_decoder_init")
"""Sections of `model` that models have which do more than to go on with a text."""
_OTHERS = ("whisper", "marian", "t5", "nemotron_speech")
"""Beginnings of `type` of models that hear or translate."""


@dataclass(frozen=True, slots=True)
class Description:
    """What genai_config.json says of a decoder."""

    kind: str
    vocabulary: int
    context: int
    bos: int | None
    ends: tuple[int, ...]
    padding: tuple[int, ...]
    dynamic: bool
    """Whether its cache lies in pages, so that requests join and leave a running batch."""


def describe(content: Mapping[str, Any], model: str) -> Description:
    """Read *content*. Raises LoadFailed, and Unsupported for what is no text model."""
    said = content.get("model")
    said = said if isinstance(said, dict) else {}
    kind, decoder = said.get("type"), said.get("decoder")
    more = [part for part in _PARTS if part in said]
    if more or (isinstance(kind, str) and kind.startswith(_OTHERS)):
        has = f", with {' and '.join(more)} beside its decoder" if more else ""
        raise Unsupported(
            f"{model} is a model of onnxruntime-genai's type {kind}{has}: this backend runs those that read text only.",
            "Use an export of its text part, or the model in another format.",
        )
    vocabulary, context = said.get("vocab_size"), said.get("context_length")
    if not isinstance(kind, str) or not isinstance(decoder, dict):
        raise LoadFailed(f"{NAME} of {model} names no type and decoder.", "Get the model again.")
    for name, value in (("vocab_size", vocabulary), ("context_length", context)):
        if type(value) is not int or not 0 < value < 1 << 31:
            raise LoadFailed(f"{name} in {NAME} of {model} is {value!r}.", "It must be a number above 0.")
    engine = content.get("engine")
    assert isinstance(vocabulary, int)
    assert isinstance(context, int)
    return Description(
        kind=kind,
        vocabulary=vocabulary,
        context=context,
        bos=next(iter(ids(said.get("bos_token_id"))), None),
        ends=tuple(ids(said.get("eos_token_id"))),
        padding=tuple(ids(said.get("pad_token_id"))),
        dynamic=isinstance(engine, dict) and "dynamic_batching" in engine,
    )


def configured(
    folder: Path, said: Description, options: Options, device: str, *, ends: Sequence[int], context: int, parallel: int
) -> Any:
    """An `og.Config` of *folder*: as its file says, but for *ends*, limits, threads and providers.

    *device*: a `Device.id`. Raises Invalid for a provider that is not there, RuntimeError.
    """
    made = og.Config(str(folder))
    made.overlay(json.dumps(_overlay(said, options, ends, context, parallel)))
    made.clear_providers()
    for name, said_to_it in arranged(options, device, available()):
        if name == provider.CPU:
            continue  # which it has always, last
        called = "cuda" if provider.short(name) == "CUDA" else name
        made.append_provider(called)
        for key, value in said_to_it.items():
            made.set_provider_option(called, key, value)
    return made


def available() -> list[str]:
    """Providers that onnxruntime-genai can use here: its own is_..._available say so of some that are not there."""
    names = onnxruntime.get_available_providers()
    return [name for name in names if provider.short(name) != "CUDA" or og.is_cuda_available()]


def _overlay(
    said: Description, options: Options, ends: Sequence[int], context: int, parallel: int
) -> dict[str, Mapping[str, Any]]:
    session: dict[str, Any] = {
        "graph_optimization_level": LEVELS[options.optimization],
        "log_severity_level": 3,
        "intra_op_num_threads": options.threads or cores(),
        "inter_op_num_threads": options.inter_threads or 1,
    }
    if options.spinning is False:
        session |= {"session.intra_op.allow_spinning": "0", "session.inter_op.allow_spinning": "0"}
    batching = "dynamic_batching" if said.dynamic else "static_batching"
    model: dict[str, Any] = {"decoder": {"session_options": session}}
    if ends:
        model["eos_token_id"] = list(ends)
    search = {"max_length": context, "min_length": 0, "num_beams": 1, "num_return_sequences": 1, "do_sample": False}
    neutral = {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0}  # a request says itself what it wants
    return {"model": model, "search": {**search, **neutral}, "engine": {batching: {"max_batch_size": parallel}}}


def limit(asked: int, said: Description, named: bool) -> int:
    """The context to load with: *asked*, at most the model's own. Raises Invalid where it was *named* and is more."""
    if named and asked > said.context:
        raise Invalid(
            f"context is {asked}; the model's positions end at {said.context}.", f"Give {said.context} or less."
        )
    return min(asked, said.context)
