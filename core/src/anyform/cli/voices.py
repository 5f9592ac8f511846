"""`anyform voices`: who can speak, as the models say; none is loaded."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from anyform.cli import document
from anyform.cli.arguments import add_json, add_library, add_offline, read_config
from anyform.cli.chosen import none
from anyform.cli.opening import opened, opened_for
from anyform.cli.parser import misused
from anyform.cli.table import Cell, table
from anyform.cli.terminal import output
from anyform.contract.errors import Unsupported
from anyform.contract.jobs import Speak

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anyform.contract.facts import Metadata

HEAD = ("VOICE", "NAME", "LANGUAGE", "MODEL")


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    text = "a file, a folder, or a name; without it all that speak"
    parser.add_argument("named", nargs="?", default="", metavar="MODEL", help=text)
    parser.add_argument("--model", default="", metavar="MODEL", help="the same")
    parser.add_argument("--language", default="", metavar="L", help="those of a language alone, such as en or en-GB")
    add_json(parser)
    add_offline(parser)
    add_library(parser)


def execute(args: Namespace) -> int:
    """Print one row a voice."""
    if args.named and args.model:
        misused(f"two models were named: {args.named} and {args.model}.", "Name one.", args.json)
    args.model = args.model or args.named
    with _speaking(args) as models:
        found = [{"model": name, **voice} for name, known in models for voice in _voices(known, args.language)]
        there = sorted(
            {str(voice["language"]) for _, known in models for voice in _voices(known, "") if voice.get("language")}
        )
    if args.json:
        document.show(found)
    elif not found:
        known = f"there are {', '.join(there)}" if there else "nothing is known of their languages"
        output().line(f"no voice speaks {args.language}; {known}" if args.language else "no voice is known")
    else:
        table(output(), HEAD, [_row(voice) for voice in found])
    return 0


@contextmanager
def _speaking(args: Namespace) -> Iterator[Sequence[tuple[str, Metadata]]]:
    """The models that are asked about. Raises Unsupported for one that does not speak, ModelNotFound for none."""
    if args.model:
        with opened_for(args, absent="look") as (runtime, name):
            known = runtime.metadata(runtime.find(name))
            if Speak.task not in known.tasks:
                does = ", ".join(known.tasks) or "nothing that is known"
                raise Unsupported(f"{name} does {does}, not {Speak.task}.", "`anyform list` shows what speaks.")
            yield [(name, known)]
        return
    with opened(read_config(args)) as runtime:
        described = runtime.describe(runtime.library.entries())
        models = [(one.entry.name, one.metadata) for one in described if one.metadata]
        speaking = [(name, known) for name, known in models if Speak.task in known.tasks]
        if not speaking:
            raise none(Speak.task)
        yield speaking


def _voices(known: Metadata, language: str) -> list[Mapping[str, Any]]:
    """What the model says of its voices: those of *language*, or all."""
    voices: Sequence[Mapping[str, Any]] = known.extra.get("voices", ())
    wanted = language.lower()
    return [voice for voice in voices if not wanted or f"{voice.get('language', '')}-".lower().startswith(f"{wanted}-")]


def _row(voice: Mapping[str, Any]) -> list[Cell]:
    return [
        (str(voice.get("id", "")), "cyan"),
        str(voice.get("name") or "-"),
        str(voice.get("language") or "-"),
        voice["model"],
    ]
