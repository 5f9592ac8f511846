"""Whether a model is made for the NPU and the library that are here: what the library would refuse, told before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from anyform.contract.errors import Unsupported
from anyform.contract.facts import BackendInfo, Metadata
from anyform_rkllm import library, metadata, version
from anyform_rkllm.board import BOARDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """One reason why a model cannot run here."""

    code: str
    """Of the finding that tells it."""
    why: str
    """What is said of the model: `is made for ...`."""
    do: str


class NotForThisBoard(Unsupported):
    """A model for another chip, in a quantization that this one lacks, or of a toolkit newer than the library."""

    code = "rkllm.not_for_this_board"


def misfits(said: Metadata, chip: str, runtime: str = "", path: str = "") -> Iterator[Misfit]:
    """Why a model of which *said* is known does not run on *chip* with the library *runtime* at *path*; what is empty
    is not known, and refuses nothing.
    """
    made = said.extra.get("platforms") or ()
    if made and chip and chip not in made:
        yield Misfit(
            code="other_board",
            why=f"is made for {' and '.join(made)}, and this is {chip}: its library refuses it.",
            do=f"Get it for {chip}{_or_rename(said, 'platforms')}.",
        )
    board = BOARDS.get(chip)
    if board is not None and said.quantization in board.lacks:
        yield Misfit(
            code="lacking_quantization",
            why=f"is quantized as {said.quantization}, which {chip} cannot run.",
            do=f"Get it as W8A8{_or_rename(said, 'quantization')}.",
        )
    toolkit = str(said.extra.get("toolkit") or "")
    if toolkit and version.known(runtime) and parts(toolkit) > parts(runtime):
        yield Misfit(
            code="toolkit_newer_elsewhere",
            why=f"was made with toolkit {toolkit}, newer than the library {runtime} that is here.",
            do=f"Update {path or 'it'}, or get the model for {runtime}{_or_rename(said, 'toolkit')}.",
        )


def check(backend: BackendInfo, said: Metadata) -> None:
    """Raises NotForThisBoard. Where the NPU or its library are in trouble themselves, *backend* tells that instead."""
    path = str(backend.options.get("library") or "")
    if backend.trouble or not path:
        return
    found = library.look(Path(path))
    runtime = found.version if found else ""
    for misfit in misfits(said, str(backend.options.get("platform") or ""), runtime, path):
        raise NotForThisBoard(f"{said.name or 'the model'} {misfit.why}", misfit.do, reason=misfit.code)


def parts(text: str) -> tuple[int, ...]:
    """A version to be compared; a beta (1.2.1b1) counts as what it is the beta of, whose files it takes."""
    return tuple(int(part) for part in text.partition("b")[0].split("."))


def _or_rename(said: Metadata, fact: str) -> str:
    """What else can be done where only a name says it."""
    return ", or rename it if its name is wrong" if said.extra["sources"].get(fact) == metadata.NAME else ""
