"""Loads a folder of onnxruntime-genai's: one `og.Model`, which its engine and our own sampling share."""

from __future__ import annotations

import logging
import re
from functools import partial
from typing import Any

import numpy as np

from anyform.contract.errors import Fault, LoadFailed, OutOfMemory
from anyform.contract.facts import Plan
from anyform.contract.jobs import Sampling
from anyform.contract.model import LoadedModel
from anyform.text.decoder import PROBE, computes
from anyform.text.sampling import recipe
from anyform.text.textmodel import TextModel
from anyform_onnx import provider, vocabulary
from anyform_onnx.genai import config
from anyform_onnx.genai.backend import og
from anyform_onnx.genai.config import Description
from anyform_onnx.genai.decoder import GeneratorDecoder
from anyform_onnx.genai.loop import GenaiLoop, Limits
from anyform_onnx.genai.staging import Stage
from anyform_onnx.genai.wave import Wave
from anyform_onnx.loading import Loading
from anyform_onnx.options import Options

log = logging.getLogger("anyform.onnx")
_UNSAMPLED = {"min_p": 0.0, "repeat_last_n": -1}
"""The engine has no min_p, which llama.cpp's defaults have, and looks back over the whole text for repetitions, as
transformers does: who wants it otherwise says so."""
_TROUBLES = (RuntimeError, ValueError, IndexError)
_TOLERANCE = 2.5e-1
"""How far the logits of one token at a time may lie from those of a whole text, as a share of their spread: graphs of
whole numbers round what they read together on one scale."""
_ADVICE = "Get it again, or write it anew with the onnxruntime-genai that is installed."
_STEPS = 6
_LEAST_CONTEXT = 32
"""Tokens that a model is loaded for at the least: so many take part in trying it."""
_PLACE = re.compile(r"/\S+\.(?:cc|cpp|h):\d+ |\x1b\[[0-9;]*m")


class StagedModel(TextModel):
    """What the toolkit makes of a text model, with the folder that the engine opened."""

    stage: Stage

    def close(self) -> None:
        super().close()
        self.stage.close()


def load(plan: Plan, options: Options) -> LoadedModel:
    """The model, warmed up. Raises Invalid, LoadFailed, OutOfMemory, Unsupported."""
    og.disable_telemetry_events()
    loading = Loading(plan, options)
    said = config.describe(loading.json(config.NAME), plan.model)
    stage = Stage(loading.own, loading.json(config.NAME), loading.folder)
    try:
        return _loaded(loading, said, stage)
    except MemoryError as error:
        stage.close()
        raise OutOfMemory(
            f"there is no memory to run {plan.model}: {error}.", "Use a smaller context or fewer parallel requests."
        ) from error
    except BaseException:
        stage.close()
        raise


def _loaded(loading: Loading, said: Description, stage: Stage) -> StagedModel:
    plan, options, parallel = loading.plan, loading.options, loading.parallel
    context = config.limit(loading.context, said, plan.settings.context is not None)
    words = vocabulary.words(loading, said.vocabulary)
    room = min(max(context, _LEAST_CONTEXT), said.context)
    model = _open(loading, said, stage, sorted(words.ends), room)
    padding = {*said.padding, *said.ends, *words.ends}  # genai pads with an end where it is told of no padding
    decoder = GeneratorDecoder(model, parallel, room, padding)
    make = partial(Wave, model, parallel)
    lacks = _lacking(decoder, said, plan.model)
    why = "" if lacks else _trouble(make, decoder)
    if why:
        log.warning("%s: onnxruntime-genai's engine is not used: %s", plan.model, why)
    loop = GenaiLoop(
        decoder,
        parallel,
        options.text_interval,
        make,
        limits=Limits(options.batch, context),
        dynamic=said.dynamic,
        why=why,
        lacks=lacks,
    )
    made = StagedModel(
        loop,
        words,
        vocabulary.chat_form(loading, words),
        context=context,
        parallel=parallel,
        defaults={**_UNSAMPLED, **vocabulary.defaults(loading)},
    )
    notes: tuple[str, ...] = (f"onnxruntime-genai's engine is not used: {why}.",) if why else ()
    notes += _otherwise(options, plan.devices[0].id if plan.devices else "cpu", str(model.device_type))
    for name, value in (("runs_on", str(model.device_type)), ("notes", notes), ("stage", stage)):
        setattr(made, name, value)  # the model is the toolkit's, which knows no engine
    return made


def _otherwise(options: Options, device: str, runs_on: str) -> tuple[str, ...]:
    """What is not as its user said, or as was planned: notes."""
    there = config.available()
    notes = provider.unmet(options.providers, there, device)
    notes += provider.fallen(provider.chosen(options.providers, there, device), runs_on)
    if (options.inter_threads or 1) > 1:
        notes += ("inter_threads does nothing: onnxruntime-genai runs no parts of a graph beside each other.",)
    return notes


def _open(loading: Loading, said: Description, stage: Stage, ends: list[int], context: int) -> Any:
    """The `og.Model`. Raises Invalid, LoadFailed, MemoryError."""
    plan = loading.plan
    device = plan.devices[0].id if plan.devices else "cpu"
    try:
        made = config.configured(
            stage.path, said, loading.options, device, ends=ends, context=context, parallel=loading.parallel
        )
        return og.Model(made)
    except Fault:
        raise
    except Exception as error:  # onnxruntime's errors, and those of reading the configuration
        text = str(error)
        if isinstance(error, MemoryError) or "bad_alloc" in text or "allocate memory" in text:
            raise MemoryError(f"onnxruntime-genai got none to load {plan.model}") from error
        raise LoadFailed(f"onnxruntime-genai cannot load {plan.model}: {_sentence(text)}", _ADVICE) from error


def _lacking(decoder: GeneratorDecoder, said: Description, model: str) -> str:
    """Why only the engine can run *model*, as may be where its cache lies in pages; empty: so can *decoder*.

    Raises LoadFailed.
    """
    try:
        _try(decoder, model)
    except LoadFailed as fault:
        if not said.dynamic:
            raise
        return fault.message.rstrip(".")
    return ""


def _try(decoder: GeneratorDecoder, model: str) -> None:
    """Read and step through a few tokens. Raises LoadFailed."""
    slot = decoder.slots - 1
    try:
        expected = decoder.read(slot, 0, PROBE, every=True)
        decoder.forget(slot)
        finite = bool(np.isfinite(expected).all())
        agrees = finite and computes(decoder, expected, _TOLERANCE)
    except _TROUBLES as error:
        raise LoadFailed(f"onnxruntime-genai cannot run {model}: {_sentence(str(error))}", _ADVICE) from error
    finally:
        decoder.forget(slot)
    if not finite:
        raise LoadFailed(f"{model} computes numbers that are not finite.", "Get it again, or another variant of it.")
    if not agrees:
        raise LoadFailed(f"{model} gives other numbers with its cache than without.", "It cannot be run.")


def _trouble(make: partial[Wave], decoder: GeneratorDecoder) -> str:
    """Why the engine is not used, in a clause; empty: it gives the tokens that *decoder* gives."""
    slot = decoder.slots - 1
    greedy = recipe(Sampling(temperature=0.0), {}, 1)
    wave = None
    try:
        wave = make()
        wave.add(0, PROBE, _STEPS, greedy)
        row = decoder.read(slot, 0, PROBE, every=False)
        for place in range(_STEPS):
            grown = wave.step()
            if any(one.error for one in grown):
                return f"it fails, with {grown[0].error}"
            told = [one.token for one in grown if one.token is not None]
            likeliest = int(row[-1].argmax())
            if told != [likeliest] and not any(one.ended for one in grown):
                return "it gives other tokens than the model"
            if any(one.ended for one in grown):
                break
            row = decoder.step([slot], [likeliest], [len(PROBE) + place])
    except _TROUBLES as error:
        return f"it fails: {_sentence(str(error))[:300].rstrip('.')}"
    finally:
        decoder.forget(slot)
        if wave is not None:
            wave.free()
    return ""


def _sentence(said: str) -> str:
    words = _PLACE.sub("", " ".join(said.split()))
    return words if words.endswith(".") else f"{words}."
