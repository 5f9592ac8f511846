"""The time as Ollama writes it, cheaply enough for each token."""

from __future__ import annotations

import time

_second, _written = -1, ""


def now() -> str:
    """UTC, RFC 3339 with nanoseconds."""
    global _second, _written
    second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    written = _written
    if second != _second:
        written = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        _written, _second = written, second
    return f"{written}.{nanoseconds:09d}Z"


def nanoseconds(seconds: float) -> int:
    """At least one, since clients divide by it."""
    return max(1, round(seconds * 1e9))
