"""How much memory looking at pictures takes beside the weights, whatever engine does it; nothing is imported for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TOGETHER, TOGETHER_ON_DEVICE = 16, 64
"""Pictures that one step of a model looks at, which scores or embeds: on a CPU, on an accelerator."""
PHOTO_BYTES = 120_000_000
"""Of one of 12 million pixels while it is decoded and scaled: 10 bytes a pixel, as measured (Pillow 13, numpy)."""
SIDE, PATCH = 224, 16
"""Where the configuration does not say."""


def patches(facts: Mapping[str, Any]) -> int:
    """Of one picture, and one that stands for all. *facts*: image_size, patch_size."""
    along: int = (facts.get("image_size") or SIDE) // (facts.get("patch_size") or PATCH)
    return along**2 + 1
