"""`anyform plugins`: what is installed, what is broken, and what would install a missing engine."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from anyform.cli import document
from anyform.cli.arguments import add_config, add_json, read_config
from anyform.cli.opening import opened
from anyform.cli.table import Cell, pairs, table
from anyform.cli.terminal import Terminal, output

if TYPE_CHECKING:
    from anyform.kernel.choice import EngineState
    from anyform.kernel.plugins import PluginRecord

HEAD = ("PLUGIN", "VERSION", "STATE", "READS", "HOOKS")


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    add_json(parser)
    add_config(parser)


def execute(args: Namespace) -> int:
    """Print one row a plugin, then the trouble; 1 if one is broken."""
    from dataclasses import replace

    from anyform.config import Models

    with opened(replace(read_config(args), models=Models(), prefer=(), forbid=())) as runtime:
        records, engines = runtime.plugins.records, runtime.capabilities(probe=False)
        failures = [str(fault) for fault in runtime.plugins.failures]
    if args.json:
        document.show([_document(record, engines) for record in records])
    else:
        _print(output(), records, engines, failures)
    return 0 if all(record.sound for record in records) else 1


def _document(record: PluginRecord, engines: list[EngineState]) -> dict[str, Any]:
    return {**document.plain(record), "backends": [engine for engine in engines if engine.plugin == record.name]}


def _print(terminal: Terminal, records: list[PluginRecord], engines: list[EngineState], failures: list[str]) -> None:
    table(terminal, HEAD, [_row(record, engines) for record in records])
    trouble: list[tuple[str, Cell]] = [(record.name, (record.reason, "red")) for record in records if not record.sound]
    for engine in engines:
        if engine.missing:
            trouble.append(
                (engine.plugin, (f"{', '.join(engine.missing)} is not installed: {engine.backend.install}", "yellow"))
            )
    trouble += [("failed", (failure, "red")) for failure in failures]
    if trouble:
        terminal.line()
        pairs(terminal, trouble)


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
    return ("no engine", "yellow") if any(engine.missing for engine in engines) else ("sound", "green")
