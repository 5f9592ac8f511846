"""faster-whisper and CTranslate2: what they can do here, and a model loaded into them.

The only file that imports them; the others take them from here, and are imported once they are known to be there.
"""

from __future__ import annotations

from anyform.contract.errors import EngineMissing
from anyform.contract.facts import BackendInfo, Capabilities, Plan
from anyform.contract.model import LoadedModel
from anyform_audio.hearing import options as load_options
from anyform_audio.info import HEARING_INSTALL

try:
    import ctranslate2 as ctranslate2
    import faster_whisper as faster_whisper
    from faster_whisper.feature_extractor import FeatureExtractor as FeatureExtractor
    from faster_whisper.transcribe import restore_speech_timestamps as restore_speech_timestamps
    from faster_whisper.vad import SpeechTimestampsMap as SpeechTimestampsMap
    from faster_whisper.vad import VadOptions as VadOptions
    from faster_whisper.vad import get_speech_timestamps as get_speech_timestamps
except (ImportError, OSError, RuntimeError) as error:  # a native library may be missing, or of another machine
    raise EngineMissing(
        f"what the engine needs cannot be imported: {error}.", f"Install it: {HEARING_INSTALL}"
    ) from error


def probe(info: BackendInfo | None = None) -> Capabilities:
    """What the installed CTranslate2 can use."""
    return Capabilities(
        engine_version=f"{faster_whisper.__version__} (CTranslate2 {ctranslate2.__version__})",
        devices=("cpu", "cuda") if ctranslate2.get_cuda_device_count() else ("cpu",),
    )


def load(plan: Plan) -> LoadedModel:
    """Load *plan*'s model and run it once. Raises EngineMissing, Invalid, LoadFailed, OutOfMemory, Unsupported."""
    from anyform_audio.hearing import loading

    return loading.load(plan, load_options.read(plan.settings.options))
