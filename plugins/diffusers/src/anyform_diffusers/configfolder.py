"""Where the configurations of a single file lie: a folder with a model_index.json, as diffusers writes it.

A single file has tensors alone. What they are parts of, the words of the tokenizers and the model's scheduler stand in
the folder form of its family, whose small files are enough. Nothing is fetched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyform.contract.errors import Invalid
from anyform.pretrained.layout import CONFIG
from anyform_diffusers import family as families
from anyform_diffusers import layout
from anyform_diffusers.known import MODELS, SCHEDULERS, TRANSFORMERS
from anyform_diffusers.layout import INDEX, SCHEDULER, Part

LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder")
"""Parts that single files never have, and that pictures are made without."""
_WORDS = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("spiece.model",), ("tokenizer.model",))
"""What a tokenizer is read from: all of one of these."""


@dataclass(frozen=True, slots=True)
class Config:
    """A folder that fits, and what it says."""

    folder: Path
    pipeline: str
    """The class of diffusers."""
    parts: tuple[Part, ...]
    """Those that are to be made, with and without weights."""


def find(file: Path, family: str, asked: str, repository: str) -> tuple[Config | None, tuple[str, ...]]:
    """The folder for *file*, a model of *family*: the one *asked* for; else beside it; else a snapshot of
    *repository* in the Hugging Face cache. None: there is none, and why those that were looked at are not it.

    Raises Invalid where *asked* is none.
    """
    if asked:
        read, why = described(Path(asked).expanduser(), family)
        if read is None:
            raise Invalid(
                f"load option config is {asked!r}, but {why}.",
                f"Name a folder with a {INDEX} and the configurations of a {family} model.",
                option="config",
            )
        return read, ()
    tried = [(place, *described(place, family)) for place in (*_own(file), *_cached(repository))]
    for _, read, _ in tried:
        if read is not None:
            return read, ()
    beside = [(place, *described(place, family)) for place in _beside(file)]
    fitting = [read for _, read, _ in beside if read is not None]
    if len(fitting) == 1:
        return fitting[0], ()
    several = ", ".join(str(read.folder) for read in fitting)
    found = [(place, why) for place, _, why in (*tried, *beside) if why and (place / INDEX).is_file()]
    return None, (
        *(f"{place} is not taken: {why}" for place, why in found),
        *((f"{several} would all do: name one with the option config",) if several else ()),
    )


def described(folder: Path, family: str) -> tuple[Config | None, str]:
    """What *folder* says if it is of *family* and complete; else None and why it is not, as half a sentence."""
    try:
        read = json.loads((folder / INDEX).read_bytes())
    except OSError:
        return None, f"{folder} has no {INDEX}"
    except (ValueError, RecursionError) as error:
        return None, f"its {INDEX} is not JSON ({error})"
    index: Mapping[str, Any] = read if isinstance(read, dict) else {}
    pipeline = layout.pipeline(index)
    if families.family(pipeline) != _KIN.get(family, family):
        return None, f"its {INDEX} is of {pipeline or 'no class'}, not of a {family} model"
    parts = tuple(part for part in layout.parts(index) if part.name not in LEFT_OUT)
    strange = [f"{part.library}.{part.kind}" for part in parts if not _is_known(part)]
    if strange:
        return None, f"its {INDEX} names {', '.join(strange)}, which no {family} model has"
    missing = [f"{part.name}/{name}" for part in parts for name in _missing(folder / part.name, part)]
    if missing:
        return None, f"{', '.join(missing)} is missing in it"
    kernels = [found for part in parts if (found := layout.fetched(said(folder / part.name / CONFIG)))]
    if kernels:
        return None, f"a part of it wants to be computed by {kernels[0]!r}, code that would be fetched"
    return Config(folder, pipeline, parts), ""


def said(path: Path) -> Mapping[str, Any]:
    """What the file at *path* says; empty where it is missing or broken, which is the engine's to tell."""
    try:
        read = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


_KIN = {"sd2": "sd", "sdxl-refiner": "sdxl"}
"""Families whose pipelines are of the same class."""


def _is_known(part: Part) -> bool:
    """Whether it is a class of diffusers or transformers that belongs in pipelines: no other code is imported."""
    return part.kind in {"diffusers": MODELS | SCHEDULERS, "transformers": TRANSFORMERS}.get(part.library, frozenset())


def _missing(folder: Path, part: Part) -> list[str]:
    if part.has_weights:
        wanted: tuple[tuple[str, ...], ...] = (("config.json",),)
    else:
        wanted = ((SCHEDULER,),) if part.kind.endswith("Scheduler") else _WORDS
    if any(all((folder / name).is_file() for name in names) for names in wanted):
        return []
    return [wanted[0][0]]


def _own(file: Path) -> list[Path]:
    """The folder that *file* lies in, and the one that is called like it."""
    return [file.parent, file.with_suffix("")]


def _beside(file: Path) -> list[Path]:
    """Other folders where *file* lies; not links, which may lead anywhere."""
    try:
        there = sorted(file.parent.iterdir())
    except OSError:
        return []
    return [place for place in there if place.is_dir() and not place.is_symlink() and place != file.with_suffix("")]


def _cached(repository: str) -> list[Path]:
    """Snapshots in the Hugging Face cache, main's first."""
    from huggingface_hub import constants

    if not repository:
        return []
    home, main = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}", ""
    with suppress(OSError):
        main = (home / "refs" / "main").read_text(encoding="utf-8").strip()
    try:
        return sorted((home / "snapshots").iterdir(), key=lambda place: (place.name != main, place.name))
    except OSError:
        return []
