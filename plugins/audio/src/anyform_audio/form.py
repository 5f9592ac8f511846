"""Which module of this plugin knows which form of model; nothing here imports an engine."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

from anyform.contract.facts import Finding, FormatMatch, MemoryEstimate, Metadata, ModelFiles, Settings

_WHISPER, _KOKORO, _PIPER = (
    "anyform_audio.hearing.form",
    "anyform_audio.speech.kokoro.form",
    "anyform_audio.speech.piper.form",
)
_FORMATS = {
    "ctranslate2": _WHISPER,
    "ctranslate2_other": _WHISPER,
    "whisper": _WHISPER,
    "kokoro": _KOKORO,
    "kokoro_torch": _KOKORO,
    "piper": _PIPER,
}
_BACKENDS = {"faster_whisper": _WHISPER, "kokoro": _KOKORO, "piper": _PIPER}

_MARKS = {_WHISPER: (".bin", ".safetensors", "config.json"), _KOKORO: (".onnx", ".pt"), _PIPER: (".onnx",)}
"""Parts of names, one of which a model of each form has at the least."""


class Form(Protocol):
    """A `form.py`: what the hooks of the same names ask."""

    def detect(self, files: ModelFiles) -> list[FormatMatch]:
        """Empty for a stranger."""

    def validate(self, files: ModelFiles, match: FormatMatch) -> list[Finding]:
        """Empty: nothing is wrong with it."""

    def extract(self, files: ModelFiles, match: FormatMatch) -> Metadata:
        """Raises InvalidModel."""

    def estimate(self, metadata: Metadata, settings: Settings) -> MemoryEstimate:
        """Of the one backend that reads it."""


def detect(files: ModelFiles) -> list[FormatMatch]:
    """What each form finds. One that no file here can belong to is not even imported: listing is to be quick."""
    names = [name.lower() for name in files.files]
    places = [place for place, marks in _MARKS.items() if any(mark in name for name in names for mark in marks)]
    return [match for place in places for match in _at(place).detect(files)]


def of(format: str) -> Form:
    """The module of the format called *format*."""
    return _at(_FORMATS[format])


def read_by(backend: str) -> Form:
    """The module of what the backend called *backend* reads."""
    return _at(_BACKENDS[backend])


def _at(place: str) -> Form:
    return cast(Form, import_module(place))
