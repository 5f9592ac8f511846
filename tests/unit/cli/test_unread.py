"""Tables of the settings file that nobody reads are told of."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import pytest

from anyform.cli import unread
from anyform.contract.facts import Device, FormatMatch, ModelFiles
from anyform.contract.hooks import hookimpl
from anyform.kernel.plugins import Plugins


@hookimpl
def asks(tables: Mapping[str, Any]) -> list[Device]:
    return []


@hookimpl
def asks_not() -> list[Device]:
    return []


@hookimpl
def detects(files: ModelFiles, tables: Mapping[str, Any]) -> list[FormatMatch]:
    return []


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Plugins:
    """`board` and `format` take settings, `plain` does not, `broken` is broken."""
    found = {}
    for name, hook in (("board", asks), ("format", detects), ("plain", asks_not), ("broken", asks)):
        module = ModuleType(f"{name}_plugin")
        setattr(module, "detect_format" if hook is detects else "find_devices", hook)
        if name != "broken":
            module.ANYFORM_CONTRACT = 1  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        found[name] = module
    return Plugins.of(found)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("board", []),
        ("format", []),
        ("broken", []),
        ("plain", ["[plugin.plain] of the settings is for a plugin that takes none."]),
        (
            "bord",
            [
                "[plugin.bord] of the settings is for a plugin that is not installed. Did you mean [plugin.board]?",
            ],
        ),
        ("xyz", ["[plugin.xyz] of the settings is for a plugin that is not installed."]),
    ],
)
def test_a_table(plugins: Plugins, name: str, said: list[str]) -> None:
    plugins.tables = {name: {"a": 1}}
    assert unread.tables(plugins) == said


def test_programs_have_tables_that_are_read() -> None:
    plugins = Plugins.discover(only="command")
    plugins.tables = {"command": {}}
    assert unread.tables(plugins) == []
