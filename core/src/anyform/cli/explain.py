"""`anyform explain MODEL`: which backend runs a model, and why."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from anyform.cli import document
from anyform.cli.arguments import add_inspection
from anyform.cli.opening import opened_for, spelled
from anyform.cli.table import pairs, wrapped
from anyform.cli.terminal import Terminal, output
from anyform.kernel.units import size

if TYPE_CHECKING:
    from anyform.kernel.router import Decision


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    add_inspection(parser)
    parser.add_argument("--task", metavar="T", help="chat, complete, embed, ... (default: the model's main task)")


def execute(args: Namespace) -> int:
    """Print the decision; 1 if no backend passes."""
    with opened_for(args, absent="look") as (runtime, name):
        decision = runtime.explain(spelled(runtime, args, name), args.task)
    if args.json:
        document.show(decision)
    else:
        _print(output(), decision)
    return 0 if decision.plan else 1


def _print(terminal: Terminal, decision: Decision) -> None:
    for line in decision.lines():
        style = "dim" if line.startswith("-") else "green" if line.startswith("1 ") else ""
        for part in wrapped(line, terminal.width):
            terminal.line(terminal.paint(part, style))
    facts = [
        ("model", decision.model),
        ("task", decision.task or ""),
        ("context", f"{decision.context}: {decision.context_why}" if decision.context else ""),
        ("memory", f"{size(decision.estimate_bytes)} estimated" if decision.estimate_bytes else ""),
    ]
    terminal.line()
    pairs(terminal, [(name, value) for name, value in facts if value])
    for note in (*((decision.context_warning,) if decision.context_warning else ()), *decision.notes):
        terminal.line(terminal.paint(f"note: {note}", "yellow"))
