"""What Kokoro speaks with: the styles of its voices, read from their files, and blended as a request says."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from anyform.contract.errors import Invalid, LoadFailed
from anyform.contract.facts import Plan
from anyform_audio.speech.pcm import Floats

FAVOURITE = "af_heart"
"""The default voice where it is there."""
HOW = "Write one name, or several with weights: af_heart(2)+af_bella(1)."
MOST_WEIGHT = 1_000_000
_ITEM = r"([^\s()+]+)(?:\s*\(([^()]*)\))?"
_BLEND = re.compile(rf"\s*{_ITEM}(?:(?:\s*\+\s*|\s+){_ITEM})*\s*")
_LONGEST = 2000
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Blend:
    """Voices with their shares, which come to 1."""

    styles: Mapping[str, Floats]
    shares: Mapping[str, float]

    @property
    def first(self) -> str:
        """The one that is named first: the blend speaks its language."""
        return next(iter(self.shares))

    def style(self, tokens: int) -> Floats:
        """[1, width]: the row of so many tokens; those beyond the last row share it."""
        rows = ((self.styles[name], np.float32(share)) for name, share in self.shares.items())
        made: Floats = np.sum([style[min(tokens, len(style)) - 1] * share for style, share in rows], axis=0)
        return made[None]

    def __str__(self) -> str:
        if len(self.shares) == 1:
            return self.first
        return "+".join(f"{name}({share:.4g})" for name, share in self.shares.items())


@dataclass(frozen=True, slots=True)
class Voices:
    """Arrays of style, float32 [rows, width]: the row for n tokens is n - 1."""

    styles: Mapping[str, Floats]

    @property
    def default(self) -> str:
        """What speaks where a request names none."""
        return FAVOURITE if FAVOURITE in self.styles else next(iter(self.styles))

    def blend(self, said: str) -> Blend:
        """What *said* means; empty: the default. Between voices stands + or a blank. Raises Invalid."""
        if not said.strip():
            return Blend(self.styles, {self.default: 1.0})
        if len(said) > _LONGEST or not _BLEND.fullmatch(said):
            raise _wrong(f"the voice {_short(said)} cannot be read.")
        weights: dict[str, float] = {}
        for item in re.finditer(_ITEM, said):
            name = self._name(item[1])
            weights[name] = weights.get(name, 0.0) + (1.0 if item[2] is None else _weight(item[2], said))
        total = sum(weights.values())
        return Blend(self.styles, {name: weight / total for name, weight in weights.items()})

    def _name(self, said: str) -> str:
        if said in self.styles:
            return said
        near = get_close_matches(said.lower(), self.styles, n=3, cutoff=0.5)
        known = f"Near it are {', '.join(near)}." if near else f"There are {_list(self.styles)}."
        raise _wrong(f"there is no voice {_short(said)}.", f"{known} {HOW}")


def read(plan: Plan, width: int) -> Voices:
    """The voices that *plan* has found: an archive of arrays, or files of bare little-endian float32.

    *width*: numbers in a row. Raises LoadFailed.
    """
    folder, extra, model = Path(plan.path), plan.metadata.extra, plan.model
    files = {str(name): folder / str(file) for name, file in dict(extra.get("voice_files", {})).items()}
    archive = str(extra.get("voices_file", ""))
    try:
        raw = _archived(folder / archive) if archive else {name: np.fromfile(one, "<f4") for name, one in files.items()}
    except Exception as error:  # numpy lets out what zipfile, zlib and Python's own parser raise
        raise LoadFailed(f"the voices of {model} cannot be read: {error}.", "Get the voices again.") from error
    if not raw:
        raise LoadFailed(f"{model} has no voices.", "Get voices-v1.0.bin, or the folder voices, and put it beside it.")
    return Voices({name: _shaped(name, raw[name], width, model) for name in sorted(raw)})


def _archived(file: Path) -> dict[str, Floats]:
    with np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _shaped(name: str, style: Floats, width: int, model: str) -> Floats:
    if not style.size or style.size % width or style.dtype.kind != "f":
        shape = "x".join(map(str, style.shape))
        raise LoadFailed(
            f"the voice {name} of {model} is {shape} {style.dtype}; its network takes rows of {width} numbers.",
            "Get the voices that belong to the model.",
        )
    made: Floats = np.ascontiguousarray(style.reshape(-1, width), np.float32)
    if not np.isfinite(made).all():
        raise LoadFailed(f"the voice {name} of {model} has numbers that are not finite.", "Get the voices again.")
    return made


def _weight(said: str, whole: str) -> float:
    try:
        weight = float(said)
    except ValueError:
        weight = math.nan
    if not 0.0 < weight <= MOST_WEIGHT:
        raise _wrong(
            f"a weight in the voice {_short(whole)} is {_short(said)}; it must be a number above 0, at most"
            f" {MOST_WEIGHT:,}."
        )
    return weight


def _wrong(message: str, hint: str = HOW) -> Invalid:
    return Invalid(message, hint, param="voice")


def _short(said: str) -> str:
    return repr(said if len(said) <= _SHOWN else f"{said[: _SHOWN - 3]}...")


def _list(names: Iterable[str]) -> str:
    known = list(names)
    return ", ".join(known[:_SHOWN]) + (" and others" if len(known) > _SHOWN else "")
