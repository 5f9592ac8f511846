"""Finds a command's module, parses its arguments, runs it, and turns every fault into one line and an exit code."""

from __future__ import annotations

import signal
import sys
from argparse import ArgumentParser, Namespace
from importlib import import_module
from typing import Any, NoReturn, Protocol, TextIO, cast

from anyform.cli import is_closed_pipe
from anyform.cli.overview import COMMANDS

FAILED = 1
MISUSED = 2


class Command(Protocol):
    """What a command's module has."""

    def configure(self, parser: ArgumentParser) -> None:
        """Add the command's arguments."""

    def execute(self, args: Namespace) -> int:
        """Do it; the exit code. Faults may be raised."""


class Parser(ArgumentParser):
    """An argument parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        """Complain and exit with 2."""
        complain(f"{message}. See `{self.prog} --help`.")
        raise SystemExit(MISUSED)


def dispatch(arguments: list[str]) -> int:
    """Run the command that the first argument names; the exit code."""
    name, rest = arguments[0], arguments[1:]
    if name in ("-V", "--version", "version"):
        return _version()
    if name == "help":
        return dispatch([*rest[:1], "--help"]) if rest else _overview()
    if name not in COMMANDS:
        return _unknown(name)
    _prepare_streams()
    _end_on_terminate()
    command = cast(Command, import_module(f"anyform.cli.{name}"))
    takes, summary = COMMANDS[name]
    usage = " ".join(f"anyform {name} {takes} [options]".split())
    description = f"{summary[0].upper()}{summary[1:]}."
    parser = Parser(prog=f"anyform {name}", usage=usage, description=description, allow_abbrev=False)
    command.configure(parser)
    try:
        return _execute(command, parser.parse_intermixed_args(rest))
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else FAILED


_ADVICE = "Check the disk, the permissions and where the output goes."


def complain(text: str) -> None:
    """Say *text* on standard error, in one line, red on a terminal."""
    from anyform.cli.terminal import Terminal

    terminal = Terminal(sys.stderr)
    terminal.line(terminal.paint(f"anyform: {' '.join(text.split())}", "red"))


def _execute(command: Command, args: Namespace) -> int:
    from anyform.config import debugging
    from anyform.contract.errors import Fault

    try:
        code = command.execute(args)
        sys.stdout.flush()
        return code
    except Fault as fault:
        if debugging():
            raise
        complain(str(fault))
    except OSError as error:
        if debugging() or is_closed_pipe(error):
            raise
        complain(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}. {_ADVICE}")
    except Exception as bug:
        if debugging():
            raise
        complain(f"{type(bug).__name__}: {bug}. This is a bug in anyform; ANYFORM_DEBUG=1 shows where.")
    return FAILED


def _overview() -> int:
    from anyform.cli.overview import text

    sys.stdout.write(text())
    return 0


def _version() -> int:
    from anyform import __version__

    print(f"anyform {__version__}")
    return 0


def _unknown(name: str) -> int:
    from difflib import get_close_matches

    near = get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
    meant = f"Did you mean `anyform {near[0]}`?" if near else "`anyform --help` lists the commands."
    complain(f"there is no command {name!r}. {meant}")
    return MISUSED


def _prepare_streams() -> None:
    """Let any text through: pipes carry UTF-8 on every platform; a terminal shows what it can."""
    for stream in cast("list[TextIO | Any]", [sys.stdin, sys.stdout, sys.stderr]):
        if stream is None or not hasattr(stream, "reconfigure"):
            continue
        if stream.isatty():
            stream.reconfigure(errors="replace")
        else:
            stream.reconfigure(encoding="utf-8", errors="replace" if stream is not sys.stdin else "surrogateescape")


def _end_on_terminate() -> None:
    """Let SIGTERM end a command as Ctrl-C does, so that models are closed. Only the main thread may say so."""
    import threading

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt
