"""Parses one command's arguments; what is wrong with them is said in sentences, with what to do."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from typing import NoReturn

from anyform.cli.complaint import MISUSED, complain

EXIT = 2

_SENTENCES = (
    (r"the following arguments are required: (.+)", r"\1 is missing."),
    (r"argument (.+?): expected (?:one|at least one) argument", r"\1 needs a value."),
    (r"argument (.+?): ignored explicit argument (.+)", r"\1 takes no value; \2 was given."),
    (r"argument (.+?): (.+)", r"\1: \2."),
)
"""argparse's words, and ours."""


class Parser(ArgumentParser):
    """Arguments of `anyform COMMAND`. Options are never abbreviated."""

    def __init__(self, command: str, takes: str, summary: str) -> None:
        """*takes*: what it takes beside options, such as `MODEL`."""
        self._synopsis = " ".join(f"anyform {command} {takes} [options]".split())
        description = f"{summary[0].upper()}{summary[1:]}."
        super().__init__(prog=f"anyform {command}", usage=self._synopsis, description=description, allow_abbrev=False)
        self._as_json = False

    def read(self, arguments: Sequence[str]) -> Namespace:
        """The arguments, understood. Raises SystemExit(2) once it has complained, SystemExit(0) after --help."""
        self._as_json = "--json" in arguments
        args, unknown = self.parse_known_intermixed_args(arguments)
        for word in unknown:
            self._refuse(word)
        return args

    def error(self, message: str) -> NoReturn:
        """Complain and exit with 2."""
        self._end(sentence(message), f"Usage: `{self._synopsis}`; see `{self.prog} --help`.")

    def _refuse(self, word: str) -> NoReturn:
        if not word.startswith("-"):
            self._end(f"{word!r} is one argument too many.", f"Usage: `{self._synopsis}`; see `{self.prog} --help`.")
        name = word.partition("=")[0]
        meant = nearest(name, [option for option in self._option_string_actions if option.startswith("--")])
        self._end(f"`{self.prog}` has no option {name}.", f"{meant}See `{self.prog} --help`.")

    def _end(self, message: str, hint: str) -> NoReturn:
        misused(message, hint, self._as_json)


def misused(message: str, hint: str, as_json: bool = False) -> NoReturn:
    """Complain of a command line that cannot be followed, and exit with 2."""
    complain(message, hint, code=MISUSED, as_json=as_json)
    raise SystemExit(EXIT)


def sentence(message: str) -> str:
    """A complaint of argparse's in our words; one that is not known as it is."""
    for theirs, ours in _SENTENCES:
        if re.fullmatch(theirs, message, re.DOTALL):
            return re.sub(theirs, ours, message, flags=re.DOTALL)
    return f"{message}."


def nearest(word: str, known: Iterable[str]) -> str:
    """`Did you mean …? ` if one of *known* is close to *word*, else nothing."""
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"Did you mean {near[0]}? " if near else ""
