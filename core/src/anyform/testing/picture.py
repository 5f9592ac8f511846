"""Small pictures in pure Python, for models that see."""

from __future__ import annotations

import random

from anyform.builtin import echo_picture


def png(width: int = 24, height: int = 24, seed: int = 0) -> bytes:
    """A PNG file of random colours, 8 bits each of red, green and blue."""
    chance = random.Random(seed)
    rows = b"".join(b"\0" + chance.randbytes(3 * width) for _ in range(height))
    return echo_picture.png(width, height, rows, {})
