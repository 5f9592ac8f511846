"""Says on standard error what went wrong: one line for people, or one JSON object for programs (`--json`)."""

from __future__ import annotations

import sys

MISUSED = "misused"
"""The code of a command line that cannot be understood."""


def complain(message: str, hint: str = "", *, code: str, as_json: bool = False) -> None:
    """*message*: what happened; *hint*: what to do; *code*: a fault's, for programs."""
    if as_json:
        import json

        said = {"error": {"message": message, "code": code, "hint": hint}}
        sys.stderr.write(json.dumps(said, ensure_ascii=False) + "\n")
        return
    from anyform.cli.terminal import errors

    terminal, text = errors(), f"{message} {hint}"
    terminal.line(terminal.paint(f"anyform: {' '.join(text.split())}", "red"))
