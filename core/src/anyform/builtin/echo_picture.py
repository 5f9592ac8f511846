"""What echo paints: a chequered PNG, whose colours hang on all that was asked for and on nothing else."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anyform.contract.errors import Invalid, Unsupported

if TYPE_CHECKING:  # importing the jobs would slow `anyform list` down
    from anyform.contract.jobs import EditImage, Image, Picture, VaryImage

TASKS = ("image", "edit_image", "vary_image")
SIDE = 64
"""In pixels, of a picture whose size nobody says."""
LEAST, MOST, UNIT = 8, 2048, 8
"""Sides in pixels are multiples of UNIT, the side of a cell."""
STEPS, MOST_STEPS = 4, 1000
MOST_PICTURES = 10
MOST_PIXELS = 50_000_000
"""Of a picture that is sent."""
SCHEDULERS = ("EchoScheduler", "EchoAncestralScheduler")
"""The first is the usual one."""
QUALITIES: Mapping[str, float] = {"": 1, "low": 0.5, "medium": 1, "high": 2}
"""How many times the usual steps."""
FACTS: Mapping[str, Any] = {
    "width": SIDE,
    "height": SIDE,
    "unit": UNIT,
    "steps": STEPS,
    "scheduler": SCHEDULERS[0],
    "schedulers": list(SCHEDULERS),
}
"""What metadata tell of a model that paints."""
PNG = "image/png"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY = b"\x80\x80\x80"


@dataclass(frozen=True, slots=True)
class Sketch:
    """What is to be painted, complete and checked."""

    prompt: str
    width: int
    height: int
    steps: int
    scheduler: str
    partials: int
    seeds: tuple[int, ...]
    rest: str
    """All else that has a say in the colours."""

    def extra(self, seed: int) -> dict[str, Any]:
        """What is told of a picture."""
        return {
            "seed": seed,
            "width": self.width,
            "height": self.height,
            "steps": self.steps,
            "scheduler": self.scheduler,
        }

    def painted(self, seed: int, done: int) -> bytes:
        """The PNG of a picture after *done* steps: of its cells as great a share has a colour, the others are grey."""
        across, down = self.width // UNIT, self.height // UNIT
        key = zlib.crc32(repr((self.prompt, seed, self.steps, self.scheduler, self.rest)).encode())
        coloured = across * down * done // self.steps
        cells = [_colour(key, at) if at < coloured else _GREY for at in range(across * down)]
        rows = b"".join(
            (b"\0" + b"".join(cell * UNIT for cell in cells[first : first + across])) * UNIT
            for first in range(0, across * down, across)
        )
        about = {"prompt": self.prompt, **{name: str(value) for name, value in self.extra(seed).items()}}
        return png(self.width, self.height, rows, about)


def sketched(job: Image | EditImage | VaryImage) -> Sketch:
    """What *job* means. Raises Invalid, which names the field of a request, and Unsupported."""
    image, given, more = _parts(job)
    _check(image, job.task)
    width, height = _size(image, given)
    seed = int.from_bytes(os.urandom(4)) if image.seed is None else image.seed
    steps = image.steps
    return Sketch(
        prompt=image.prompt,
        width=width,
        height=height,
        steps=max(1, round(STEPS * QUALITIES[image.quality])) if steps is None else steps,
        scheduler=image.scheduler or SCHEDULERS[0],
        partials=image.partials,
        seeds=tuple(seed + index for index in range(image.n)),
        rest=repr((width, height, image.negative_prompt, image.guidance, more)),
    )


def png(width: int, height: int, rows: bytes, about: Mapping[str, str]) -> bytes:
    """A PNG in RGB, 8 bits a colour: https://www.w3.org/TR/png-3/. *rows*: each begins with its filter, 0.

    *about*: text chunks by keyword, in Latin-1 where that holds it (tEXt), else in UTF-8 (iTXt).
    """
    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    texts = [_text(name, text) for name, text in about.items()]
    parts = ((b"IHDR", header), *texts, (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(kind, data) for kind, data in parts)


def size(data: bytes, field: str) -> tuple[int, int]:
    """Width and height in pixels, by the header of a PNG. *field*: of the request. Raises Invalid."""
    if not data.startswith(_SIGNATURE) or data[12:16] != b"IHDR" or len(data) < 24:
        raise Invalid(f"'{field}' is no PNG file: its {len(data)} bytes begin with {data[:8].hex(' ')}.",
                      "Send a picture in PNG; echo reads no other.", param=field)  # fmt: skip
    width, height = struct.unpack(">2I", data[16:24])
    if not 0 < width * height <= MOST_PIXELS:
        raise Invalid(f"'{field}' is a picture of {width} x {height} pixels.",
                      f"Send one of up to {MOST_PIXELS} in all.", param=field)  # fmt: skip
    return width, height


def _parts(job: Image | EditImage | VaryImage) -> tuple[Image, Picture | None, tuple[object, ...]]:
    """What is asked for, the picture to begin with, and all else that has a say. Raises Invalid."""
    from anyform.contract.jobs import EditImage, Image

    if isinstance(job, Image):
        return job, None, ()
    pictures = job.pictures if isinstance(job, EditImage) else (job.picture,)
    if not pictures:
        raise Invalid("there is no picture to change.", "Send one in 'image'.", param="image")
    if job.strength is not None and not 0 < job.strength <= 1:
        raise Invalid(f"strength is {job.strength:g}.", "Give one above 0, up to 1.", param="strength")
    sizes = [size(picture.data, "image") for picture in pictures]
    mask = job.mask if isinstance(job, EditImage) else None
    if mask is not None and size(mask.data, "mask") != sizes[0]:
        across, down = size(mask.data, "mask")
        raise Invalid(f"the mask has {across} x {down} pixels and the picture {sizes[0][0]} x {sizes[0][1]}.",
                      "Send a mask of the picture's own size.", param="mask")  # fmt: skip
    seen = [zlib.crc32(picture.data) for picture in (*pictures, *((mask,) if mask else ()))]
    return job.image, pictures[0], (job.task, *seen, mask is not None, job.strength)


def _check(image: Image, task: str) -> None:
    """Raises Invalid and Unsupported."""
    if not image.prompt.strip() and task != "vary_image":
        raise Invalid("the prompt is empty.", "Say what to paint.", param="prompt")
    for field, number, most, param in (
        ("n", image.n, MOST_PICTURES, "n"),
        ("steps", image.steps, MOST_STEPS, "num_inference_steps"),
    ):
        if number is not None and not 1 <= number <= most:
            raise Invalid(f"{field} is {number}.", f"Give 1 to {most}.", param=param)
    for field, word, known in (("scheduler", image.scheduler, SCHEDULERS), ("quality", image.quality, QUALITIES)):
        if word and word not in known:
            names = ", ".join(filter(None, known))
            raise Invalid(f"{field} is '{word[:40]}'.", f"There are {names}.", param=field)
    if image.loras:
        raise Invalid(f"there is no add-on '{next(iter(image.loras))[:40]}'.", "Echo has none.", param="loras")
    if image.media_type != PNG:
        raise Unsupported(f"echo writes no {image.media_type}.", f"It writes {PNG}.", param="output_format")


def _size(image: Image, given: Picture | None) -> tuple[int, int]:
    """Width and height: as asked for, else those of the picture, as far as can be. Raises Invalid."""
    usual = (SIDE, SIDE)
    if given is not None:
        across, down = size(given.data, "image")
        share = min(1.0, MOST / max(across, down))
        usual = (_fitting(across * share), _fitting(down * share))
    width = usual[0] if image.width is None else image.width
    height = usual[1] if image.height is None else image.height
    if not all(LEAST <= side <= MOST and side % UNIT == 0 for side in (width, height)):
        raise Invalid(
            f"size is {width}x{height}.", f"Echo paints sides of {LEAST} to {MOST}, multiples of {UNIT}.", param="size"
        )
    return width, height


def _fitting(side: float) -> int:
    return max(LEAST, int(side) // UNIT * UNIT)


def _colour(key: int, at: int) -> bytes:
    return struct.pack(">I", zlib.crc32(struct.pack(">2I", key, at)))[:3]


def _text(name: str, text: str) -> tuple[bytes, bytes]:
    try:
        return b"tEXt", name.encode("latin-1") + b"\0" + text.encode("latin-1")
    except UnicodeEncodeError:
        return b"iTXt", name.encode("latin-1") + bytes(5) + text.encode("utf-8", "replace")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
