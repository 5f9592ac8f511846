"""A job, read and checked before anything is computed: what is to be painted, from which seeds, told in which form."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from anyform.contract.errors import Invalid, Unsupported
from anyform.contract.jobs import EditImage, Image, Picture, VaryImage
from anyform.picture import masking, reading
from anyform.picture.backend import library
from anyform.picture.writing import MEDIA_TYPES
from anyform_diffusers import canvas, parameters, schedule
from anyform_diffusers.options import MOST_STEPS
from anyform_diffusers.wish import Wish

if TYPE_CHECKING:
    from anyform_diffusers.options import Options
    from anyform_diffusers.painter import Painter

Painting: TypeAlias = Image | EditImage | VaryImage

MOST = 10
"""Pictures of one request, as OpenAI allows."""
MOST_GUIDANCE = 100
MOST_WEIGHT = 10
"""Of an add-on, either way."""
MOST_PARTIALS = 3
SEEDS = 2**63
"""As many as there are: 0 and what follows; the one after the last is 0 again."""
DRAWN = 2**32
"""Seeds that nobody gave are below this: also in JavaScript a number like any other."""
TIMES = 4
"""As many pixels as the model was trained for may be asked for, where nobody says how many."""
QUALITIES = {"low": 0.5, "medium": 1.0, "high": 1.5}
"""Steps, as a share of the model's usual number."""
WEBP_SIDE = 16_383
"""Its frame header has 14 bits for each: RFC 9649."""
REPAINTED = 128
"""Of 0 to 255: from here on diffusers repaints what a mask shows."""

_DECODING = threading.Lock()
"""Pictures of requests are decoded one after the other: each may take hundreds of megabytes until it is scaled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be done, all of it possible."""

    wish: Wish
    seeds: tuple[int, ...]
    """One a picture."""
    partials: int
    media_type: str
    compression: int | None
    steps: int
    """That each picture takes: fewer than wished with a strength, more with some schedulers."""
    tokens: int
    """Of the prompt."""
    said: Mapping[str, Any]
    """How its pictures are made, all but the seed."""
    remarks: tuple[str, ...]
    """What is to be known of how the request is read."""


def read(job: Painting, painter: Painter, options: Options) -> Request:
    """*job* for *painter*. Raises Invalid, Unsupported, ContextExceeded, with the `param`, OutOfMemory."""
    image = job if isinstance(job, Image) else job.image
    strength = None if isinstance(job, Image) else job.strength
    _check_form(image)
    _check_words(image, may_be_empty=isinstance(job, VaryImage))
    _check_numbers(image, strength, options)
    _check_names(image, painter)
    if image.partials and not painter.previews:
        raise Unsupported(
            "unfinished pictures of this model cannot be shown.", "Ask for none of them.", param="partial_images"
        )
    width, height, picture, mask, stretched = _canvas(job, image, painter, options)
    wish = Wish(
        prompt=image.prompt,
        negative=image.negative_prompt,
        width=width,
        height=height,
        steps=_steps(image, painter, options),
        guidance=painter.facts.guidance if image.guidance is None else image.guidance,
        strength=strength,
        scheduler=schedule.canonical(image.scheduler, painter.facts.schedulers),
        loras=tuple(sorted((name, float(weight)) for name, weight in image.loras.items())),
        picture=picture,
        mask=mask,
    )
    if image.media_type == "image/webp" and max(width, height) > WEBP_SIDE:
        raise Invalid(
            f"the size is {width}x{height}; sides of WebP files are up to {WEBP_SIDE}.",
            "Ask for image/png or image/jpeg.",
            param="output_format",
        )
    painter.check(wish)
    return Request(
        wish=wish,
        seeds=seeds(image.seed, image.n),
        partials=image.partials,
        media_type=image.media_type,
        compression=image.compression,
        steps=painter.steps(wish),
        tokens=painter.tokens(wish),
        said=parameters.of(wish, painter),
        remarks=(*stretched, *painter.remarks(wish)),
    )


def seeds(first: int | None, count: int) -> tuple[int, ...]:
    """Of *count* pictures, one after the other from *first*; after the greatest comes 0. None: drawn."""
    start = secrets.randbelow(DRAWN) if first is None else first
    return tuple((start + place) % SEEDS for place in range(count))


def _check_form(image: Image) -> None:
    """The files that are wanted."""
    _within("n", "n", image.n, 1, MOST)
    _within("partials", "partial_images", image.partials, 0, MOST_PARTIALS)
    if image.media_type not in MEDIA_TYPES:
        raise _unknown("media type", image.media_type, MEDIA_TYPES, "output_format")
    if image.compression is not None:
        if image.media_type == "image/png":
            raise Invalid(
                f"compression is {image.compression}, and PNG loses nothing.",
                "Leave it out, or ask for image/jpeg or image/webp.",
                param="output_compression",
            )
        _within("compression", "output_compression", image.compression, 0, 100)


def _check_words(image: Image, *, may_be_empty: bool) -> None:
    if not may_be_empty and not image.prompt.strip():
        raise Invalid("the prompt is empty.", "Say what is to be painted.", param="prompt")
    for param, text in (("prompt", image.prompt), ("negative_prompt", image.negative_prompt)):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise Invalid(
                f"{param} has half of a character (U+{ord(text[error.start]):04X}) at {error.start}.",
                "Send whole Unicode characters.",
                param=param,
            ) from error


def _check_numbers(image: Image, strength: float | None, options: Options) -> None:
    if image.steps is not None:
        lowered = ", as the load option max_steps says" if options.max_steps < MOST_STEPS else ""
        _within("steps", "num_inference_steps", image.steps, 1, options.max_steps, lowered)
    if image.guidance is not None:
        _within("guidance", "guidance_scale", image.guidance, 0, MOST_GUIDANCE)
    if image.seed is not None:
        _within("seed", "seed", image.seed, 0, SEEDS - 1)
    if strength is not None and not 0 < strength <= 1:
        raise Invalid(f"strength is {strength}.", "It must be above 0, and 1 at the most.", param="strength")


def _check_names(image: Image, painter: Painter) -> None:
    if image.quality and image.quality not in QUALITIES:
        raise _unknown("quality", image.quality, QUALITIES, "quality")
    schedule.resolve(image.scheduler, painter.facts.schedulers)
    for name, weight in image.loras.items():
        if name not in painter.facts.loras:
            raise _unknown("add-on", name, painter.facts.loras, "loras")
        _within(f"the weight of add-on {name!r}", "loras", weight, -MOST_WEIGHT, MOST_WEIGHT)


def _within(what: str, param: str, value: float, least: float, most: float, why: str = "") -> None:
    if not least <= value <= most:
        raise Invalid(f"{what} is {value}.", f"It must be {least} to {most}{why}.", param=param)


def _unknown(what: str, value: str, known: Collection[str], param: str) -> Invalid:
    there = f"There are {', '.join(known)}." if known else "It was loaded with none; leave it out."
    return Invalid(f"there is no {what} {value!r} here.", there, param=param)


def _steps(image: Image, painter: Painter, options: Options) -> int:
    if image.steps is not None:
        return image.steps
    share = QUALITIES[image.quality or "medium"]
    return min(max(1, round(painter.facts.steps * share)), options.max_steps)


def most_pixels(painter: Painter, options: Options) -> int:
    """Width x height that a picture of this model may be asked for with."""
    facts = painter.facts
    return TIMES * facts.width * facts.height if options.max_pixels is None else options.max_pixels


def _canvas(job: Painting, image: Image, painter: Painter, options: Options) -> tuple[int, int, Any, Any, list[str]]:
    """Width, height, of that size the picture and the mask, where there is one, and whether it was stretched."""
    unit, own = painter.facts.unit, (painter.facts.width, painter.facts.height)
    most = most_pixels(painter, options)
    if isinstance(job, Image):
        size = _sides(image, canvas.nearest(*own, unit, most), painter, most)
        return *size, None, None, []
    if image.width is not None and image.height is not None:
        canvas.check(image.width, image.height, unit, most, own)  # before a picture is decoded
    with _DECODING:
        picture = _picture(job, options)
        mask = _mask(job.mask, picture.size, options) if isinstance(job, EditImage) and job.mask is not None else None
        like = canvas.nearest(picture.width, picture.height, unit, most, own[0] * own[1])
        size = _sides(image, like, painter, most)
        stretched = _stretched(picture.size, size, unit) if image.width is None and image.height is None else []
        return *size, _resized(picture, *size), mask and _stencil(mask, *size), stretched


def _stretched(given: tuple[int, int], size: tuple[int, int], unit: int) -> list[str]:
    """What is to be said where *size* has not the proportion of the picture that was *given*; else nothing."""
    if canvas.is_alike(size, given, unit):
        return []
    (width, height), (own, other) = size, given
    return [f"the picture of {own}x{other} is stretched to {width}x{height}, the nearest that this model paints"]


def _sides(image: Image, like: tuple[int, int], painter: Painter, most: int) -> tuple[int, int]:
    """The sides that *image* asks for; of those that it does not, *like*'s. Raises Invalid."""
    if image.width is None and image.height is None:
        return like
    width, height = (own if side is None else side for side, own in zip((image.width, image.height), like, strict=True))
    canvas.check(width, height, painter.facts.unit, most, (painter.facts.width, painter.facts.height))
    return width, height


def _picture(job: EditImage | VaryImage, options: Options) -> Any:
    """The one that it begins with, a PIL.Image in RGB of its own size."""
    if isinstance(job, VaryImage):
        return _decoded(reading.read, job.picture, "the picture", "image", options)
    if len(job.pictures) != 1:
        raise Invalid(
            f"there are {len(job.pictures)} pictures to edit; this engine edits one at a time.",
            "Send one picture, and a request for each.",
            param="image",
        )
    return _decoded(reading.read, job.pictures[0], "the picture", "image", options)


def _mask(mask: Picture, size: tuple[int, int], options: Options) -> Any:
    """A PIL.Image of mode L, white where it is repainted."""
    stencil = _decoded(masking.read, mask, "the mask", "mask", options)
    if stencil.size != size:
        own, other = ("x".join(map(str, sides)) for sides in (stencil.size, size))
        raise Invalid(f"the mask is {own}, and the picture {other}.", "Send both in one size.", param="mask")
    return stencil


def _decoded(read: Callable[[Picture, str, int], Any], given: Picture, place: str, param: str, options: Options) -> Any:
    try:
        return read(given, place, options.max_source_pixels)
    except Invalid as error:
        raise Invalid(error.message, error.hint, **{**error.details, "param": param}) from error.__cause__


def _resized(picture: Any, width: int, height: int) -> Any:
    if picture.size == (width, height):
        return picture
    return picture.resize((width, height), library().Resampling.LANCZOS)


def _stencil(mask: Any, width: int, height: int) -> Any:
    if mask.size != (width, height):
        mask = mask.resize((width, height), library().Resampling.NEAREST)
    if mask.getextrema()[1] < REPAINTED:
        raise Invalid(
            "the mask leaves nothing to repaint.",
            "Make transparent what is to be repainted, or white in a mask without transparency.",
            param="mask",
        )
    return mask
