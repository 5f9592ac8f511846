"""`anyform pull MODEL`: fetch a model from the hub into anyform's own folder."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from anyform.cli import document, pulling
from anyform.cli.arguments import add_config, add_json, add_offline, read_config
from anyform.cli.opening import discovered
from anyform.cli.table import duration
from anyform.cli.terminal import errors, output
from anyform.contract.facts import Severity
from anyform.kernel.units import size

if TYPE_CHECKING:
    from anyform.sources.hubpull import Pulled

STYLES = {Severity.INFO: "dim", Severity.WARNING: "yellow", Severity.CRITICAL: "red"}


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "model", metavar="MODEL", help="owner/repo for the preferred variant, owner/repo:Q8_0, owner/repo@REVISION"
    )
    parser.add_argument(
        "--include", action="append", default=[], metavar="PATTERN", help="fetch the files that fit, such as '*.json'"
    )
    parser.add_argument("--file", action="append", default=[], metavar="NAME", help="fetch this file")
    add_offline(parser)
    add_json(parser)
    add_config(parser)


def execute(args: Namespace) -> int:
    """Fetch, and say what came; 1 if the model is not sound at its origin already."""
    from anyform.sources.hubname import require
    from anyform.sources.hubpull import Wish

    config = read_config(args)
    wish = Wish(reference=require(args.model), include=tuple(args.include), names=tuple(args.file))
    pulled = pulling.fetched(pulling.hub_of(config), discovered(config), config, wish)
    if args.json:
        document.show(pulled)
    else:
        _print(pulled)
    return 1 if any(finding.severity is Severity.CRITICAL for finding in pulled.findings) else 0


def _print(pulled: Pulled) -> None:
    terminal = output()
    count = f"{len(pulled.files)} file{'s' if len(pulled.files) != 1 else ''}, {size(pulled.size_bytes)}"
    terminal.line(f"{terminal.paint(pulled.name, 'cyan')}: {count}, verified ({_came(pulled)})")
    terminal.line(f"in {pulled.folder}")
    for finding in pulled.findings:
        errors().line(errors().paint(f"{finding.severity.name.lower()}: {finding.text}", STYLES[finding.severity]))


def _came(pulled: Pulled) -> str:
    copied = f"{size(pulled.copied_bytes)} copied from the Hugging Face cache" if pulled.copied_bytes else ""
    fetched = f"{size(pulled.fetched_bytes)} fetched" if pulled.fetched_bytes else ""
    parts = [part for part in (copied, fetched) if part]
    return f"{', '.join(parts)} in {duration(pulled.seconds)}" if parts else "all here"
