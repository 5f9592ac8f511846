"""The commands that one types most import no engine and no web framework, and answer at once."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anyform.testing.gguf import write_llama

HEAVY = [
    "fastapi",
    "starlette",
    "uvicorn",
    "pydantic",
    "pydantic_settings",
    "asyncio",
    "numpy",
    "torch",
    "llama_cpp",
    "llguidance",
    "jinja2",
    "transformers",
    "onnxruntime",
    "huggingface_hub",
    "httpx",
    "gguf",
]
WATCH = f"""
import sys
from anyform.cli import main
code = main(sys.argv[1:])
print("heavy:", *sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize("command", ["--help", "list", "show", "explain", "estimate", "plugins"])
def test_no_engine_and_no_web_framework(cli: Any, echo: Callable[..., Path], command: str, tmp_path: Path) -> None:
    path = echo()
    write_llama(tmp_path / "tiny.gguf")
    takes = {"--help": [], "plugins": [], "list": ["--models", str(tmp_path)]}
    more = takes.get(command, [str(path)])
    done = subprocess.run(
        [sys.executable, "-c", WATCH, command, *more],
        capture_output=True,
        text=True,
        env=cli.environment(),
        cwd=tmp_path,
        check=False,
    )
    assert done.stderr.splitlines()[-1] == "heavy:"
    assert done.stdout


def test_help_takes_at_most_three_times_an_empty_python_and_list_and_show_250_ms_more(
    cli: Any, echo: Callable[..., Path], tmp_path: Path
) -> None:
    path = echo()
    write_llama(tmp_path / "tiny.gguf")
    for at in range(5):
        echo(f"owner/m{at}/m")
    commands = {
        "pass": [sys.executable, "-c", "pass"],
        "help": [sys.executable, "-m", "anyform", "--help"],
        "list": [sys.executable, "-m", "anyform", "list", "--models", str(tmp_path)],
        "show": [sys.executable, "-m", "anyform", "show", str(path)],
    }
    environment = cli.environment({"PYTHONPYCACHEPREFIX": str(tmp_path / "bytecode")})
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed is compiled once
    times = dict.fromkeys(commands, math.inf)
    for number in range(MOST_ROUNDS):
        times = {name: min(times[name], seconds(command, environment)) for name, command in commands.items()}
        if number >= ROUNDS and not too_slow(times):
            break
    assert not too_slow(times), times


ROUNDS, MOST_ROUNDS = 7, 40
"""The least of several runs is what a command takes by itself; a busy machine takes more, until one was left alone."""


def too_slow(times: dict[str, float]) -> list[str]:
    """The commands that take longer than they may beside an empty Python."""
    empty = times["pass"]
    most = {"help": 3 * empty, "list": empty + 0.25, "show": empty + 0.25}
    return [name for name, longest in most.items() if times[name] > longest]


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """How long *command* takes, from its start to its end."""
    began = time.perf_counter()
    subprocess.run(command, capture_output=True, env=environment, check=True)
    return time.perf_counter() - began
