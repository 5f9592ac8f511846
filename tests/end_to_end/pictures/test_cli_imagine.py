"""`anyform imagine` with the real engine, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .direct import (
    NEEDS,
    PROMPT,
    SIDE,
    STEPS,
    Direct,
    opened,
    photo,
    png,
    same,
    transparent,
    white,
)

pytestmark = NEEDS

SIZE = f"{SIDE}x{SIDE}"
Find = Callable[[str], Direct]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands run; what the first has learnt of this machine the second knows."""
    return tmp_path_factory.mktemp("work")


def run(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command, in *folder*, with a home of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANYFORM_", "HF_"))}
    own = ("HOME", "USERPROFILE", "LOCALAPPDATA", "APPDATA", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
    environment = {**kept, **dict.fromkeys(own, str(folder / "home"))}
    command = [sys.executable, "-m", "anyform", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, timeout=120, check=False
    )


def test_a_picture_of_a_prompt(pipelines: Path, directly: Find, folder: Path) -> None:
    asked = ("--size", SIZE, "--steps", str(STEPS), "--seed", "7", "--option", "threads=1")
    done = run(folder, "imagine", PROMPT, "-o", "made.png", "--model", pipelines / "sd", *asked)
    assert done.returncode == 0, done.stderr
    made = opened((folder / "made.png").read_bytes())
    assert same(made, directly("sd").paint())
    assert made.info["seed"] == "7"


def test_an_edit_with_a_mask(pipelines: Path, directly: Find, folder: Path) -> None:
    (folder / "in.png").write_bytes(png(photo()))
    (folder / "mask.png").write_bytes(png(transparent()))
    asked: Any = ("--steps", str(STEPS), "--seed", "7", "--option", "threads=1", "--json")
    pictures = ("--edit", "in.png", "--mask", "mask.png", "-o", "out.png")
    done = run(folder, "imagine", PROMPT, *pictures, "--model", pipelines / "sd", *asked)
    assert done.returncode == 0, done.stderr
    assert same(opened((folder / "out.png").read_bytes()), directly("sd").edit(photo(), white()))
    assert json.loads(done.stdout)["model"] == "sd"
