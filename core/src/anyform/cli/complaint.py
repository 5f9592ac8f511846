"""Says on standard error what went wrong: one line for people, or one JSON object for programs (`--json`)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

MISUSED = "misused"
"""The code of a command line that cannot be understood."""
MORE = ("category", "area", "severity", "part", "cause", "suggestions")
"""What programs are told of a fault beside message, code and hint."""


def complain(
    message: str, hint: str = "", *, code: str, as_json: bool = False, known: Mapping[str, Any] | None = None
) -> None:
    """*message*: what happened; *hint*: what to do; *code*: a fault's, for programs; *known*: all that a fault says.

    What a program printed last and what else may help is told below the line, a line each.
    """
    known = known or {}
    if as_json:
        import json

        said = {"message": message, "code": code, "hint": hint, **{name: known[name] for name in MORE if name in known}}
        sys.stderr.write(json.dumps({"error": said}, ensure_ascii=False) + "\n")
        return
    from anyform.cli.terminal import errors

    ended = not hint or message.rstrip().endswith((".", "!", "?", ":"))
    terminal, text = errors(), f"{message}{'' if ended else '.'} {hint}"
    terminal.line(terminal.paint(f"anyform: {' '.join(text.split())}", "red"))
    for line in printed(known.get("details", {})):
        terminal.line(f"  it printed: {line}")
    for other in known.get("suggestions", ()):
        if other != hint:
            terminal.line(f"  or: {' '.join(other.split())}")


def printed(details: Mapping[str, Any]) -> list[str]:
    """What a program printed last, of a fault's details; empty where it is about none."""
    return str(details.get("output") or "").splitlines()
