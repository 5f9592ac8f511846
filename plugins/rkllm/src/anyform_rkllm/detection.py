"""Which RKLLM models lie in a folder: by names, and by the clear numbers at their beginning; only heads are read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from anyform.contract.facts import Evidence, FormatMatch, ModelFiles
from anyform.pretrained.layout import folder_of
from anyform_rkllm import header, name, sidecar
from anyform_rkllm.board import BOARDS
from anyform_rkllm.header import Header
from anyform_rkllm.info import FORMAT, SUFFIX
from anyform_rkllm.name import Name

ADAPTER = re.compile(r"(?<![a-z])(?:lora|adapter)(?![a-z])", re.I)
CACHE = re.compile(r"prompt[-_. ]?cache|(?<![a-z])kv[-_. ]?cache", re.I)
SMALLER = 4
"""An adapter has at most this part of its model's bytes; a model that was only trained with one has all of them."""
QUANTIZATIONS = (
    "W8A8", "W8A8_G128", "W8A8_G256", "W8A8_G512", "W4A16", "W4A16_G128", "W4A16_G64", "W4A16_G32", "FP16",
)  # fmt: skip
"""The one to take first where nothing else is said: what every chip runs, and runs fastest, first."""
FOREIGN_ORDER, COMPANION_ORDER = 20_000, 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """One .rkllm file."""

    entry: str
    stem: str
    said: Name
    header: Header
    companion: str = ""
    """What it is, where it is no model."""


def detect(files: ModelFiles, chip: str = "") -> list[FormatMatch]:
    """One match a model, (name, variant) unlike any other; adapters and caches only where no model is beside them.

    *chip*: this machine's; what is made for it is preferred. Empty: it has none, or none that is known.
    """
    found = [_candidate(files, entry) for entry in sidecar.models(files)]
    found = [_marked(one, found) for one in found]
    models = [one for one in found if not one.companion]
    groups: dict[str, list[_Candidate]] = {}
    for one in models or found:
        groups.setdefault(one.said.base.casefold(), []).append(one)
    return [
        _match(files, one, variant, group[0].said.base, chip)
        for group in groups.values()
        for one, variant in zip(group, _variants(group), strict=True)
    ]


def kind(entry: str) -> str:
    """What *entry* is by its name, where that is no model's; empty: a model, or not told by it."""
    stem = _stem(entry)
    if CACHE.search(stem):
        return "a prompt cache"
    return "a LoRA adapter" if ADAPTER.search(stem) else ""


def companion(match: FormatMatch) -> str:
    """What a match is that was taken for no model; empty: a model."""
    return kind(match.entry) if match.order >= COMPANION_ORDER else ""


def _candidate(files: ModelFiles, entry: str) -> _Candidate:
    stem = _stem(entry)
    return _Candidate(entry=entry, stem=stem, said=name.parse(stem), header=header.head(files, entry))


def _marked(one: _Candidate, all_of_them: Sequence[_Candidate]) -> _Candidate:
    """*one*, as a companion where its name says so and a file beside it is so much larger that it must be the model."""
    what = kind(one.entry)
    largest = max(
        (other.header.size for other in all_of_them if folder_of(other.entry) == folder_of(one.entry)), default=0
    )
    small = one.header.size * SMALLER <= largest
    if not what or not (small or what == "a prompt cache"):
        return one
    return _Candidate(entry=one.entry, stem=one.stem, said=one.said, header=one.header, companion=what)


def _stem(entry: str) -> str:
    path = PurePosixPath(entry)
    return path.name[: -len(SUFFIX)] if path.name.lower().endswith(SUFFIX) else path.name


def _match(files: ModelFiles, one: _Candidate, variant: str, base: str, chip: str) -> FormatMatch:
    return FormatMatch(
        format=FORMAT,
        entry=one.entry,
        files=(one.entry, *(sidecar.beside(files, one.entry, one.said) if not one.companion else ())),
        evidence=Evidence.MAGIC if one.header.known else Evidence.NAME,
        why=_why(one),
        name=base,
        variant=variant,
        order=order(one.said, chip) + (COMPANION_ORDER if one.companion else 0),
    )


def order(said: Name, chip: str = "") -> int:
    """Which conversion of a model is preferred, the lowest first: what *chip* runs; then by its quantization, then with
    fewer layers quantized in groups, then optimised, then by the chip that most boards have.
    """
    known = said.quantization in QUANTIZATIONS
    quantization = QUANTIZATIONS.index(said.quantization) if known else len(QUANTIZATIONS)
    ratio = round(10 * (said.hybrid_ratio or 0))
    plain = said.optimization == 0
    chips = [place for place, other in enumerate(BOARDS) if other in said.platforms]
    liked = 1000 * quantization + 50 * ratio + 20 * plain + min(chips, default=len(BOARDS))
    board = BOARDS.get(chip)
    foreign = board is not None and bool(said.platforms) and chip not in said.platforms
    lacks = board is not None and said.quantization in board.lacks
    return liked + FOREIGN_ORDER * (foreign or lacks)


def _why(one: _Candidate) -> str:
    if one.companion:
        return f"{one.companion} by its name, not a model"
    said = ", ".join(part for part in (" and ".join(one.said.platforms), one.said.quantization) if part)
    by_name = f"; by its name {said}" if said else ""
    if one.header.known:
        return f"RKLLM file of version {one.header.version}, {one.header.tensors} tensors{by_name}"
    return f"the file's name ends in {SUFFIX}{by_name}"


LABELS: Sequence[Callable[[Name], str]] = (
    lambda said: said.quantization,
    lambda said: "-".join(said.platforms),
    lambda said: "" if said.optimization is None else f"opt{said.optimization}",
    lambda said: "" if said.hybrid_ratio is None else f"hybrid{said.hybrid_ratio:g}",
    lambda said: f"ctx{said.context}" if said.context else "",
    lambda said: said.toolkit,
    lambda said: said.rest,
)
"""The parts of a variant's name; the first of them are enough to name it where they leave only one."""


def _variants(group: Sequence[_Candidate]) -> list[str]:
    """What tells the conversions of one model apart: all that their names say of them, so that each is called the same
    in its repository, and here without the others; else the file's name, and where that is in two folders its path.
    """
    names = ["-".join(filter(None, (label(one.said) for label in LABELS))) for one in group]
    if len(group) == 1 or (all(names) and _differ(names)):
        return names
    stems = [one.stem for one in group]
    return stems if _differ(stems) else [one.entry[: -len(SUFFIX)] for one in group]


def _differ(names: Sequence[str]) -> bool:
    return max(Counter(name.casefold() for name in names).values()) == 1
