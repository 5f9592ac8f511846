"""Whether the pictures that a request asks for have room where they are computed, as it is at that moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from anyform import mainmemory
from anyform.contract.errors import OutOfMemory
from anyform_diffusers import memory
from anyform_diffusers.placement import GIB, Placement
from anyform_diffusers.wish import Wish
from anyform_diffusers.working import Size

SPARE_BYTES = 64 << 20
"""Left free: what is free is shared with others, and is told in rough numbers."""


class Room:
    """Of one loaded pipeline. Any thread may ask."""

    def __init__(
        self, facts: Mapping[str, Any], placement: Placement, free: Callable[[str], int] | None = None
    ) -> None:
        """*facts*: Metadata.extra. *free*: bytes that are free on a device, as torch calls it; 0: unknown."""
        self._facts, self._placement = facts, placement
        self._free = free or free_bytes
        self._idle_bytes = 0

    def check(self, wish: Wish, pictures: int = 1) -> None:
        """Raises OutOfMemory, with the largest size that fits, where *pictures* at once do not. Computes nothing."""
        free, size = self._there(), self._size(wish, pictures)
        needs = memory.needs_bytes(self._facts, size, self._placement.way)
        if not free or needs + SPARE_BYTES <= free or not memory.known(self._facts):
            return
        raise OutOfMemory(
            f"a picture of {wish.width}x{wish.height} needs {needs / GIB:.1f} GiB beside the model; "
            f"{self._placement.device} has {free / GIB:.1f} GiB free.",
            self._advice(size, free - SPARE_BYTES),
            needs_bytes=needs,
            free_bytes=free,
        )

    def together(self, wish: Wish, most: int) -> int:
        """How many pictures, up to *most*, have room at once; at least one."""
        free = self._there()
        if not free or not memory.known(self._facts):
            return most
        fits = (
            count
            for count in range(most, 1, -1)
            if memory.needs_bytes(self._facts, self._size(wish, count), self._placement.way) + SPARE_BYTES <= free
        )
        return next(fits, 1)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """While pictures are computed, what that takes counts as free: whoever asks then is computed after them."""
        self._idle_bytes = self._free(self._placement.device)
        try:
            yield
        finally:
            self._idle_bytes = 0

    def _there(self) -> int:
        return max(self._free(self._placement.device), self._idle_bytes)

    def _size(self, wish: Wish, pictures: int) -> Size:
        guided = memory.is_guided(self._facts, wish.guidance) or bool(wish.negative)
        return Size(width=wish.width, height=wish.height, pictures=pictures, guided=guided)

    def _advice(self, size: Size, free: int) -> str:
        width, height = memory.largest(self._facts, size, self._placement.way, free)
        way = self._placement.way
        tiles = "" if way.tiling else " Or load the model with the option tiling=true, which decodes in tiles."
        return (f"Ask for {width}x{height} or less." if width else "Free some memory.") + tiles


def free_bytes(device: str) -> int:
    """What may be taken on *device* now, with what torch holds there and does not use; 0: unknown."""
    from anyform_diffusers.backend import torch

    if device.startswith("cuda"):
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + unused)
    if device == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return mainmemory.free_bytes()
