"""Findings about Hugging Face folders: their codes are hf.what."""

from __future__ import annotations

from anyform.finding import Family

AGAIN = "Copy or download the file again."
FAMILY = Family("hf")
critical, warning = FAMILY.critical, FAMILY.warning
