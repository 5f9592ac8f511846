"""Findings about pipelines and their files: their codes are diffusers.what."""

from __future__ import annotations

from anyform.finding import Family

FAMILY = Family("diffusers")
AGAIN = "Copy or download the file again."
critical, warning, note = FAMILY.critical, FAMILY.warning, FAMILY.note
