"""What the three backends say of themselves; nothing here imports an engine."""

from __future__ import annotations

from anyform.contract.facts import BackendInfo

HEARING_INSTALL = "pip install faster-whisper"
"""What the extra `stt` installs, by names that are on the registry already."""
KOKORO_INSTALL = "pip install kokoro-onnx"
"""What the extra `tts` installs for Kokoro."""
PIPER_INSTALL = "pip install piper-tts"
"""What the extra `tts` installs for Piper."""

HEARING = BackendInfo(
    name="faster_whisper",
    reads=("ctranslate2",),
    converts=("whisper",),
    tasks=("transcribe", "translate"),
    devices=("cpu", "cuda"),
    engine=("faster-whisper", "ctranslate2", "av"),
    install=HEARING_INSTALL,
)
KOKORO = BackendInfo(
    name="kokoro",
    reads=("kokoro",),
    tasks=("speak",),
    devices=("cpu",),
    engine=("kokoro-onnx", "onnxruntime", "phonemizer"),
    install=KOKORO_INSTALL,
)
PIPER = BackendInfo(
    name="piper",
    reads=("piper",),
    tasks=("speak",),
    devices=("cpu",),
    engine=("piper-tts", "onnxruntime"),
    install=PIPER_INSTALL,
)
BACKENDS = (HEARING, KOKORO, PIPER)
