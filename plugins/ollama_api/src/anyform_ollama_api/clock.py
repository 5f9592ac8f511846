"""The time as Ollama writes it, cheaply enough for each token."""

from __future__ import annotations

import time

_latest = (-1, "")
"""A second and how it is written, in one: threads ask too."""


def now() -> str:
    """UTC, RFC 3339 with nanoseconds."""
    global _latest
    second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    known, written = _latest
    if second != known:
        written = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        _latest = second, written
    return f"{written}.{nanoseconds:09d}Z"


def nanoseconds(seconds: float) -> int:
    """At least one, since clients divide by it."""
    return max(1, round(seconds * 1e9))
