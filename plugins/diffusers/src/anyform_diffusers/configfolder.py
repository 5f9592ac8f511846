"""Where the configurations of a single file lie: a folder with a model_index.json, as diffusers writes it.

A single file has tensors alone. What they are parts of, the words of the tokenizers and the model's scheduler stand in
the folder form of its family, whose small files are enough. Nothing is fetched.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyform.contract.errors import Invalid
from anyform.pretrained import attention
from anyform.pretrained.layout import CONFIG
from anyform_diffusers import family as families
from anyform_diffusers import layout
from anyform_diffusers.known import MODELS, SCHEDULERS, TRANSFORMERS
from anyform_diffusers.layout import INDEX, SCHEDULER, Part

SMALL = ("*.json", "*.txt", "*.model")
"""Names of files that are no weights."""
MOST_BYTES = 16 << 20
"""Of a configuration; larger ones are none."""
_SHOWN = 3
_MEGABYTES = {"sd": 2, "sd2": 2, "sdxl": 4, "sdxl-refiner": 3, "sd3": 7, "flux": 5}
"""What the small files of a family come to."""
_GATED = ("stabilityai/stable-diffusion-3", "black-forest-labs/")
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


def find(file: Path, family: str, asked: str, repository: str) -> tuple[Config | None, tuple[Path, ...]]:
    """The folder for *file*, a model of *family*: the one *asked* for; else beside it; else a snapshot of
    *repository* in the Hugging Face cache. None: there is none, or there are several that would do, which follow.

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
    for place in (*_own(file), *_cached(repository)):
        read, _ = described(place, family)
        if read is not None:
            return read, ()
    fitting = [read for place in _beside(file) if (read := described(place, family)[0]) is not None]
    return (fitting[0], ()) if len(fitting) == 1 else (None, tuple(read.folder for read in fitting))


def lacking(family: str, repository: str, several: Sequence[Path]) -> tuple[str, str]:
    """Of a single file whose configurations `find` did not find: what is missing, and what to do, each without the
    full stop of a sentence. *several*: folders that would do.
    """
    if several:
        shown = ", ".join(map(str, several[:_SHOWN]))
        more = f" and {len(several) - _SHOWN} more" if len(several) > _SHOWN else ""
        return f"{len(several)} folders beside it have configurations that would do: {shown}{more}", (
            "name one of them: `--option config=DIR`"
        )
    missing = "the configurations that it is read with are neither beside it nor in the Hugging Face cache"
    if not repository:
        return missing, f"name a folder that has them, with its {INDEX}: `--option config=DIR`"
    return missing, (
        f"fetch those of {repository}, about {_MEGABYTES.get(family, 10)} MB without any weights: "
        f"`{command(repository, ())}`{licence(repository)}; or name a folder that has them: `--option config=DIR`"
    )


def command(repository: str, weights: Sequence[str]) -> str:
    """What fetches the small files of *repository*, and *weights*."""
    patterns = " ".join(f'"{pattern}"' for pattern in (*SMALL, *weights))
    return f"hf download {repository} --include {patterns}"


def licence(repository: str) -> str:
    """What comes before fetching *repository*, in brackets; empty: nothing."""
    gated = repository.startswith(_GATED)
    return " (first accept its licence on the hub and log in with `anyform login`)" if gated else ""


def described(folder: Path, family: str) -> tuple[Config | None, str]:
    """What *folder* says if it is of *family* and complete; else None and why it is not, as half a sentence."""
    try:
        read = json.loads(_bytes(folder / INDEX))
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
    told = {f"{part.name}/{name}": said(folder / part.name / name) for part in parts if (name := _told_by(part))}
    broken = [name for name, content in told.items() if not content]
    if broken:
        return None, f"{', '.join(broken)} in it is no JSON object, or an empty one"
    kernels = [found for content in told.values() if (found := attention.fetched(content))]
    if kernels:
        return None, f"a part of it wants to be computed by {kernels[0]!r}, code that would be fetched"
    return Config(folder, pipeline, parts), ""


def said(path: Path) -> Mapping[str, Any]:
    """What the file at *path* says; empty where it is missing, broken or no object."""
    try:
        read = json.loads(_bytes(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _bytes(path: Path) -> bytes:
    """What is in a small file. Raises OSError, ValueError (it is not small)."""
    with path.open("rb") as file:
        read = file.read(MOST_BYTES + 1)
    if len(read) > MOST_BYTES:
        raise ValueError(f"over {MOST_BYTES >> 20} MiB")
    return read


_KIN = {"sd2": "sd", "sdxl-refiner": "sdxl"}
"""Families whose pipelines are of the same class."""


def _is_known(part: Part) -> bool:
    """Whether it is a class of diffusers or transformers that belongs in pipelines: no other code is imported."""
    return part.kind in {"diffusers": MODELS | SCHEDULERS, "transformers": TRANSFORMERS}.get(part.library, frozenset())


def _told_by(part: Part) -> str:
    """The file that says what *part* is; empty: there is more than one way."""
    return CONFIG if part.has_weights else SCHEDULER if part.kind.endswith("Scheduler") else ""


def _missing(folder: Path, part: Part) -> list[str]:
    told = _told_by(part)
    wanted: tuple[tuple[str, ...], ...] = ((told,),) if told else _WORDS
    if any(all(os.path.isfile(folder / name) for name in names) for names in wanted):
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
    own = file.with_suffix("")
    return [place for place in there if os.path.isdir(place) and not os.path.islink(place) and place != own]


def _cached(repository: str) -> list[Path]:
    """Snapshots in the Hugging Face cache, main's first."""
    if not repository:
        return []
    home, main = _hub() / f"models--{repository.replace('/', '--')}", ""
    with suppress(OSError):
        main = (home / "refs" / "main").read_text(encoding="utf-8").strip()
    try:
        return sorted((home / "snapshots").iterdir(), key=lambda place: (place.name != main, place.name))
    except OSError:
        return []


def _hub() -> Path:
    """The Hugging Face cache: as huggingface_hub says, which every load has imported; else where it usually is."""
    constants = sys.modules.get("huggingface_hub.constants")
    return Path(constants.HF_HUB_CACHE if constants else "~/.cache/huggingface/hub").expanduser()
