"""The table of layouts against a compiler: the stand-in's header, written apart from it, field by field."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anyform_rkllm.layout import ABIS, Era

pytestmark = pytest.mark.engine
Places = dict[str, tuple[int, int]]
"""Structure.field -> (offset, bytes); Structure -> (0, bytes)."""


def compiled(path: Path) -> Places:
    told = ctypes.CDLL(str(path)).anyform_rkllm_stand_in_layout
    told.argtypes, told.restype = [ctypes.c_char_p, ctypes.c_size_t], ctypes.c_size_t
    text = ctypes.create_string_buffer(told(None, 0))
    told(text, len(text))
    words = [line.split() for line in text.value.decode().splitlines()]
    return {name: (int(offset.replace("-", "0")), int(size)) for name, offset, size in words}


def described(era: Era) -> Places:
    found: Places = {}
    for name, structure in ABIS[era].structures.items():
        if name == "InputData":
            continue  # it has no name in C
        found[name] = 0, ctypes.sizeof(structure)
        for field, _ in structure._fields_:
            found |= _place(structure, field, name)
    return found


def _place(structure: Any, field: str, name: str) -> Places:
    at = getattr(structure, field)
    if field != "data":
        return {f"{name}.{field}": (at.offset, at.size)}
    inner = dict(structure._fields_)["data"]
    return {f"{name}.{one}": (at.offset, getattr(inner, one).size) for one, _ in inner._fields_}


@pytest.mark.parametrize("era", [Era.V11, Era.V120, Era.V121])
def test_a_compiler_puts_every_field_where_the_table_has_it(stand_in: Callable[..., Path], era: Era) -> None:
    found = compiled(stand_in(era))
    assert found == described(era)
    assert len(found) > 50


def test_the_latest_release_as_the_table_has_it(stand_in: Callable[..., Path]) -> None:
    assert compiled(stand_in(Era.V13, audio=True)) == described(Era.V13)


def test_the_release_before_differs_from_it_at_the_end_of_an_input_alone(stand_in: Callable[..., Path]) -> None:
    """What is passed to 1.3.0 is longer than what it reads."""
    found, table = compiled(stand_in(Era.V13)), described(Era.V13)
    longer = {"MultiModalInput": (0, 144), "Input": (0, 160), "Input.multimodal_input": (16, 144)}
    gone = {name for name in table if name.startswith("AudioInput")} | {"MultiModalInput.audio"}
    assert found == {name: longer.get(name, place) for name, place in table.items() if name not in gone}
    assert table["MultiModalInput.audio"][0] == 144
