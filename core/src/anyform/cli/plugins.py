"""`anyform plugins`: what is installed, what is broken, and what would install a missing engine."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from anyform.cli import document
from anyform.cli.arguments import add_json, add_server, read_config
from anyform.cli.client import Client, ServerAbsent
from anyform.cli.opening import opened
from anyform.cli.table import Cell, pairs, table
from anyform.cli.terminal import Terminal, errors, output
from anyform.cli.unread import tables

if TYPE_CHECKING:
    from anyform.kernel.choice import EngineState
    from anyform.kernel.plugins import PluginRecord

HEAD = ("PLUGIN", "VERSION", "STATE", "READS", "HOOKS")
CHANGES = ("added", "removed", "changed")


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    add_json(parser)
    add_server(parser)
    parser.add_argument(
        "--refresh", action="store_true", help="have the running server find what was installed or removed meanwhile"
    )


def execute(args: Namespace) -> int:
    """Print one row a plugin, then the trouble; 1 if one is broken."""
    if args.refresh:
        _refresh(args)
    from dataclasses import replace

    from anyform.config import Models

    with opened(replace(read_config(args), models=Models(), prefer=(), forbid=())) as runtime:
        records, engines = runtime.plugins.records, runtime.capabilities(probe=False)
        failures, unread = [str(fault) for fault in runtime.plugins.failures], tables(runtime.plugins)
    if args.json:
        document.show([_document(record, engines) for record in records])
    else:
        _print(output(), records, engines, failures, unread)
    return 0 if all(record.sound for record in records) else 1


def _refresh(args: Namespace) -> None:
    """Have the server look again, and say what it found. Where none runs, that is said: the next will look anyway.

    Raises ServerAbsent if none runs at an address that was given.
    """
    client = Client.of(args)
    try:
        found = client.refresh_plugins()
    except ServerAbsent:
        if args.url:
            raise
        errors().line(errors().paint(f"no server runs at {client.url}: there is none to tell", "dim"))
        return
    for line in _told(client.url, found):
        errors().line(line)


def _told(url: str, found: Mapping[str, Any]) -> list[str]:
    """What a server's look brought, in lines."""
    broken = {one["name"]: one["reason"] for one in found.get("plugins", ()) if not one["sound"]}
    lines = [f"{url}: {kind} {', '.join(found[kind])}" for kind in CHANGES if found.get(kind)]
    fresh = [name for kind in ("added", "changed") for name in found.get(kind, ()) if name in broken]
    return [*(lines or [f"{url}: the plugins are as they were"]), *(f"{name}: {broken[name]}" for name in fresh)]


def _document(record: PluginRecord, engines: list[EngineState]) -> dict[str, Any]:
    return {**document.plain(record), "backends": [engine for engine in engines if engine.plugin == record.name]}


def _print(
    terminal: Terminal,
    records: list[PluginRecord],
    engines: list[EngineState],
    failures: list[str],
    unread: list[str],
) -> None:
    table(terminal, HEAD, [_row(record, engines) for record in records])
    trouble: list[tuple[str, Cell]] = [(record.name, (record.reason, "red")) for record in records if not record.sound]
    for engine in engines:
        if engine.missing:
            trouble.append((engine.plugin, (f"{lacking(engine)}: {engine.backend.install}", "yellow")))
        elif engine.trouble:
            trouble.append((engine.backend.name, (engine.trouble, "yellow")))
    trouble += [("failed", (failure, "red")) for failure in failures]
    trouble += [("settings", (sentence, "yellow")) for sentence in unread]
    if trouble:
        terminal.line()
        pairs(terminal, trouble)
    if speaking := [record.name for record in records if record.sound and "add_routes" in record.hooks]:
        terminal.line()
        terminal.line(f"over HTTP: {' '.join(speaking)} (`anyform serve --listen PORT=NAME`: at a port of its own)")


def lacking(engine: EngineState) -> str:
    """What a backend needs that is not there, in words."""
    return f"{', '.join(engine.missing)} {'are' if engine.missing[1:] else 'is'} not installed"


def _row(record: PluginRecord, engines: list[EngineState]) -> list[Cell]:
    own = [engine for engine in engines if engine.plugin == record.name]
    reads = dict.fromkeys(name for engine in own for name in (*engine.backend.reads, *engine.backend.converts))
    return [
        (record.name, "cyan"),
        record.version or "-",
        _state(record, own),
        " ".join(reads) or "-",
        " ".join(record.hooks) or "-",
    ]


def _state(record: PluginRecord, engines: list[EngineState]) -> Cell:
    if not record.sound:
        return "broken", "red"
    missing = sum(bool(engine.missing or engine.trouble) for engine in engines)
    if not missing:
        return "sound", "green"
    return ("no engine" if missing == len(engines) else f"{len(engines) - missing} of {len(engines)} engines"), "yellow"
