"""`anyform export MODEL --to FORM`: write a model in another form, by a plugin's exporter and in its environment."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shlex import quote
from time import monotonic
from typing import TYPE_CHECKING

from anyform.cli import document, exporter
from anyform.cli.arguments import add_json, add_library, add_model, add_offline, read_config
from anyform.cli.exporter import Environment, Exporter, ExportFailed
from anyform.cli.opening import opened, opened_for
from anyform.cli.table import duration
from anyform.cli.terminal import Terminal, errors, output
from anyform.contract.errors import Fault, Invalid, UnknownFormat, Unsupported
from anyform.contract.facts import Severity
from anyform.kernel.units import size

if TYPE_CHECKING:
    from anyform.contract.facts import Finding, Metadata
    from anyform.kernel.entry import Entry

DESCRIPTION = """\
Write MODEL in another form, with all its files, into a folder of its own. What does it (torch and others) is not part
of anyform: it runs in an environment that is made on first use, or in the one of --python."""
STYLES = {Severity.INFO: "dim", Severity.WARNING: "yellow", Severity.CRITICAL: "red"}
MARK = "anyform-exported.json"
"""In a result: the names of all its files. A folder is replaced where it has no others."""
KEPT = "kept"
"""What a result is called, beside its place, that cannot be moved there."""
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
    with _reading(maker, args.to), opened_for(args, absent="pull") as (runtime, name):
        entry = _readable(runtime.find(name), maker, args.to)
        metadata = runtime.metadata(entry)
        _check_sound(entry, runtime.findings(entry))
    target = _target(args, entry, precision)
    maker.command(Path(entry.path).absolute(), target, metadata, precision, device)  # refuses before anything is made
    _check_room(target, round(maker.size(metadata, precision) * SPARE))
    with _python(args, maker, terminal) as python, _scratch(target) as scratch:
        part = scratch / "made"
        part.mkdir()
        command = maker.command(Path(entry.path).absolute(), part, metadata, precision, device)
        told = _Told(terminal, f"exporting {entry.name} to {args.to}")
        try:
            exporter.run([str(python), *command], told, f"{entry.name} could not be exported to {args.to}")
        finally:
            terminal.status("")
        told.done()
        _place(part, target, entry, args.overwrite)
    return _shown(args, target)


def _one_of(option: str, asked: str | None, known: Sequence[str]) -> str:
    if asked is not None and asked not in known:
        raise Invalid(f"{option} is {asked!r}.", f"It can be {', '.join(known)}.")
    return asked or known[0]


@contextmanager
def _reading(maker: Exporter, form: str) -> Iterator[None]:
    """Where no plugin knows the files: say that one has to, besides the one that exports them."""
    try:
        yield
    except UnknownFormat as fault:
        known = " or ".join(maker.READS)
        hint = f"An export to {form} begins with {known}, and a plugin that reads that has to be installed, too."
        raise UnknownFormat(fault.message, f"{hint} {fault.hint}") from fault


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


def _check_sound(entry: Entry, findings: Sequence[Finding]) -> None:
    """Raise ExportFailed for what validation finds broken."""
    critical = [finding.text for finding in findings if finding.severity is Severity.CRITICAL]
    if critical:
        hint = f"`anyform validate {quote(entry.name)}` says all that is wrong with it."
        raise ExportFailed(f"{entry.name} is not exported: {critical[0]}", hint)


def _target(args: Namespace, entry: Entry, precision: str) -> Path:
    """The folder to write, without links, which is not there, or empty, or may be replaced. Raises Invalid."""
    plain = re.sub(r"[^\w.-]+", "-", entry.name).strip("-.") or "model"
    asked: Path = (args.output or Path(f"{plain}-{args.to}-{precision}")).expanduser()
    if asked.is_symlink():
        raise Invalid(f"{asked} is a link, to {asked.readlink()}.", "Name a folder itself with -o.")
    target = asked.resolve()
    _check_free(target, entry, args.overwrite)
    return target


def _check_free(target: Path, entry: Entry, overwrite: bool) -> None:
    """Raise Invalid if *target* may not be written: it holds what no export of ours wrote, or the model."""
    source = Path(entry.path).resolve()
    if source.is_relative_to(target):
        raise Invalid(f"{target} is where the model itself lies.", "Name another folder with -o.")
    if not target.exists():
        return
    if not target.is_dir():
        raise Invalid(f"{target} is there already, and no folder.", "Name another folder with -o.")
    there = _names(target)
    if there and not overwrite:
        hint = "Name another folder with -o, or add --overwrite to replace what an export wrote there."
        raise Invalid(f"{target} is there already.", hint)
    foreign = sorted(there - _written(target))
    if foreign or target.is_relative_to(source):
        kept = f"{', '.join(foreign[:3])}{' and more' * (len(foreign) > 3)}" if foreign else "part of the model itself"
        hint = "Name another folder with -o, or delete it yourself if nothing in it is needed."
        raise Invalid(f"{target} holds what no export wrote: {kept}.", hint)


def _names(folder: Path) -> set[str]:
    """All files in a folder, and links, by their names from there."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path.relative_to(folder).as_posix() for path in found}


def _written(folder: Path) -> set[str]:
    """The files that an export wrote into *folder*, as it said itself; empty where none did."""
    try:
        said = json.loads((folder / MARK).read_text(encoding="utf-8"))
        return {MARK, *map(str, said["files"])}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return set()


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """A new folder beside *target*, which is gone after the block, unless a result is kept in it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f"{target.name}.part-", dir=target.parent))
    try:
        yield scratch
    finally:
        if not (scratch / KEPT).exists():
            shutil.rmtree(scratch)


def _place(part: Path, target: Path, entry: Entry, overwrite: bool) -> None:
    """Move what was exported to *target*, which is looked at once more. Raises ExportFailed; then it is kept."""
    (part / MARK).write_text(json.dumps({"from": entry.name, "files": sorted(_names(part))}), encoding="utf-8")
    old = part.with_name("old")
    try:
        _check_free(target, entry, overwrite)
        if target.exists():
            target.rename(old)
        try:
            part.rename(target)
        except BaseException:
            if old.exists():
                old.rename(target)
            raise
    except (OSError, Invalid) as error:
        kept = part.rename(part.with_name(KEPT))
        raise ExportFailed(
            f"the export is made, and cannot be moved to {target}: {error}", f"It is in {kept}."
        ) from error


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


@contextmanager
def _python(args: Namespace, maker: Exporter, terminal: Terminal) -> Iterator[Path]:
    """The interpreter that has what *maker* runs, and keeps it for the block. Raises Invalid, ExportFailed."""
    if args.constraint and not args.constraint.is_file():
        raise Invalid(f"there is no file {args.constraint}.", "--constraint names a file that pip reads.")
    if args.python:
        found = shutil.which(args.python)
        if not found:
            raise Invalid(f"{args.python} is no program.", "--python names a Python, such as venv/bin/python.")
        yield Path(found).absolute()
        return
    there = Environment(args.to)
    told = None
    if args.renew or not there.has(maker.PACKAGES, args.constraint):
        if read_config(args).offline:
            raise Invalid(f"the environment for exports to {args.to} has to be fetched.", "Leave --offline out, once.")
        terminal.line(
            f"making an environment in {there.folder}: pip fetches {', '.join(maker.PACKAGES)}, which on Linux may be "
            "several GB; docs/use.md says how to take less"
        )
        told = _Told(terminal, "fetching")
    with there.used(maker.PACKAGES, args.constraint, told or terminal.status, args.renew) as python:
        terminal.status("")
        if told:
            told.done()
        yield python


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
