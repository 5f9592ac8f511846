"""Bounds for what a JSON schema leaves endless where nobody means it: the fraction of a second, digit after digit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LONGEST = {"date-time": len("2026-01-31T23:59:59.123456789+00:00"), "time": len("23:59:59.123456789+00:00")}
"""Characters of RFC 3339's forms with nanoseconds; it sets no limit, and a weak model finds no end."""
_VALUES = frozenset({"const", "default", "enum", "examples"})
"""Keywords that hold values, not schemas."""


def bounded(schema: Any) -> Any:
    """*schema* with a `maxLength` where a point in time has none."""
    if isinstance(schema, list):
        return [bounded(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {name: one if name in _VALUES else bounded(one) for name, one in schema.items()}
    longest = _LONGEST.get(made["format"]) if isinstance(made.get("format"), str) else None
    return made if longest is None else {"maxLength": longest, **made}
