"""`anyform list`: the models that are known."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any

from anyform.cli import document
from anyform.cli.arguments import add_json, add_library, read_config
from anyform.cli.background import waited
from anyform.cli.opening import opened
from anyform.cli.table import Cell, amount, table
from anyform.cli.terminal import errors, output
from anyform.contract.facts import Severity
from anyform.kernel.units import size

if TYPE_CHECKING:
    from anyform.kernel.runtime import Description, Runtime

HEAD = ("NAME", "FORMAT", "QUANTIZATION", "SIZE", "PARAMETERS", "CONTEXT", "TASKS", "SOURCE", "RUNS ON")
STEP = 20
"""How many models are read between two signs of progress."""
NOTICED_S = 0.5


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    add_json(parser)
    add_library(parser)


def execute(args: Namespace) -> int:
    """Print one row a model."""
    with opened(read_config(args)) as runtime:
        known = list(_described(runtime))
        troubles = _troubles(runtime)
    if args.json:
        document.show([_document(one) for one in known])
    elif known:
        table(output(), HEAD, [_row(one) for one in known])
    else:
        errors().line(
            "no models. Get one with `anyform pull owner/repo`, or name a folder of models with --models DIR, or in"
            " anyform.toml: [models] folders = [...]"
        )
    for trouble in troubles:
        errors().line(errors().paint(trouble, "yellow"))
    return 0


def _described(runtime: Runtime) -> Iterator[Description]:
    """Every model; on a terminal with progress, once it takes long enough to be noticed."""
    terminal, began = errors(), monotonic()
    try:
        entries = waited(runtime.library.entries, lambda s: terminal.status(f"looking for models … {s:.0f} s"))
        for number, one in enumerate(runtime.describe(entries), start=1):
            if number % STEP == 0 and monotonic() - began > NOTICED_S:
                terminal.status(f"reading {number} of {len(entries)} models …")
            yield one
    finally:
        terminal.status("")


def _troubles(runtime: Runtime) -> list[str]:
    """Why models may be missing from the list."""
    broken = [f"plugin {record.name} is broken: {record.reason}" for record in runtime.plugins.records if record.reason]
    return [*runtime.library.shelf.troubles, *(fault.message for fault in runtime.plugins.failures), *broken]


def _row(one: Description) -> list[Cell]:
    entry, metadata = one.entry, one.metadata
    return [
        (entry.name, "cyan" if one.plugin else "red" if _is_broken(one) else ""),
        " ".join(dict.fromkeys([entry.match.format, *(match.format for _, match in entry.others)])),
        (metadata and metadata.quantization) or "-",
        size(entry.size_bytes),
        amount(metadata.parameters if metadata else None),
        str((metadata and metadata.context) or "-"),
        " ".join(metadata.tasks if metadata else ()) or "-",
        _sources(one) or "-",
        (one.plugin, "green") if one.plugin else (_why_not(one), "red" if _is_broken(one) else "yellow"),
    ]


def _sources(one: Description) -> str:
    """The stores that have it, the one that is used first."""
    return " ".join(dict.fromkeys(spot.source or "given" for spot in one.entry.places))


def _is_broken(one: Description) -> bool:
    return one.metadata is None or any(finding.severity is Severity.CRITICAL for finding in one.findings)


def _why_not(one: Description) -> str:
    """Why nothing runs it, and what would."""
    critical = [finding for finding in one.findings if finding.severity is Severity.CRITICAL]
    if critical:
        return f"broken: {critical[0].text}"
    if one.metadata is None:
        return f"unreadable: see anyform show {one.entry.name}"
    if one.fault is None:
        return ""
    found = {finding.text for finding in one.findings}
    tells = one.fault.code == "engine_missing" or one.fault.hint in found
    return _without_names(one.fault.hint if tells else one.fault.message, one.entry.name).removesuffix(".")


def _without_names(said: str, name: str) -> str:
    """*said* without the model's name, which stands in its row, and the backend's."""
    reason = said.removeprefix(f"{name} cannot run on ")
    return reason.partition(": ")[2] or said if reason != said else said


def _document(one: Description) -> dict[str, Any]:
    entry = one.entry
    said: dict[str, Any] = {"metadata": one.metadata, "findings": one.findings} if one.metadata else {}
    if one.fault:
        said["fault"] = one.fault.as_dict()
    return {
        "name": entry.name,
        "aliases": entry.aliases,
        "format": entry.match.format,
        "plugin": entry.plugin,
        "path": entry.path,
        "files": entry.match.files,
        "size_bytes": entry.size_bytes,
        "source": entry.source,
        "places": entry.places,
        "runs_on": one.plugin or None,
        "broken": _is_broken(one),
        **said,
    }
