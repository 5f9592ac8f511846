"""`anyform estimate MODEL`: how much memory a model takes, here or still on a hub, and whether it fits."""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from anyform.cli import document
from anyform.cli.arguments import add_inspection
from anyform.cli.chosen import PAINTING
from anyform.cli.opening import opened_for
from anyform.cli.suiting import states_context
from anyform.cli.table import Cell, pairs, table, wrapped
from anyform.cli.terminal import Terminal, output
from anyform.contract.facts import Severity
from anyform.kernel.units import size

if TYPE_CHECKING:
    from anyform.contract.facts import Metadata
    from anyform.kernel.entry import Entry
    from anyform.kernel.router import Decision, Memory, Verdict

HEAD = ("CONTEXT", "WEIGHTS", "KV CACHE", "OVERHEAD", "TOTAL", "FITS")
FITS: dict[bool | None, Cell] = {True: ("yes", "green"), False: ("no", "red"), None: ("unknown", "yellow")}


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    add_inspection(parser, contexts=True)


def execute(args: Namespace) -> int:
    """Print what each context takes; 1 if the model runs here with none of them."""
    with opened_for(args, absent="look") as (runtime, name):
        entry = runtime.find(name)
        metadata, decision = runtime.metadata(entry), runtime.explain(entry)
        verdicts = runtime.estimate(entry, args.contexts)
        sound = all(finding.severity is not Severity.CRITICAL for finding in runtime.findings(entry))
    if args.json:
        document.show(_document(entry, metadata, decision, verdicts))
    else:
        _print(output(), entry, metadata, decision, verdicts, sound)
    return 0 if any(verdict.points is not None for verdict in verdicts) else 1


def _document(entry: Entry, metadata: Metadata, decision: Decision, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    return {
        "name": entry.name,
        "here": entry.here,
        "format": entry.match.format,
        "quantization": metadata.quantization,
        "size_bytes": entry.size_bytes,
        "trained_context": metadata.context,
        "context": decision.context,
        "context_why": decision.context_why,
        "estimates": [
            {
                "plugin": verdict.plugin,
                "backend": verdict.backend,
                "runs": verdict.points is not None,
                "refusal": verdict.refusal,
                "memory": verdict.memory,
            }
            for verdict in verdicts
        ],
    }


def _print(
    terminal: Terminal,
    entry: Entry,
    metadata: Metadata,
    decision: Decision,
    verdicts: Sequence[Verdict],
    sound: bool,
) -> None:
    """*sound*: whether its files are whole; whether a broken model fits says nothing."""
    told = [verdict.memory for verdict in verdicts if verdict.memory]
    terminal.line(terminal.paint(entry.name, "cyan"))
    pairs(terminal, [(name, value) for name, value in _facts(entry, metadata, decision, verdicts, told) if value])
    if told:
        terminal.line()
        _table(terminal, told, sound)
        sure = f"estimated ({told[0].confidence:.0%} sure)"
        for line in wrapped(f"{sure}: {told[0].why}", terminal.width) if told[0].why else ():
            terminal.line(terminal.paint(line, "dim"))
        over = [str(memory.context) for memory in told if (memory.context or 0) > (metadata.context or math.inf)]
        if over:
            known = (
                "that the model was trained for"
                if states_context(metadata)
                else "that are assumed: the file does not say"
            )
            note = f"note: {', '.join(over)}: over the {metadata.context} {known}"
            terminal.line(terminal.paint(note, "yellow"))
    for memory in told:
        _advise(terminal, memory)


def _advise(terminal: Terminal, memory: Memory) -> None:
    """What would make that context fit, where it does not."""
    if memory.advice:
        terminal.line()
        terminal.line(terminal.paint(f"what makes {memory.context or 'it'} fit", "bold"))
    for one in memory.advice:
        first, *more = wrapped(str(one), terminal.width, 4)
        terminal.line(f"  {first}")
        for line in more:
            terminal.line(f"    {line}")


def _facts(
    entry: Entry, metadata: Metadata, decision: Decision, verdicts: Sequence[Verdict], told: Sequence[Memory]
) -> list[tuple[str, Cell]]:
    where = next((memory for memory in told if memory.device), None)
    free = f"{size(where.room_bytes)} on {where.device}" if where and where.room_bytes else "unknown"
    known = "trained for {} tokens" if states_context(metadata) else "{} tokens are assumed: the file does not say"
    trained = f", {known.format(metadata.context)}" if metadata.context else ""
    paints = bool(set(PAINTING) & set(metadata.tasks))
    return [
        ("not here yet", "" if entry.here else f"{entry.places[0].path}: `anyform pull {entry.name}` fetches it"),
        ("model", f"{entry.match.format} {metadata.quantization}".rstrip() + f", {size(entry.size_bytes)}{trained}"),
        ("runs on", _engine(verdicts)),
        ("loads with", f"{decision.context} tokens ({decision.context_why})" if decision.context else ""),
        ("at once", _at_once(told[0]) if told and not paints else ""),
        ("free", free if told else ""),
    ]


def _engine(verdicts: Sequence[Verdict]) -> Cell:
    """What would run it; else why nothing does, of the smallest context."""
    runs = next((verdict for verdict in verdicts if verdict.points is not None), None)
    if runs is not None:
        return f"{runs.backend} (plugin {runs.plugin})"
    return (f"nothing here: {verdicts[0].plugin}: {verdicts[0].refusal}" if verdicts else "no backend", "red")


def _at_once(memory: Memory) -> str:
    if memory.parallel <= 1:
        return "1 request"
    return f"{memory.parallel} requests" + (", each with the whole context" if memory.context else "")


def _table(terminal: Terminal, told: Sequence[Memory], sound: bool) -> None:
    """A row a context; of a model without one, what does not apply is left out."""
    rows = [_row(memory, sound) for memory in told]
    applies = {
        "CONTEXT": any(memory.context for memory in told),
        "KV CACHE": any(memory.context or memory.cache_bytes for memory in told),
    }
    kept = [number for number, name in enumerate(HEAD) if applies.get(name, True)]
    table(terminal, [HEAD[number] for number in kept], [[row[number] for number in kept] for row in rows])


def _row(memory: Memory, sound: bool) -> list[Cell]:
    return [
        str(memory.context or "-"),
        size(memory.weights_bytes),
        size(memory.cache_bytes),
        size(memory.overhead_bytes),
        size(memory.total_bytes),
        FITS[memory.fits] if sound else "-",
    ]
