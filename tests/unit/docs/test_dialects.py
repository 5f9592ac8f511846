"""docs/dialects.md is what the tables of the dialects say."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]


def script() -> Any:
    found = spec_from_file_location("dialects", ROOT / "scripts" / "dialects.py")
    assert found is not None
    assert found.loader is not None
    module = module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date() -> None:
    made = script()
    assert made.PAGE.read_text(encoding="utf-8") == made.page(), "run: python scripts/dialects.py"


def test_every_field_says_what_becomes_of_it_once() -> None:
    from importlib import import_module

    for module in script().TABLES.values():
        for resource in import_module(module).RESOURCES:
            names = [field.name for field in resource.fields]
            twice = {name for name in names if names.count(name) > 1}
            assert not twice, f"{resource.method} {resource.path} has {twice} twice"
