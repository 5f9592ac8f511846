"""`anyform ps`: the models that a server has loaded."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from anyform.cli import document
from anyform.cli.arguments import add_json, add_server
from anyform.cli.client import Client
from anyform.cli.pulling import line
from anyform.cli.table import Cell, duration, table
from anyform.cli.terminal import Terminal, errors, output
from anyform.kernel.units import size
from anyform.sources.hubmeter import PullState

HEAD = ("MODEL", "STATE", "PLUGIN", "DEVICE", "CONTEXT", "ACTIVE", "MEMORY", "PID", "LOADED FOR", "UNTIL")


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    add_json(parser)
    add_server(parser)


def execute(args: Namespace) -> int:
    """Print one row a loaded model, under the table what was reduced to load it, and what is being pulled."""
    client = Client.of(args)
    status = client.status()
    models, terminal = status["models"], output()
    if args.json:
        document.show(models)
        return 0
    if models:
        _print(terminal, models)
    elif not status["loading"]:
        errors().line(f"{client.url} has no model loaded; the first request for one loads it")
    for coming in status["loading"]:
        terminal.line(_coming(coming))
    for name, why in status["failed"].items():
        terminal.line(terminal.paint(f"{name} crashed too often: {why}. `anyform load {name}` tries again", "red"))
    for pull in status["pulls"]:
        terminal.line(_pull(pull))
    return 0


def _print(terminal: Terminal, models: Sequence[Mapping[str, Any]]) -> None:
    table(terminal, HEAD, [_row(model) for model in models])
    for model in models:
        if model.get("context") is not None and model.get("context_why"):
            context = f"{model.get('model')}: context {model.get('context')}: {model['context_why']}"
            terminal.line(terminal.paint(context, "dim"))
        if model.get("runs_on"):
            terminal.line(terminal.paint(f"{model.get('model')}: runs on {model['runs_on']}", "dim"))
        for note in dict.fromkeys((*model.get("reductions", ()), *model.get("warnings", ()))):
            terminal.line(terminal.paint(f"{model.get('model')}: {note}", "yellow"))


def _coming(model: Mapping[str, Any]) -> str:
    """What is not loaded yet, and how many requests wait for it."""
    doing = "waits for room" if model.get("status") == "waiting" else "loads"
    since, requests = duration(model.get("since_s", 0)), model.get("waiting", 0)
    return f"{model.get('model')} {doing} since {since}; {requests} request{'s' if requests != 1 else ''} for it"


def _until(model: Mapping[str, Any]) -> Cell:
    """When it will be unloaded if nobody uses it."""
    if model.get("pinned"):
        return ("pinned", "green")
    left = model.get("expires_s")
    if left is None:
        return "-" if model.get("active") or model.get("status") != "ready" else "never"
    return f"in {duration(max(left, 0))}"


def _pull(pull: Mapping[str, Any]) -> str:
    """How far a pull is, and how many requests wait for it."""
    state = PullState(**{field.name: pull[field.name] for field in fields(PullState) if field.name in pull})
    requests = pull.get("requests")
    waiting = f"; {requests} request{'s wait' if requests != 1 else ' waits'} for it" if requests else ""
    return f"pulling {line(state)}{waiting}"


def _row(model: Mapping[str, Any]) -> list[Cell]:
    memory, since = model.get("memory_bytes"), model.get("since_s")
    return [
        (str(model.get("model", "-")), "cyan"),
        str(model.get("status", "-")),
        str(model.get("plugin") or model.get("runtime") or "-"),
        str(model.get("device") or "-"),
        f"{model['context']} x {model.get('parallel') or '-'}" if model.get("context") else "-",
        str(model.get("active", "-")),
        size(memory) if memory else "-",
        str(model.get("pid") or "-"),
        duration(since) if since is not None else "-",
        _until(model),
    ]
