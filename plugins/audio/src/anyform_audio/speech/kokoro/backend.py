"""kokoro-onnx and what makes phonemes for it: what they can do here, and a model loaded into them.

One of the files that may import an engine; the others take it from here.
"""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.metadata import version
from typing import Any

from anyform.contract.errors import EngineMissing
from anyform.contract.facts import BackendInfo, Capabilities, Plan
from anyform.contract.model import LoadedModel
from anyform_audio.info import KOKORO_INSTALL

try:
    import phonemizer as phonemizer
    from kokoro_onnx import chunker as chunker
    from kokoro_onnx.config import MAX_PHONEME_LENGTH as MAX_PHONEME_LENGTH
    from kokoro_onnx.config import SAMPLE_RATE as SAMPLE_RATE
    from kokoro_onnx.session import embedded_vocab as embedded_vocab
    from kokoro_onnx.session import input_dtypes as input_dtypes
    from kokoro_onnx.tokenizer import Tokenizer as Tokenizer

    import anyform_audio.speech.backend  # noqa: F401 - onnxruntime
except (ImportError, OSError, RuntimeError) as error:  # libraries may be missing, or of another machine
    raise EngineMissing(
        f"what the engine needs cannot be imported: {error}.", f"Install it: {KOKORO_INSTALL}"
    ) from error

logging.getLogger("phonemizer").setLevel(logging.ERROR)  # it warns of every number that is more than one word


def misaki(module: str) -> Any:
    """A module of misaki, which makes phonemes of Chinese and Japanese. Raises ImportError."""
    return import_module(f"misaki.{module}")


def probe(info: BackendInfo | None = None) -> Capabilities:
    """What the installed kokoro-onnx can use."""
    said = f"{version('kokoro-onnx')} (onnxruntime {version('onnxruntime')}, phonemizer {version('phonemizer')})"
    return Capabilities(engine_version=said, devices=("cpu",))


def load(plan: Plan) -> LoadedModel:
    """Load *plan*'s model and run it once. Raises EngineMissing, Invalid, LoadFailed, OutOfMemory, Unsupported."""
    from anyform_audio.speech.kokoro import speaker

    return speaker.load(plan)
