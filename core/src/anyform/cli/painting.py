"""Turns the arguments of `imagine` into a job, and says where its pictures go."""

from __future__ import annotations

import re
from argparse import SUPPRESS, Action, ArgumentError, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator, Mapping
from itertools import count, islice
from pathlib import Path
from typing import Any, NoReturn

from anyform.cli.arguments import positive
from anyform.cli.extent import extent
from anyform.cli.parser import misused
from anyform.contract.errors import Invalid
from anyform.contract.jobs import EditImage, Image, Picture, VaryImage

PIPE = "-"
"""Standard input or output."""
FORMATS: Mapping[str, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
ENDINGS: Mapping[str, str] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
"""How files end, and what is in them."""
UNWRITTEN = (
    ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".jxl", ".jp2", ".ico", ".svg", ".tga", ".ppm",
)  # fmt: skip
"""How pictures end of forms that are not written here."""
QUALITIES = ("low", "medium", "high")
MOST, MOST_STEPS, MOST_GUIDANCE, MOST_SEED = 10, 1000, 100, 2**63 - 1
"""As over HTTP; what a model can may be less. MOST: pictures."""
PICTURE_BYTES = 256_000_000
"""Of a file to begin with: more than any that engines decode."""
HEADS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*")
"""How files begin that engines read: PNG, JPEG, WebP, GIF, BMP, TIFF."""
_WORDS, _LETTERS = 8, 48
"""Of a prompt, at the most, in the name of a file."""


def add_painting(parser: ArgumentParser) -> None:
    """What is painted, and from what."""
    given = parser.add_argument_group("beginning with a picture")
    beginning = given.add_mutually_exclusive_group()
    beginning.add_argument(
        "--edit", type=Path, action=Once, metavar="FILE", help="change this picture as the prompt says"
    )
    beginning.add_argument(
        "--vary", type=Path, action=Once, metavar="FILE", help="paint others like this picture; needs no prompt"
    )
    given.add_argument(
        "--mask", type=Path, action=Once, metavar="FILE",
        help="of --edit, change only what is transparent or else white in it",
    )  # fmt: skip
    given.add_argument("--strength", type=_strength, metavar="N", help="how far from the picture: above 0, to 1")
    group = parser.add_argument_group("painting")
    group.add_argument("-n", type=_up_to(MOST), default=1, metavar="N", help="pictures (default: 1)")
    group.add_argument("--size", type=size, metavar="WxH", help="in pixels, such as 512x768 (default: the model's)")
    for side in ("--width", "--height"):
        group.add_argument(side, action=Side, nargs="?", help=SUPPRESS)
    group.add_argument("--seed", type=_seed, metavar="N", help="same seed, same picture; one more for each of -n")
    group.add_argument(
        "--steps", type=_up_to(MOST_STEPS), metavar="N", help="more take longer, and paint more carefully"
    )
    group.add_argument("--quality", choices=QUALITIES, help="fewer or more steps than the model's own")
    group.add_argument("--guidance", type=_guidance, metavar="N", help="how closely the prompt is followed")
    group.add_argument("--negative", metavar="S", help="what is not to be seen")
    group.add_argument("--scheduler", metavar="S", help="how noise becomes a picture; `show` lists the model's")
    group.add_argument(
        "--lora", type=lora, action="append", default=[], metavar="NAME=N",
        help="an add-on that the model was loaded with, and its weight",
    )  # fmt: skip


class Once(Action):
    """An option that may be given once: of two files one would be left out in silence."""

    def __call__(self, parser: ArgumentParser, args: Namespace, values: Any, option_string: str | None = None) -> None:
        if getattr(args, self.dest) is not None:
            raise ArgumentError(self, f"it takes one picture, and {values} is another")
        setattr(args, self.dest, values)


class Side(Action):
    """What other programs call one side of a picture."""

    def __call__(
        self, parser: ArgumentParser, args: Namespace, values: Any, option_string: str | None = None
    ) -> NoReturn:
        raise ArgumentError(self, "both sides are said together, as `--size WxH`, such as --size 512x768")


def task(args: Namespace) -> str:
    """What the arguments ask for."""
    if args.edit is not None:
        return EditImage.task
    return Image.task if args.vary is None else VaryImage.task


def check(args: Namespace) -> None:
    """Complains of options that do not go together."""
    wanted = form(args)
    if args.mask is not None and args.edit is None:
        misused("--mask says what of a picture changes, and there is none.", "Add `--edit FILE`.", args.json)
    if args.strength is not None and task(args) == Image.task:
        misused("--strength is how far from a picture, and there is none.", "Add --edit or --vary.", args.json)
    if args.compression is not None and wanted == "png":
        misused(
            "--compression is for JPEG and WebP; PNG loses nothing.", "Leave it out, or end OUT in .jpg.", args.json
        )
    if args.n > 1 and args.output == PIPE:
        misused(f"standard output takes one picture; -n is {args.n}.", "Name a file with -o.", args.json)


def form(args: Namespace) -> str:
    """The format that is asked for, in words or by the ending of the file."""
    if args.output in ("", PIPE):
        return args.format or "png"
    ending, known = Path(args.output).suffix.lower(), ", ".join(ENDINGS)
    if ending in UNWRITTEN:
        said = f"{args.output} cannot be written as {ending[1:]}; only png, jpg or webp."
        misused(said, f"Let it end in {known}.", args.json)
    found = ENDINGS.get(ending)
    if found and args.format not in (None, found):
        said = f"{args.output} ends as {found} does, and --format is {args.format}."
        misused(said, "Leave --format out, or let OUT end otherwise.", args.json)
    if not found and not args.format:
        misused(f"{args.output} does not end as a picture does.", f"Let it end in {known}, or say --format.", args.json)
    return found or str(args.format)


def targets(args: Namespace, prompt: str) -> list[Path]:
    """The files to write; none: standard output. Of several pictures each has its number, from 1."""
    if args.output == PIPE:
        return []
    if args.output:
        path = Path(args.output)
        return list(islice(_numbered(path), args.n)) if args.n > 1 else [path]
    path = Path(f"{named(prompt)}.{'jpg' if form(args) == 'jpeg' else form(args)}")
    found = _numbered(path) if args.n > 1 else further(path)
    return list(islice((one for one in found if args.force or not one.exists()), args.n))


def named(prompt: str) -> str:
    """How a file is called that has what *prompt* says."""
    words = re.findall(r"[^\W_]+", prompt.lower())[:_WORDS]
    kept = words[:1] + [word for at, word in enumerate(words[1:], 2) if len("-".join(words[:at])) <= _LETTERS]
    return "-".join(kept)[:_LETTERS] or "picture"


def pictures(args: Namespace) -> Mapping[str, Picture]:
    """The files to begin with, by their options. Raises Invalid for those that are no pictures, and for a mask of
    another size, as far as heads of files say theirs.
    """
    named = {name: getattr(args, name) for name in ("edit", "mask", "vary")}
    given = {name: picture(path) for name, path in named.items() if path is not None}
    if "mask" in given:
        _check_mask(extent(given["mask"].data), extent(given["edit"].data))
    return given


def _check_mask(mask: tuple[int, int] | None, edit: tuple[int, int] | None) -> None:
    """A file may say that it is to be turned: sides in the other order are left to the engine."""
    if mask and edit and sorted(mask) != sorted(edit):
        raise Invalid(
            f"the mask has {mask[0]} x {mask[1]} pixels and the picture {edit[0]} x {edit[1]}.",
            "Give a mask of the picture's own size.",
            param="mask",
        )


def job(
    args: Namespace, prompt: str, given: Mapping[str, Picture], request: Mapping[str, Any]
) -> Image | EditImage | VaryImage:
    """The job: what is asked for, over *request*, which the model's rule says. Raises Invalid for that.

    *given*: what `pictures` read.
    """
    image, strength = _image(args, prompt, request), args.strength
    if strength is None and request:
        from anyform.http import image as http_image
        from anyform.http.fields import Fields

        strength = http_image.strength(Fields(request))
    if "edit" in given:
        return EditImage(pictures=(given["edit"],), mask=given.get("mask"), image=image, strength=strength)
    if "vary" in given:
        return VaryImage(picture=given["vary"], image=image, strength=strength)
    return image


def picture(path: Path) -> Picture:
    """The file at *path*, as it is. Raises Invalid for what is none, or is no picture by its first bytes."""
    try:
        with path.open("rb") as stream:
            data = stream.read(PICTURE_BYTES + 1)
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror or error}.", "Check the spelling of the path.") from None
    if len(data) > PICTURE_BYTES:
        raise Invalid(f"{path} has more than {PICTURE_BYTES} bytes.", "Give a smaller picture.")
    if not data.startswith(HEADS):
        told = f"its {len(data)} bytes begin with {data[:8].hex(' ')}" if data else "it is empty"
        raise Invalid(f"{path} is no picture: {told}.", "Give a PNG, JPEG, WebP, GIF, BMP or TIFF.")
    return Picture(data=data)


def size(text: str) -> tuple[int, int]:
    """WxH as two numbers of pixels."""
    found = re.fullmatch(r"(\d{1,6})[xX\u00d7](\d{1,6})", text, re.ASCII)
    width, height = map(int, found.groups()) if found else (0, 0)
    if not width or not height:
        raise ArgumentTypeError(f"{text!r} is not a size such as 512x768")
    return width, height


def lora(text: str) -> tuple[str, float]:
    """NAME=N, or NAME alone, which weighs 1."""
    name, _, weight = text.rpartition("=") if "=" in text else (text, "", "1")
    if not name:
        raise ArgumentTypeError(f"{text!r} is not NAME=N")
    return name, _number(weight)


def _image(args: Namespace, prompt: str, request: Mapping[str, Any]) -> Image:
    """What is asked for, over *request*; where a size or steps are asked for in one way, not in another of its."""
    under = _ruled(request)
    media_type = FORMATS[form(args)]
    compression = under.get("compression") if under.get("media_type") == media_type else None
    seed = under.get("seed") if args.seed is None else args.seed
    size = dict(zip(("width", "height"), args.size or (), strict=False))
    steps = {} if args.quality is None else {"quality": args.quality, "steps": None}
    said = {
        "negative_prompt": args.negative, "steps": args.steps, "guidance": args.guidance, "scheduler": args.scheduler,
        "loras": dict(args.lora) or None, "compression": args.compression,
    }  # fmt: skip
    told = {name: value for name, value in said.items() if value is not None}
    changed = {**under, **size, **steps, "compression": compression, **told, "media_type": media_type}
    return Image(**{**changed, "prompt": prompt, "n": args.n, "seed": None if seed == -1 else seed})


def _ruled(request: Mapping[str, Any]) -> dict[str, Any]:
    """An Image's fields, as far as a rule says them. Raises Invalid."""
    if not request:
        return {}
    from anyform.http.fields import Fields
    from anyform.http.image import manner

    fields = Fields(request)
    return {**manner(fields), "seed": fields.integer("seed", low=-1, high=MOST_SEED)}


def _numbered(path: Path) -> Iterator[Path]:
    return (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(1))


def further(path: Path) -> Iterator[Path]:
    """*path*, and others that are called nearly as it, without an end."""
    yield path
    yield from (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2))


def _up_to(most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = positive(text)
        if number > most:
            raise ArgumentTypeError(f"{text} is over {most}")
        return number

    return read


def _guidance(text: str) -> float:
    number = _number(text)
    if not 0 <= number <= MOST_GUIDANCE:
        raise ArgumentTypeError(f"{text} is not from 0 to {MOST_GUIDANCE}")
    return number


def _seed(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a whole number") from None
    if not -1 <= number <= MOST_SEED:
        raise ArgumentTypeError(f"{text} is not from 0 to {MOST_SEED}, nor -1, which draws one")
    return number


def _strength(text: str) -> float:
    number = _number(text)
    if not 0 < number <= 1:
        raise ArgumentTypeError(f"{text} is not above 0 and up to 1")
    return number


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not abs(number) < float("inf"):
        raise ArgumentTypeError(f"{text!r} is not a number")
    return number
