"""Runs the real command in a process of its own, with folders of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-m", "anyform"]
LIMIT_S = 60
FOLDERS = ("CACHE", "CONFIG", "DATA")


class Cli:
    """The command, run in *folder*; what it keeps lies under *home*."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.home, self.folder = home, folder

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The test's own environment without anything that would configure anyform, or name this machine's models."""
        told = ("ANYFORM_", "HF_", "HUGGINGFACE_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(told)}
        kept["OLLAMA_MODELS"] = str(self.home / "ollama")
        for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "APPDATA", *(f"XDG_{x}_HOME" for x in FOLDERS)):
            kept[name] = str(self.home)
        return {**kept, **(extra or {})}

    def __call__(
        self, *arguments: str | Path, input: str = "", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            input=input,
            capture_output=True,
            encoding="utf-8",
            cwd=self.folder,
            env=self.environment(env),
            timeout=LIMIT_S,
            check=False,
        )

    def json(self, *arguments: str | Path) -> Any:
        done = self(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """The command, left running."""
        return subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            cwd=self.folder,
            env=self.environment(env),
        )

    def at_terminal(self, *arguments: str | Path) -> tuple[int, str]:
        """The exit code of a command that asks nothing, and what a terminal gets of it. POSIX only."""
        import pty

        near, far = pty.openpty()
        environment = {**self.environment(), "TERM": "xterm", "COLUMNS": "200"}
        command = [*COMMAND, *map(str, arguments)]
        process = subprocess.Popen(command, stdin=far, stdout=far, stderr=far, env=environment, cwd=self.folder)
        os.close(far)
        seen = b""
        try:
            while piece := os.read(near, 4096):
                seen += piece
        except OSError:  # Linux's word for the end
            pass
        finally:
            os.close(near)
        return process.wait(LIMIT_S), seen.decode()


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def cli(home: Path, tmp_path: Path) -> Cli:
    return Cli(home, tmp_path)


@pytest.fixture
def echo(tmp_path: Path) -> Callable[..., Path]:
    """Writes a model of the echo format."""

    def write(file: str = "parrot", **more: Any) -> Path:
        path = tmp_path / f"{file}.echo"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"format": "echo", **more}))
        return path

    return write
