"""Every hook says its four lines, has a test, and has a place in the documentation."""

from __future__ import annotations

import ast
import inspect
from functools import cache
from pathlib import Path

import pytest

from anyform.contract import hooks
from anyform.kernel.plugins import hook_names
from anyform.testing import contract_page

from .source import ROOT, modules

LABELS = ["Asks", "When and where", "Engine", "Empty means"]


@cache
def words_in_tests() -> set[str]:
    """Every name, attribute and plain string in the tests."""
    found: set[str] = set()
    folders = [ROOT / "tests", *sorted((ROOT / "plugins").glob("*/tests"))]
    for module in (
        module for folder in folders for module in modules(folder) if "architecture" not in module.path.parts
    ):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.Name):
                found.add(node.id)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
            elif isinstance(node, ast.FunctionDef):
                found.add(node.name)
    return found


def test_ten_hooks_is_the_budget() -> None:
    assert len(hook_names()) == 10


@pytest.mark.parametrize("hook", hook_names())
def test_the_docstring_has_its_four_lines(hook: str) -> None:
    lines = (inspect.getdoc(getattr(hooks, hook)) or "").splitlines()
    assert [line.partition(":")[0] for line in lines] == LABELS
    said = contract_page.four_lines(hook)
    assert said["When and where"].startswith(("collected", "addressed"))
    assert said["Engine"] in ("imported.", "not imported.")


@pytest.mark.parametrize("hook", hook_names())
def test_the_hook_is_tested(hook: str) -> None:
    assert hook in words_in_tests()


@pytest.mark.parametrize("hook", hook_names())
def test_the_hook_is_documented_with_its_arguments(hook: str) -> None:
    contract = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
    section = contract.partition(f"### `{hook}`\n")[2].partition("\n### ")[0]
    for argument in inspect.signature(getattr(hooks, hook)).parameters:
        assert f"{argument}: " in section
    assert f"`{hook}`" in (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")


def test_the_contract_page_is_up_to_date() -> None:
    written = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
    assert written == contract_page.page(), "run: python -m anyform.testing.contract_page > docs/contract.md"


def test_links_between_the_pages_lead_somewhere() -> None:
    import re

    for page in sorted((ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+\.md)[^)]*\)", page.read_text(encoding="utf-8")):
            assert (page.parent / Path(target)).exists(), f"{page.name} links to {target}"
