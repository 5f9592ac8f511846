"""`anyform doctor`: checks this machine, and says for each trouble what to do."""

from __future__ import annotations

import platform
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from anyform import config
from anyform.cli import document, unread
from anyform.cli.arguments import add_json, add_server, read_config
from anyform.cli.client import Client
from anyform.cli.opening import opened
from anyform.cli.plugins import lacking
from anyform.cli.table import wrapped
from anyform.cli.terminal import Terminal, output
from anyform.config import Config
from anyform.contract.errors import Fault
from anyform.contract.facts import fact
from anyform.kernel.units import size

if TYPE_CHECKING:
    from anyform.kernel.choice import EngineState
    from anyform.kernel.runtime import Runtime

MARKS = {"good": ("ok", "green"), "note": ("--", "dim"), "warning": ("??", "yellow"), "broken": ("!!", "red")}
LEAST_PYTHON = (3, 11)


@fact
class Check:
    """One thing that was looked at. state: good, note, warning or broken; do: the remedy."""

    state: str
    about: str
    text: str
    do: str = ""


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    add_json(parser)
    add_server(parser)


def execute(args: Namespace) -> int:
    """Print all checks; 1 if something is broken."""
    checks: list[Check] = []
    terminal = output()
    for check in _checks(args):
        checks.append(check)
        if not args.json:
            _print(terminal, check)
    if args.json:
        document.show(checks)
    return 1 if any(check.state == "broken" for check in checks) else 0


def _print(terminal: Terminal, check: Check) -> None:
    mark, style = MARKS[check.state]
    first, *more = wrapped(f"{check.about}: {check.text}", terminal.width, 4)
    terminal.line(f"{terminal.paint(mark, style)}  {first}")
    for line in (*more, *(wrapped(check.do, terminal.width, 4) if check.do else ())):
        terminal.line(f"    {line}")


def _checks(args: Namespace) -> Iterator[Check]:
    yield _python()
    try:
        settings = read_config(args)
    except Fault as fault:
        yield Check(state="broken", about="settings", text=fault.message, do=fault.hint)
        settings = Config()
    yield from _settings(settings)
    yield _state_folder(settings.state_folder)
    yield from _library(settings)
    yield from _server(args.url or settings.server_url)


def _python() -> Check:
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < LEAST_PYTHON:
        return Check(state="broken", about="python", text=text, do="anyform needs Python 3.11 or later.")
    return Check(state="good", about="python", text=text)


def _settings(settings: Config) -> Iterator[Check]:
    read = (
        f"read from {settings.file}"
        if settings.file
        else f"defaults; no {config.FILE} here or in {config.config_folder()}"
    )
    yield Check(state="good", about="settings", text=read)
    for name in config.unknown_variables():
        yield Check(state="warning", about="settings", text=f"{name} sets nothing.", do="Check its spelling.")


def _state_folder(folder: Path) -> Check:
    import tempfile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            return Check(state="good", about="state", text=f"{folder} can be written")
    except OSError as error:
        text = f"{folder} cannot be written ({error.strerror}); what is learnt is forgotten at the end."
        return Check(state="warning", about="state", text=text, do="Set another with ANYFORM_STATE.")


def _library(settings: Config) -> Iterator[Check]:
    """Everything that needs a runtime. A library that cannot be opened costs only the models' own check."""
    from dataclasses import replace

    from anyform.config import Models

    bare = replace(settings, models=Models(), prefer=(), forbid=())
    with opened(bare) as runtime:
        yield from _plugins(runtime)
        yield from hardware_checks(runtime)
        engines, kinds = runtime.capabilities(), {device.kind for device in runtime.hardware().devices}
        yield from (engine_check(engine, kinds) for engine in engines)
        yield from _wheels(engines)
        yield from _learned(runtime)
    try:
        with opened(settings) as runtime:
            names = runtime.names()
        yield Check(state="good" if names else "note", about="models", text=f"{len(names)} in the configured places")
    except Fault as fault:
        yield Check(state="broken", about="models", text=fault.message, do=fault.hint)


def _plugins(runtime: Runtime) -> Iterator[Check]:
    for record in runtime.plugins.records:
        about = f"plugin {record.name}"
        if record.sound:
            yield Check(
                state="good", about=about, text=f"{record.distribution} {record.version}".strip() or record.module
            )
        else:
            yield Check(state="broken", about=about, text=record.reason)
    for sentence in unread.tables(runtime.plugins):
        yield Check(state="warning", about="settings", text=sentence, do="`anyform plugins` shows what is installed.")


def hardware_checks(runtime: Runtime) -> Iterator[Check]:
    """Each device, what is to be known of it, and what plugins failed in."""
    devices = runtime.hardware().devices
    if not devices:
        yield Check(
            state="broken",
            about="devices",
            text="none was found.",
            do="Reinstall anyform: its machine plugin finds them.",
        )
    for device in devices:
        room = f"{size(device.free_bytes)} of {size(device.total_bytes)} free"
        software = [f"{name} {device.extra[name]}" for name in ("driver", "runtime") if device.extra.get(name)]
        yield Check(state="good", about=f"device {device.id}", text=", ".join([device.name, room, *software]))
        for note in device.extra.get("notes", ()):
            yield Check(state="warning", about=f"device {device.id}", text=f"{note}.")
    for fault in runtime.plugins.failures:
        yield Check(state="broken", about="plugin", text=fault.message, do=fault.hint)


def engine_check(engine: EngineState, kinds: set[str]) -> Check:
    """*kinds*: of the devices that are here. What needs another one is as it should be, whatever else it lacks."""
    about = f"engine {engine.plugin}/{engine.backend.name}"
    versions = ", ".join(f"{name} {version}" for name, version in engine.versions.items())
    if engine.missing:
        return Check(state="note", about=about, text=f"{lacking(engine)}.", do=engine.backend.install)
    if engine.trouble and not engine.backend.engine and not kinds & {*engine.backend.devices}:
        lacks = f"this machine has no {' or '.join(engine.backend.devices)}"
        return Check(state="note", about=about, text=f"{lacks}: {engine.trouble}")
    if engine.trouble:
        return Check(state="broken", about=about, text=engine.trouble, do=engine.backend.install)
    if engine.capabilities is None:
        here = ", ".join(sorted(kinds & {*engine.backend.devices})) or "none of the devices that are here"
        return Check(state="good", about=about, text=versions or f"needs no package, runs on {here}")
    found = engine.capabilities
    text = f"{versions or found.engine_version}, runs on {', '.join(found.devices)}"
    return Check(state="good", about=about, text=text)


def _wheels(engines: Iterable[EngineState]) -> Iterator[Check]:
    from anyform.cli import wheel

    for found in wheel.troubles(name for engine in engines for name in engine.versions):
        yield Check(state="broken", about="wheels", text=found.text, do=found.do)


def _learned(runtime: Runtime) -> Iterator[Check]:
    for key, known in runtime.learned.all():
        if known.get("options"):
            text = f"{key}: loads with {document.text(known['options'])} ({known.get('why') or 'it crashed without'})"
            yield Check(state="note", about="learnt", text=text)


def _server(url: str) -> Iterator[Check]:
    try:
        answer, failed = Client(url).health(), Client(url).status()["failed"]
    except Fault as fault:
        yield Check(state="note", about="server", text=fault.message, do="`anyform serve` starts one.")
        return
    yield Check(state="good", about="server", text=f"{url} is {answer.get('status', 'there')}")
    for name, why in failed.items():
        text = f"{name} crashed three times in a row and is not started again by itself: {why}."
        yield Check(state="broken", about="server", text=text, do=f"`anyform load {name}` tries anew.")
