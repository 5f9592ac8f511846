"""Pictures of requests to the arrays that a model takes, a few at a time."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from anyform.picture import reading
from anyform.picture.backend import library

if TYPE_CHECKING:
    from anyform.contract.jobs import Picture

PREPARED = os.cpu_count() or 1
"""Pictures that are decoded and scaled at once."""
_BLANK_PIXELS = 64


class Pixels(ABC):
    """A model's image processor. May be called by several threads."""

    def __init__(self, most_pixels: int = reading.MOST_PIXELS) -> None:
        """*most_pixels*: width x height that a picture may have."""
        self._most = most_pixels
        self._preparing = threading.BoundedSemaphore(PREPARED)

    def read(self, given: Picture, place: str) -> Mapping[str, Any]:
        """The arrays of *given*, which messages call *place*.

        Raises Invalid: not a picture that can be used; EngineMissing.
        """
        with self._preparing:
            return self.prepare(reading.read(given, place, self._most), place)

    @abstractmethod
    def prepare(self, image: Any, place: str) -> Mapping[str, Any]:
        """The arrays of a PIL.Image in RGB, by the names under which the model takes them. Raises Invalid."""

    def blank(self) -> Mapping[str, Any]:
        """Those of an empty picture, on which a model is tried. Raises EngineMissing."""
        return self.prepare(library().new("RGB", (_BLANK_PIXELS, _BLANK_PIXELS), (99, 99, 99)), "an empty picture")
