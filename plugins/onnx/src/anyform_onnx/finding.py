"""Findings about ONNX models: their codes are onnx.what."""

from __future__ import annotations

from anyform.finding import Family

_FAMILY = Family("onnx")
critical, warning, note = _FAMILY.critical, _FAMILY.warning, _FAMILY.note
