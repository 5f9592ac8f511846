"""What a model that looks at pictures is given of one input: arrays, tokens, or both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from anyform.text.vectormodel import Input


@dataclass(frozen=True, slots=True)
class Seen(Input):
    """One picture, one text, or both; `len` is that of the text in tokens."""

    arrays: Mapping[str, Any] = field(default_factory=dict)
    """What the image processor gave, by the name under which the model takes it, each without a batch's dimension."""

    @property
    def key(self) -> tuple[Any, ...]:
        """Those of the same key fit into one batch."""
        shapes = tuple((name, array.shape) for name, array in sorted(self.arrays.items()))
        return (bool(self.tokens), *shapes)
