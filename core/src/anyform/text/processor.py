"""How many threads to compute with: the physical cores that this process may use, as llama.cpp's tools count them."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cores(root: Path = Path("/sys/devices/system/cpu")) -> int:
    """Physical cores available to this process; at least 1."""
    if sys.platform == "linux":
        usable = os.sched_getaffinity(0)
        groups = {group for cpu in usable if (group := _siblings(root, cpu))}
        return max(1, len(groups) or len(usable))
    logical = os.cpu_count() or 1
    if sys.platform == "darwin":
        return logical
    return logical if logical <= 4 else logical // 2


def _siblings(root: Path, cpu: int) -> str:
    try:
        return (root / f"cpu{cpu}" / "topology" / "thread_siblings").read_text(encoding="ascii").strip()
    except OSError:
        return ""
