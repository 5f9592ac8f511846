"""Whether a graph's rows hang on what is computed beside them: a try with two inputs, at load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from anyform.text.vectormodel import Floats

_BLENDED = 2e-3
QUANTIZES = "quantizes a whole step at once, so that its numbers for one request hang on those computed beside it"
"""What graphs do that have ONNX's operator DynamicQuantizeLinear, in a clause."""
One = TypeVar("One")


def trouble(rows: Callable[[Sequence[One]], Floats], alone: One, other: One) -> str:
    """Why *alone* and *other* are not to be computed together, in a clause; empty: they may.

    *rows*: one for each input. Where it gives the first another row beside the second, by more than rounding, a whole
    step has one scale. Raises what *rows* does of one input, and MemoryError.
    """
    row = rows([alone])[0]
    try:
        found = rows([alone, other])
        if len(found) != 2:
            return f"gives {len(found)} rows for two inputs"
        blends = bool(np.abs(row - found[0]).max() > _BLENDED * np.abs(row).max())
    except MemoryError:
        raise
    except Exception as error:  # engines raise whatever they like; one at a time it may be sound
        return f"cannot take several inputs at once ({str(error).rstrip('.')})"
    return QUANTIZES if blends else ""
