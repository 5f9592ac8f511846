"""The commands that one types most import no engine and no web framework, and answer at once."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anyform.testing.gguf import write_llama
from anyform.testing.painting import write_pipeline

HEAVY = [
    "fastapi",
    "starlette",
    "uvicorn",
    "pydantic",
    "pydantic_settings",
    "asyncio",
    "numpy",
    "torch",
    "diffusers",
    "PIL",
    "diffusers",
    "PIL",
    "llama_cpp",
    "llguidance",
    "jinja2",
    "transformers",
    "onnxruntime",
    "huggingface_hub",
    "httpx",
    "gguf",
    "prometheus_client",
]
WATCH = f"""
import sys
from anyform.cli import main
code = main(sys.argv[1:])
print("heavy:", *sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize("command", ["--help", "list", "show", "explain", "estimate", "plugins", "voices"])
def test_no_engine_and_no_web_framework(cli: Any, echo: Callable[..., Path], command: str, tmp_path: Path) -> None:
    path = echo(tasks=["chat", "speak"])
    write_llama(tmp_path / "tiny.gguf")
    write_pipeline(tmp_path / "paints", variants=("", "fp16"))
    folder = ["--models", str(tmp_path)]
    takes = {"--help": [], "plugins": [], "list": folder, "voices": folder}
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


@pytest.mark.alone
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
    times = measured(cli, commands, tmp_path / "bytecode")
    assert times["help"] <= 3 * times["pass"], times
    assert times["list"] - times["pass"] <= 0.25, times
    assert times["show"] - times["pass"] <= 0.25, times


def measured(cli: Any, commands: dict[str, list[str]], bytecode: Path, rounds: int = 7) -> dict[str, float]:
    """The least seconds of each, run in turns: what it takes when nothing else does.

    The first round warms up, and leaves the *bytecode* that whatever is installed has.
    """
    environment = cli.environment({"PYTHONPYCACHEPREFIX": str(bytecode)})
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds + 1):
        for name, command in commands.items():
            began = time.perf_counter()
            subprocess.run(command, capture_output=True, env=environment, check=True)
            times[name].append(time.perf_counter() - began)
    return {name: min(values[1:]) for name, values in times.items()}
