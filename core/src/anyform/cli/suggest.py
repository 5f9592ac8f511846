"""`anyform suggest`: models to begin with, for this machine."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from anyform.cli import document
from anyform.cli.arguments import add_config, add_json, read_config, size, task
from anyform.cli.opening import opened
from anyform.cli.table import Cell, table
from anyform.cli.terminal import errors, output
from anyform.kernel import units

if TYPE_CHECKING:
    from anyform.sources.suggestion import Suggestion

HEAD = ("NAME", "TASKS", "SIZE", "WHY")


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--task", type=task, metavar="T", help="only models that do it: chat, embed, ...")
    parser.add_argument("--most", type=size, metavar="SIZE", help="only models up to it: 4GB, 800MB, ...")
    add_json(parser)
    add_config(parser)


def execute(args: Namespace) -> int:
    """Print one row a suggestion: what a backend of this machine suggests, what can be read here, what cannot."""
    from anyform.config import Models
    from anyform.sources.suggestion import gathered, unreadable

    config = read_config(args)
    with opened(replace(config, models=Models(), prefer=(), forbid=())) as runtime:
        engines = runtime.capabilities(probe=False)
        troubles = [fault.message for fault in runtime.plugins.failures]
    file = Path(config.server.suggestions) if config.server.suggestions else None
    found, left_out = gathered(engines, file, args.task or "", args.most)
    unread = unreadable(engines, found)
    if args.json:
        document.show(found)
    elif found:
        table(output(), HEAD, [_row(one, one.name in unread) for one in found])
        errors().line(errors().paint("`anyform pull NAME` fetches one", "dim"))
    else:
        errors().line(f"nothing is suggested {_narrowed(args)}")
    for trouble in (*left_out, *troubles):
        errors().line(errors().paint(trouble, "yellow"))
    return 0


def _row(one: Suggestion, unread: bool) -> list[Cell]:
    """*unread*: nothing that can be used here reads it."""
    why = f"{one.why} ({one.backend})" if one.backend else one.why
    unmet = f"nothing that can be used here reads {one.format}" if unread else ""
    return [
        (one.name, "" if unread else "cyan"),
        " ".join(one.tasks) or "-",
        units.size(one.size_bytes) if one.size_bytes else "-",
        "; ".join(filter(None, (why, unmet))) or "-",
    ]


def _narrowed(args: Namespace) -> str:
    """What was asked for, in words."""
    asked = [f"for {args.task}"] if args.task else []
    asked += [f"up to {units.size(args.most)}"] if args.most is not None else []
    return " ".join(asked) or "for this machine"
