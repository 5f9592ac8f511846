"""The plugin's page names all that can be set, and says early what was never tried."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from anyform_rkllm.board import BOARDS
from anyform_rkllm.options import Options
from anyform_rkllm.setting import SHOWN

PAGE = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_every_load_option_is_named() -> None:
    """But those that the settings of the machine give."""
    options = {field.name for field in fields(Options)} - {"stand_in", "platform"}
    assert {name for name in options if f"`{name}`" not in PAGE} == set()


def test_every_setting_and_every_chip_is_named() -> None:
    assert {name for name in SHOWN if f"\n{name} = " not in PAGE} == set()
    assert {name for name in BOARDS if name not in PAGE} == set()


def test_what_was_never_tried_comes_before_how_to_use_it() -> None:
    assert 0 < PAGE.index("never run on hardware") < PAGE.index("## ")
    assert "stand_in" not in PAGE  # how tests let it count is no matter of users
