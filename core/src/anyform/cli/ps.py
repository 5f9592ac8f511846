"""`anyform ps`: the models that a server has loaded."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import Any

from anyform.cli import document
from anyform.cli.arguments import add_json, add_server
from anyform.cli.client import Client
from anyform.cli.table import Cell, duration, table
from anyform.cli.terminal import errors, output
from anyform.kernel.units import size

HEAD = ("MODEL", "PLUGIN", "DEVICE", "CONTEXT", "ACTIVE", "MEMORY", "PID", "LOADED FOR")


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    add_json(parser)
    add_server(parser)


def execute(args: Namespace) -> int:
    """Print one row a loaded model, and under the table what was reduced to load it."""
    client = Client.of(args)
    models = client.status()
    if args.json:
        document.show(models)
        return 0
    if not models:
        errors().line(f"{client.url} has no model loaded; the first request for one loads it")
        return 0
    terminal = output()
    table(terminal, HEAD, [_row(model) for model in models])
    for model in models:
        if model.get("context_why"):
            context = f"{model.get('model')}: context {model.get('context')}: {model['context_why']}"
            terminal.line(terminal.paint(context, "dim"))
        for note in dict.fromkeys((*model.get("reductions", ()), *model.get("warnings", ()))):
            terminal.line(terminal.paint(f"{model.get('model')}: {note}", "yellow"))
    return 0


def _row(model: Mapping[str, Any]) -> list[Cell]:
    memory, since = model.get("memory_bytes"), model.get("since_s")
    return [
        (str(model.get("model", "-")), "cyan"),
        str(model.get("plugin") or model.get("runtime") or "-"),
        str(model.get("device") or "-"),
        f"{model.get('context') or '-'} x {model.get('parallel') or '-'}",
        str(model.get("active", "-")),
        size(memory) if memory else "-",
        str(model.get("pid") or "-"),
        duration(since) if since is not None else "-",
    ]
