"""Findings about Hugging Face folders: their codes are hf.what."""

from __future__ import annotations

from anyform.finding import Family

AGAIN = "Copy or download the file again."
_FOLDER = Family("hf")
critical, warning = _FOLDER.critical, _FOLDER.warning
