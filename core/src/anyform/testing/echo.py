"""Writes models for the built-in echo, which answers with the words of its input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_echo(path: Path, **said: Any) -> Path:
    """An echo model at *path*: a file `x.echo`, or a folder to hold `echo.json`. *said*: context, tasks, options."""
    file = path if path.suffix in (".echo", ".json") else path / "echo.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"format": "echo", **said}))
    return path
