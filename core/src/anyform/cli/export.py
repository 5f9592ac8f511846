"""`anyform export MODEL --to FORM`: write a model in another form, by a plugin's exporter and in its environment."""

from __future__ import annotations

import re
import shutil
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from time import monotonic
from typing import TYPE_CHECKING

from anyform.cli import document, exporter
from anyform.cli.arguments import add_json, add_library, add_model, add_offline, read_config
from anyform.cli.exporter import Environment, Exporter
from anyform.cli.opening import opened, opened_for
from anyform.cli.table import duration
from anyform.cli.terminal import Terminal, errors, output
from anyform.contract.errors import Fault, Invalid, Unsupported
from anyform.contract.facts import Severity
from anyform.kernel.units import size

if TYPE_CHECKING:
    from anyform.contract.facts import Finding, Metadata
    from anyform.kernel.entry import Entry

DESCRIPTION = """\
Write MODEL in another form, with all its files, into a folder of its own. What does it (torch and others) is not part
of anyform: it runs in an environment that is made on first use, or in the one of --python."""
STYLES = {Severity.INFO: "dim", Severity.WARNING: "yellow", Severity.CRITICAL: "red"}
MARKS = ("config.json", "genai_config.json")
"""Without one of them a folder is no earlier export, and is not replaced."""
SPARE = 1.2
"""Of a result's size, what has to be free."""


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = DESCRIPTION
    add_model(parser)
    parser.add_argument("--to", required=True, metavar="FORM", help="the form, such as onnx")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="where to (default: a folder here, named after the model)"
    )
    parser.add_argument("--precision", metavar="P", help="fp32, fp16, bf16, int8 or int4, where that is known")
    parser.add_argument("--device", metavar="D", help="what it is made for: cpu, cuda or dml (default: cpu)")
    parser.add_argument("--overwrite", action="store_true", help="replace the output folder")
    group = parser.add_argument_group("environment")
    group.add_argument("--python", type=Path, metavar="PATH", help="a Python that has the packages, to use instead")
    group.add_argument("--constraint", type=Path, metavar="FILE", help="pip's constraints for the packages")
    group.add_argument("--renew", action="store_true", help="make the environment anew, with newer packages")
    add_offline(parser)
    add_json(parser)
    add_library(parser)


def execute(args: Namespace) -> int:
    """Export, look at the result as at any model, and say how to run it; 1 if it is not sound."""
    maker = exporter.found(args.to)
    precision = _one_of("--precision", args.precision, maker.PRECISIONS)
    device = _one_of("--device", args.device, maker.DEVICES)
    terminal = errors()
    with opened_for(args, absent="pull") as (runtime, name):
        entry = _readable(runtime.find(name), maker, args.to)
        metadata = runtime.metadata(entry)
    target = _target(args, entry, precision)
    part = target.with_name(f"{target.name}.part")
    command = maker.command(Path(entry.path).absolute(), part, metadata, precision, device)
    _check_room(target, round(maker.size(metadata, precision) * SPARE))
    python = _python(args, maker, terminal)
    _clear(part)
    part.mkdir(parents=True)
    try:
        told = _Told(terminal, f"exporting {entry.name} to {args.to}")
        exporter.run([str(python), *command], told, f"{entry.name} could not be exported to {args.to}")
        told.done()
        _clear(target)
        part.rename(target)
    finally:
        _clear(part)
        terminal.status("")
    return _shown(args, target)


def _one_of(option: str, asked: str | None, known: Sequence[str]) -> str:
    if asked is not None and asked not in known:
        raise Invalid(f"{option} is {asked!r}.", f"It can be {', '.join(known)}.")
    return asked or known[0]


def _readable(entry: Entry, maker: Exporter, form: str) -> Entry:
    """*entry* in a form that *maker* reads. Raises Unsupported."""
    forms = [(entry.plugin, entry.match), *entry.others]
    for plugin, match in forms:
        if match.format in maker.READS:
            return replace(entry, plugin=plugin, match=match)
    has = ", ".join(match.format for _, match in forms)
    raise Unsupported(
        f"{entry.name} is {has}, and what exports to {form} reads {', '.join(maker.READS)}.",
        maker.INSTEAD,
        model=entry.name,
    )


def _target(args: Namespace, entry: Entry, precision: str) -> Path:
    """The folder to write, which is not there, or empty, or may be replaced. Raises Invalid."""
    plain = re.sub(r"[^\w.-]+", "-", entry.name).strip("-.") or "model"
    target: Path = (args.output or Path(f"{plain}-{args.to}-{precision}")).expanduser().absolute()
    if target in (source := Path(entry.path).absolute()).parents or target == source:
        raise Invalid(f"{target} is where the model itself lies.", "Name another folder with -o.")
    taken = target.exists() and (not target.is_dir() or any(target.iterdir()))
    if taken and not (args.overwrite and any((target / name).is_file() for name in MARKS)):
        hint = "Name another folder with -o" + (", or add --overwrite to replace it" if not args.overwrite else "")
        raise Invalid(f"{target} is there already{', and is no model' * args.overwrite}.", f"{hint}.")
    return target


def _check_room(target: Path, needed: int) -> None:
    """Raise DiskFull if there is no room for so many bytes."""
    from anyform.sources.hubfault import DiskFull

    there = next(folder for folder in target.parents if folder.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise DiskFull(
            f"the export takes about {size(needed)}, and {there} has {size(free)} free.",
            "Make room, name another disk with -o, or take a smaller --precision.",
            needed_bytes=needed,
            free_bytes=free,
        )


def _python(args: Namespace, maker: Exporter, terminal: Terminal) -> Path:
    """The interpreter that has what *maker* runs. Raises Invalid, ExportFailed."""
    if args.constraint and not args.constraint.is_file():
        raise Invalid(f"there is no file {args.constraint}.", "--constraint names a file that pip reads.")
    if args.python:
        found = shutil.which(args.python)
        if not found:
            raise Invalid(f"{args.python} is no program.", "--python names a Python, such as venv/bin/python.")
        return Path(found).absolute()
    there = Environment(args.to)
    if args.renew or not there.has(maker.PACKAGES, args.constraint):
        if read_config(args).offline:
            raise Invalid(f"the environment for exports to {args.to} has to be fetched.", "Leave --offline out, once.")
        terminal.line(
            f"making an environment in {there.folder}: pip fetches {', '.join(maker.PACKAGES)}, which on Linux may be "
            "several GB; docs/use.md says how to take less"
        )
        told = _Told(terminal, "fetching")
        there.make(maker.PACKAGES, args.constraint, told)
        told.done()
    return there.python


def _clear(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)


def _shown(args: Namespace, target: Path) -> int:
    """Tell what came, and whether it is sound."""
    config = read_config(args)
    alone = replace(config, models=replace(config.models, paths=(target,), folders=(), sources=()))
    with opened(alone) as runtime:
        entries = [(entry, runtime.metadata(entry), runtime.findings(entry)) for entry in runtime.library.entries()]
    if not entries:
        raise Fault(f"what was exported to {target} is no model that anyform knows.", "This is a bug in the exporter.")
    if args.json:
        names = ("name", "match", "metadata", "findings")
        told = [dict(zip(names, (one.name, one.match, *more), strict=True)) for one, *more in entries]
        document.show({"path": str(target), "models": told})
    else:
        _print(target, entries)
    sound = all(finding.severity is not Severity.CRITICAL for _, _, all_ in entries for finding in all_)
    return 0 if sound else 1


def _print(target: Path, entries: Sequence[tuple[Entry, Metadata, Sequence[Finding]]]) -> None:
    terminal = output()
    for entry, metadata, findings in entries:
        held = f"{entry.match.format}, {size(entry.size_bytes)}, {' '.join(metadata.tasks)}"
        terminal.line(f"{terminal.paint(str(target), 'cyan')}: {held}")
        for finding in findings:
            terminal.line(terminal.paint(f"{finding.severity.name.lower()}: {finding.text}", STYLES[finding.severity]))
    generates = {"chat", "complete"} & {task for _, metadata, _ in entries for task in metadata.tasks}
    terminal.line(f"`anyform {'run' if generates else 'serve'} {quote(str(target))}` loads it")


class _Told:
    """Shows what a program says: its last line on a terminal, that it began elsewhere."""

    def __init__(self, terminal: Terminal, doing: str) -> None:
        self._terminal, self._doing, self._began = terminal, doing, monotonic()
        if not terminal.interactive:
            terminal.line(f"{doing} …")
            terminal.stream.flush()

    def __call__(self, line: str) -> None:
        self._terminal.status(f"{self._doing} ({duration(monotonic() - self._began)}): {line}")

    def done(self) -> None:
        """Say how long it took."""
        self._terminal.status("")
        self._terminal.line(f"{self._doing}: done in {duration(monotonic() - self._began)}")
