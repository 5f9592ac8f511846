"""A source that cannot be told where to look is asked by the kit in a process whose user has no home folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from anyform.contract.hooks import ModelSource
from anyform.testing import outside
from anyform.testing.source_checks import SourceChecks

PLUGIN = """
from pathlib import Path
from anyform.contract.hooks import Place, hookimpl

class Careful:
    name = "careful"
    def find(self):
        folder = Path.home() / ".careful"
        return [Place(path=path) for path in (folder.iterdir() if folder.is_dir() else ())]

class Hasty:
    name = "hasty"
    def find(self):
        return [Place(path=path) for path in (Path.home() / ".hasty").iterdir()]

class Hopeful:
    name = "hopeful"
    def find(self):
        yield Place(path=Path.home() / ".hopeful" / "m.bin")

@hookimpl
def list_sources():
    return SOURCES
"""


@pytest.fixture
def plugin(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a plugin's module with the sources that the test names."""
    name = f"homely_{request.param.lower()}"
    (tmp_path / f"{name}.py").write_text(PLUGIN.replace("SOURCES", f"[{request.param}()]"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.mark.parametrize(
    ("plugin", "complaint"),
    [
        ("Careful", ""),
        ("Hasty", "hasty raises FileNotFoundError"),
        ("Hopeful", "hopeful names .*absent.*, where nothing lies"),
    ],
    indirect=["plugin"],
)
def test_a_source_that_needs_its_folder_is_caught(
    plugin: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Checks(SourceChecks):
        module = plugin

    if not complaint:
        Checks().test_a_source_survives_a_missing_folder(tmp_path, monkeypatch)
        return
    with pytest.raises(AssertionError, match=complaint):
        Checks().test_a_source_survives_a_missing_folder(tmp_path, monkeypatch)


def test_a_plugin_without_sources_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Checks(SourceChecks):
        module = "anyform.builtin.echo"

        def source(self, folder: Path) -> ModelSource | None:
            return None

    with pytest.raises(pytest.skip.Exception, match="does not implement list_sources"):
        Checks().test_a_source_survives_a_missing_folder(tmp_path, monkeypatch)
    with pytest.raises(AssertionError):
        outside.found_by_sources("anyform.builtin.echo")
