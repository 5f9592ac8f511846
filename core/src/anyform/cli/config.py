"""`anyform config`: where the settings file is, what is set, and what says so."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from anyform import config
from anyform.cli import document
from anyform.cli.arguments import add_config, add_json
from anyform.cli.table import Cell, pairs, table
from anyform.cli.terminal import Terminal, output
from anyform.config import Config
from anyform.contract.errors import Invalid

HEAD = ("SETTING", "VALUE", "FROM")


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--write", action="store_true", help="write a sample with every setting explained, where there is no file yet"
    )
    add_json(parser)
    add_config(parser)


def execute(args: Namespace) -> int:
    """Write the sample, or print what is set."""
    from anyform.configfile import origins

    if args.write:
        return _write(args.config or config.own_file(), args.json)
    found = config.load(args.config)
    places = [(args.config, "read")] if args.config else config.places()
    settings = [
        {"name": origin.name, "value": _value(found, origin.name, origin.value), "from": origin.source}
        for origin in origins(found)
    ]
    if args.json:
        told = [{"path": path.absolute(), "state": state} for path, state in places]
        document.show({"file": found.file and found.file.absolute(), "places": told, "settings": settings})
    else:
        _print(output(), found, places, settings)
    return 0


def _write(path: Path, as_json: bool) -> int:
    text = config.SAMPLE.read_text(encoding="utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise Invalid(f"{path} is there already.", "Edit it, or write another with --config FILE.") from None
    if as_json:
        document.show({"written": path.absolute()})
    else:
        output().line(f"written: {path.absolute()}")
    return 0


def _print(terminal: Terminal, found: Config, places: list[tuple[Path, str]], settings: list[dict[str, Any]]) -> None:
    pairs(terminal, [(state, str(path.absolute())) for path, state in places])
    if found.file is None:
        terminal.line("No settings file is read. `anyform config --write` makes one, with every setting explained.")
    for name in config.unknown_variables():
        terminal.line(terminal.paint(f"{name} sets nothing: check its spelling.", "yellow"))
    terminal.line()
    table(terminal, HEAD, [_row(one) for one in settings])


def _row(setting: dict[str, Any]) -> tuple[Cell, ...]:
    source = setting["from"]
    return setting["name"], _text(setting["value"]), (source, "" if source == "default" else "cyan")


def _value(found: Config, name: str, value: Any) -> Any:
    """What is used where a setting leaves it to the platform."""
    if value not in (None, ""):
        return document.plain(value)
    left = {
        "state": found.state_folder,
        "models.home": found.stores.home,
        "server.images_folder": found.images_folder,
        "url": found.server_url,
    }
    return document.plain(left.get(name, value))


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
