"""Corrupted folders as users meet them: each is refused with its reason, and no engine is imported for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Severity
from anyform.kernel.files import FolderFiles
from anyform.testing.onnxbroken import BROKEN, Broken
from anyform_onnx import plugin

KNOWN = {name: one for name, one in BROKEN.items() if one.code}
MOST_LINES = 8
SCRIPT = """
import contextlib, io, json, sys
from anyform.cli import main

def command(*words):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = main(list(words))
    return [status, said.getvalue()]

told = {name: {"validate": command("validate", name), "run": command("run", name, "hi")} for name in sys.argv[1:]}
engines = [name for name in ("onnxruntime", "onnxruntime_genai", "tokenizers", "numpy", "PIL") if name in sys.modules]
sys.__stdout__.write(json.dumps({"told": told, "engines": engines}))
"""
SOUND = ("decoder", "external", "genai", "export", "embedding", "classifier")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("broken")
    made = {name: root / name.replace(" ", "-") for name in KNOWN}
    for name, folder in made.items():
        KNOWN[name].sound(folder)
        KNOWN[name].damage(folder)
    return made


def test_there_are_many_ways_to_be_broken() -> None:
    assert len(KNOWN) >= 30
    assert len({one.code for one in KNOWN.values()}) >= 20


@pytest.mark.parametrize("kind", SOUND)
def test_what_is_damaged_was_sound(tmp_path: Path, kind: str) -> None:
    from anyform.testing import onnxbroken

    getattr(onnxbroken, kind)(tmp_path)
    files = FolderFiles(tmp_path)
    [match] = plugin.detect_format(files)
    assert plugin.validate(files, match) == []


@pytest.mark.parametrize("name", KNOWN)
def test_the_finding(folders: dict[str, Path], name: str) -> None:
    files = FolderFiles(folders[name])
    found = [one for match in plugin.detect_format(files) for one in plugin.validate(files, match)]
    critical = [one for one in found if one.severity is Severity.CRITICAL]
    assert f"onnx.{KNOWN[name].code}" in [one.code for one in critical]
    check_said(KNOWN[name], " ".join(one.text for one in critical))


def check_said(case: Broken, said: str) -> None:
    """The file, the value, in few words; never a traceback, nor a plugin's bug."""
    for word in case.said:
        assert word in said, f"{word!r} is not in {said!r}"
    assert "Traceback" not in said
    assert "bug in" not in said
    assert len(said) < 2000


@pytest.fixture(scope="module")
def told(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What commands say of all, in one process."""
    home = str(tmp_path_factory.mktemp("home"))
    places = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, folders.values())],
        env=dict.fromkeys(places, home), capture_output=True, encoding="utf-8", timeout=240, check=False,
        stdin=subprocess.DEVNULL, cwd=home,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("command", ["validate", "run"])
@pytest.mark.parametrize("name", KNOWN)
def test_commands_say_what_is_wrong(told: dict[str, Any], folders: dict[str, Path], name: str, command: str) -> None:
    status, said = told["told"][str(folders[name])][command]
    check_said(KNOWN[name], said)
    assert status == 1
    assert len(said.strip().splitlines()) <= (MOST_LINES if command == "validate" else 1)


def test_no_engine_was_imported_for_it(told: dict[str, Any]) -> None:
    assert told["engines"] == []
