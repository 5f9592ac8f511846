"""docs/plugins.md is true: its plugin is made, installed and run as the page says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "plugins.md").read_text(encoding="utf-8")
FILE = re.compile(r"^`([\w./-]+)`:\n\n```\w+\n(.*?)^```$", re.M | re.S)
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.M | re.S)
NOT_INSTALLED_HERE = "pip install"


@dataclass(frozen=True)
class Step:
    """A command of the page and the lines that it shows."""

    command: str
    shows: tuple[str, ...]


def steps() -> list[Step]:
    found: list[Step] = []
    for block in CONSOLE.findall(PAGE):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, *shows = part.splitlines()
            found.append(Step(command, tuple(shows)))
    return found


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's package with the metadata that installing it would leave beside it; no network, no build."""
    folder = tmp_path_factory.mktemp("anyform-mirror")
    for name, content in FILE.findall(PAGE):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    (folder / "src" / "anyform_mirror" / "__init__.py").touch()
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / "src" / f"anyform_mirror-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in of.items()) for group, of in groups]
    (info / "entry_points.txt").write_text("".join(lines))
    return folder


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A line of the page's console, by this Python and with the package on its path."""
    words = shlex.split(command)
    if words[0] in ("anyform", "pytest"):
        words = [sys.executable, "-m", *words]
    path = os.pathsep.join([str(folder / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    cache = {"ANYFORM_STATE": str(folder / "state"), "XDG_CACHE_HOME": str(folder / "cache")}
    if words[0] == "echo":
        (folder / words[3]).write_text(words[1] + "\n")
        words = [sys.executable, "-c", ""]
    return subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, **cache},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def shows(output: str, wanted: str) -> bool:
    """Whether some line of *output* has the words of *wanted*, in their order; the page leaves some out."""
    pattern = r"\b.*\s".join(re.escape(word) for word in wanted.split())
    return any(re.search(pattern, line) for line in output.splitlines())


def test_the_page_runs(package: Path) -> None:
    done = []
    for step in steps():
        if step.command.startswith(NOT_INSTALLED_HERE):
            continue
        ended = run(step.command, package)
        assert ended.returncode == 0, f"{step.command}\n{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}"
        for line in step.shows:
            assert shows(ended.stdout, line), f"{step.command} does not show {line!r}:\n{ended.stdout}"
        done.append(step.command.split()[0])
    assert done == ["anyform", "echo", "anyform", "anyform", "pytest"]


def test_the_plugin_is_about_forty_lines() -> None:
    files = dict(FILE.findall(PAGE))
    for name in ("src/anyform_mirror/plugin.py", "src/anyform_mirror/backend.py"):
        assert len([line for line in files[name].splitlines() if line.strip()]) <= 40
