"""Whether a model suits what is asked of it, as far as its metadata says: told before it is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from anyform.contract.errors import Fault, Invalid
from anyform.sound import language as whisper

if TYPE_CHECKING:
    from anyform.contract.facts import Metadata
    from anyform.contract.jobs import Image
    from anyform.kernel.entry import Entry
    from anyform.kernel.runtime import Runtime

LORAS = "loras"
"""The load option that names add-ons, of backends that have it."""
CLASS = "Scheduler"
"""How the names of schedulers' classes end."""
_SHOWN = 12
_LETTERS = 60
_WEIGHT = re.compile(r"\([^()]*\)")
_HTTP = re.compile(r"Invalid '(\w+)': ")
"""How a refusal begins that names the field of a request."""


def hears(known: Metadata, language: str) -> int:
    """Whether a model knows *language*, a code or an English name; without one, whether it knows several."""
    languages: Sequence[str] = known.extra.get("languages", ())
    wanted = language.strip().lower()
    return any(wanted in (code, whisper.NAMES.get(code)) for code in languages) if wanted else len(languages) != 1


def check_hearing(known: Metadata, language: str) -> None:
    """Raises Invalid, Unsupported where a model that says its languages does not know *language*."""
    languages: Sequence[str] = known.extra.get("languages", ())
    if not language or not languages:
        return
    try:
        whisper.code(language, None if list(languages) == [whisper.ENGLISH] else languages)
    except Fault as fault:
        fault.message = in_words(fault)
        raise


def speaks(known: Metadata, voice: str, language: str) -> int:
    """Whether a model has *voice*, which may be a blend, and knows *language*; each where it is asked for."""
    ids = _ids(known)
    return 2 * (not voice or any(one in voice for one in ids)) + (not language or _reads(known, language))


def check_speaking(name: str, known: Metadata, voice: str, speed: float, language: str) -> None:
    """Raises Invalid where model *name* says which voices, speeds and languages it has, and that is none of them."""
    ids, speeds = _ids(known), known.extra.get("speeds", ())
    for one in _WEIGHT.sub(" ", voice).replace("+", " ").split() if ids and voice not in ids else ():
        if one not in ids:
            near = get_close_matches(one.lower(), ids, n=3, cutoff=0.5)
            hint = f"Near it are {', '.join(near)}." if near else f"There are {_listed(ids)}."
            raise Invalid(f"{name} has no voice {one[:_LETTERS]!r}.", hint, param="voice")
    if len(speeds) == 2 and not speeds[0] <= speed <= speeds[1]:
        told = f"{name} speaks at {speeds[0]:g} to {speeds[1]:g}."
        raise Invalid(f"speed is {speed:g}.", told, param="speed")
    if language and ids and not _reads(known, language):
        told = f"It speaks {_listed(_spoken(known))}."
        raise Invalid(f"{name} does not speak {language[:_LETTERS]!r}.", told, param="language")


def paints(known: Metadata, scheduler: str) -> int:
    """Whether a model has *scheduler*, where one is asked for."""
    return not scheduler or scheduler in known.extra.get("schedulers", ())


def check_painting(name: str, known: Metadata, wanted: Image) -> None:
    """Raises Invalid where model *name* says which sides and schedulers it can, and what is wanted is none of them.

    Only names of classes are judged: an engine may know short ones (`euler_a`), and refuses others itself.
    """
    unit, schedulers = known.extra.get("unit"), known.extra.get("schedulers", ())
    for field, side in (("width", wanted.width), ("height", wanted.height)):
        if side and unit and side % unit:
            near = max(unit, round(side / unit) * unit)
            told = f"The sides of what {name} paints are multiples of {unit}, such as {near}."
            raise Invalid(f"the {field} is {side}.", told, param="size")
    if wanted.scheduler.endswith(CLASS) and schedulers and wanted.scheduler not in schedulers:
        like = [one for one in schedulers if wanted.scheduler.lower() in one.lower()]
        close = like or get_close_matches(wanted.scheduler, schedulers, n=3, cutoff=0.5)
        hint = f"Near it are {', '.join(close)}." if close else f"There are {', '.join(schedulers)}."
        raise Invalid(f"{name} has no scheduler {wanted.scheduler[:_LETTERS]!r}.", hint, param="scheduler")


def check_loras(runtime: Runtime, entry: Entry, wanted: Mapping[str, float]) -> None:
    """Raises Invalid for an add-on that the settings do not name, where some backend that reads the model takes its
    add-ons from them.
    """
    known = runtime.rule(entry).settings.options.get(LORAS)
    if known is None:
        states = runtime.capabilities(False)
        reading = [state.backend for state in states if entry.match.format in state.backend.reads]
        known = {} if any(LORAS in backend.local_options for backend in reading) else None
    if not isinstance(known, Mapping):  # which the backend says itself
        return
    for name in wanted:
        if name not in known:
            there = f"It is loaded with {', '.join(known)}." if known else "It is loaded without any: see option loras."
            raise Invalid(f"this model has no LoRA {name[:_LETTERS]!r}.", there, param=LORAS)


def states_context(known: Metadata) -> bool:
    """Whether the context is the model's own word, and not its format's default."""
    return known.extra.get("context_stated") is not False


def in_words(fault: Fault, file: str = "") -> str:
    """What *fault* says, of the command line's options and of *file* instead of a request's fields."""
    found = _HTTP.match(fault.message)
    if not found:
        return f"{file}: {fault.message}" if file else fault.message
    subject = file if found[1] == "file" and file else f"--{found[1]}"
    return f"{subject}: {fault.message[found.end() :]}"


def _voices(known: Metadata) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = known.extra.get("voices", ())
    return found


def _ids(known: Metadata) -> list[str]:
    return [str(one.get("id", "")) for one in _voices(known)]


def _spoken(known: Metadata) -> list[str]:
    """The languages of its voices."""
    return sorted({str(one.get("language") or "") for one in _voices(known)} - {""})


def _reads(known: Metadata, language: str) -> bool:
    """Whether it can read *language*, of which the region is an accent. What says nothing may read anything."""
    reads: Sequence[str] = known.extra.get("reads") or _spoken(known)
    return not reads or _main(language) in map(_main, reads)


def _main(language: str) -> str:
    return language.strip().lower().replace("_", "-").partition("-")[0]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more (`anyform voices`)" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
