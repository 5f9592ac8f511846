"""Findings about ONNX models: their codes are onnx.what."""

from __future__ import annotations

from anyform.finding import Family

FAMILY = Family("onnx")
AGAIN = "Copy or download the file again."
critical, warning, note = FAMILY.critical, FAMILY.warning, FAMILY.note
