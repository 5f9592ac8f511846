"""Numbers as users read them."""

from __future__ import annotations


def size(count: float) -> str:
    """Bytes with a binary unit: `512 B`, `1.0 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024 or unit == "GiB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")
