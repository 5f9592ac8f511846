"""How many sentences are computed at once: what the engine does and what memory is estimated for; imports no engine."""

from __future__ import annotations

import os

PARALLEL = 4
"""Requests that are under way together where settings say nothing; they take turns, a sentence each."""
MOST_THREADS = 4
"""For one sentence where options say nothing; more gain little, and other sentences can use them."""


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads(asked: int | None) -> int:
    """Threads for one sentence. *asked*: the load option."""
    return asked or min(processors(), MOST_THREADS)


def lanes(parallel: int, each: int) -> int:
    """How many sentences are computed at once, so that no more threads compute than there are processors.

    *each*: a session's threads, which help all who run it; each of these brings its own.
    """
    return max(1, min(parallel, processors() - each + 1))
