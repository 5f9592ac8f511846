"""What becomes of each field of each request."""

from __future__ import annotations

from anyform_ollama_api import jobtable, modeltable

RESOURCES = (*jobtable.RESOURCES, *modeltable.RESOURCES)
