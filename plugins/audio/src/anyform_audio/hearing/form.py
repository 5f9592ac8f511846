"""Whispers as CTranslate2 and as transformers keep them: what the hooks ask, from where it is answered."""

from __future__ import annotations

from anyform_audio.hearing.detection import detect
from anyform_audio.hearing.memory import estimate
from anyform_audio.hearing.metadata import extract
from anyform_audio.hearing.validation import validate

__all__ = ["detect", "estimate", "extract", "validate"]
