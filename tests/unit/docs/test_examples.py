"""The Python examples of the README and of docs/use.md use public names only, and all that they name exists."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import anyform

ROOT = Path(__file__).parents[3]
EXAMPLES = [
    pytest.param(code, id=f"{page}-{number}")
    for page in ("README.md", "docs/use.md")
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL))
]


def imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(module, name) of each `from anyform… import`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("anyform"):
            yield from ((node.module or "", alias.name) for alias in node.names)


@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example_uses_what_is_public(code: str) -> None:
    tree = ast.parse(code)
    for module, name in imported(tree):
        assert module == "anyform" or module.startswith("anyform.contract"), f"{module} is not public"
        assert hasattr(importlib.import_module(module), name)
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "anyform"
    }
    assert used <= set(anyform.__all__)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3
