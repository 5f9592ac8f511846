"""The field `format`: the form that an answer must have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from anyform.dialect import Fields, WrongValue


def structure(body: Fields) -> Mapping[str, Any] | None:
    """A JSON schema; None: free text. Raises Invalid in Ollama's words."""
    value = body.data.get("format")
    if value is None or value == "":
        return None
    if value == "json":
        return {"type": "object"}
    if not isinstance(value, dict):
        shown = json.dumps(json.dumps(value)[:200])
        raise WrongValue(f'invalid format: {shown}; expected "json" or a valid JSON Schema object.', param="format")
    return value
