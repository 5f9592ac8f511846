"""What the format side wants to know of this machine, which may have no NPU and wrong settings: it only describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anyform_rkllm import npu, setting, state
from anyform_rkllm.setting import WrongSetting
from anyform_rkllm.state import State


def chip(table: Mapping[str, Any]) -> str:
    """The chip whose NPU is here; empty: none, or unknown."""
    try:
        said = setting.read(table)
    except WrongSetting:  # which the backend tells
        return ""
    there = npu.find(said.root, said.platform)
    return there.platform if there else ""


def look(table: Mapping[str, Any]) -> State | None:
    """What is here of an NPU and its library; None where the settings are wrong, which the backend tells."""
    try:
        return state.look(table)
    except WrongSetting:
        return None
