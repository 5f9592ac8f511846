"""Rockchip's chips that its library for language models runs on, as one table: what each has, and what it lacks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

W4A16 = ("W4A16", "W4A16_G32", "W4A16_G64", "W4A16_G128")
PATTERN = re.compile(r"(rk|rv)\d{4}[a-z]?", re.I)
"""A chip's name, wherever it stands: `rockchip,rk3588s-rknpu`, `RV1126B`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One chip."""

    name: str
    """As the library and the names of models have it, in upper case."""
    cores: int
    """Of its NPU."""
    lacks: tuple[str, ...] = ()
    """Quantizations that it cannot run, as `Metadata.quantization` spells them."""
    cpu_mask: int = 0x0F
    """The CPU cores that the library computes on, a bit for each: the fast ones, where there are fast and slow."""


BOARDS: Mapping[str, Board] = {
    board.name: board
    for board in (
        Board(name="RK3588", cores=3, lacks=W4A16, cpu_mask=0xF0),
        Board(name="RK3576", cores=2, cpu_mask=0xF0),
        Board(name="RK3562", cores=1),
        Board(name="RV1126B", cores=1),
    )
}
"""Chip -> what is known of it: the vendor's documents and demos (airockchip/rknn-llm), restated."""


def chip(text: str) -> str:
    """The chip that *text* names, in upper case; empty where it names none.

    RK3588S and the like are RK3588 in another package: the library and its models know them by that name.
    """
    found = PATTERN.search(text)
    name = found.group().upper() if found else ""
    return name[:-1] if name not in BOARDS and name[:-1] in BOARDS else name
