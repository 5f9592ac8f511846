"""What is to be painted, complete and checked: the same wish and the same seed give the same picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One request, without its seeds."""

    prompt: str
    negative: str = ""
    width: int
    """In pixels, as `height`: a multiple of the model's unit."""
    height: int
    steps: int
    """As asked for; a strength below 1 runs fewer of them."""
    guidance: float | None = None
    """None: the pipeline's own."""
    strength: float | None = None
    """None: the pipeline's own."""
    scheduler: str = ""
    """The name of a class of diffusers; empty: the model's own."""
    loras: tuple[tuple[str, float], ...] = ()
    picture: Any = None
    """A PIL.Image in RGB of width x height to begin with; None: from noise alone."""
    mask: Any = None
    """A PIL.Image of mode L of that size: white is repainted; None: all of it."""
