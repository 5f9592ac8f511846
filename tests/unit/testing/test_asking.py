"""The conformance kit asks a plugin with the plugin's part of the settings file."""

from __future__ import annotations

import sys

from anyform.testing.asking import Asked

TABLES = {"mine": {"command": sys.executable, "args": ["{port}"], "reads": ["gguf"]}}


def test_hooks_are_given_the_tables() -> None:
    assert [info.name for info in Asked("anyform.builtin.command", TABLES).ask("list_backends")][-1:] == ["mine"]
    assert "mine" not in [info.name for info in Asked("anyform.builtin.command").ask("list_backends")]
