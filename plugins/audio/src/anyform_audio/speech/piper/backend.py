"""piper-tts: what it can do here, and a voice loaded into it.

One of the files that may import an engine; the others take it from here.
"""

from __future__ import annotations

from importlib.metadata import version

from anyform.contract.errors import EngineMissing
from anyform.contract.facts import BackendInfo, Capabilities, Plan
from anyform.contract.model import LoadedModel
from anyform_audio.info import PIPER_INSTALL

try:
    from piper import PiperVoice as PiperVoice
    from piper import SynthesisConfig as SynthesisConfig
    from piper.config import PhonemeType as PhonemeType
    from piper.config import PiperConfig as PiperConfig

    import anyform_audio.speech.backend  # noqa: F401 - onnxruntime
except (ImportError, OSError, RuntimeError) as error:  # libraries may be missing, or of another machine
    raise EngineMissing(
        f"what the engine needs cannot be imported: {error}.", f"Install it: {PIPER_INSTALL}"
    ) from error


def probe(info: BackendInfo | None = None) -> Capabilities:
    """What the installed piper-tts can use."""
    said = f"{version('piper-tts')} (onnxruntime {version('onnxruntime')})"
    return Capabilities(engine_version=said, devices=("cpu",))


def load(plan: Plan) -> LoadedModel:
    """Load *plan*'s voice and run it once. Raises EngineMissing, Invalid, LoadFailed, OutOfMemory, Unsupported."""
    from anyform_audio.speech.piper import speaker

    return speaker.load(plan)
