"""Findings about GGUF files: their codes are gguf.what."""

from __future__ import annotations

from anyform.finding import Family

_GGUF = Family("gguf")
critical, warning = _GGUF.critical, _GGUF.warning
