"""Painted pictures to files: PNG, JPEG or WebP, with what they were made from in the file's metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any

from anyform.contract.errors import Invalid, Unsupported
from anyform.contract.jobs import Picture
from anyform.picture import reading
from anyform.picture.backend import library, png_texts

MEDIA_TYPES: Mapping[str, str] = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
"""What is written, and Pillow's name of it."""
COMPRESSION = 95
"""Of JPEG and WebP, where none is asked for: few see a difference to 100, which takes twice the bytes."""
PNG_LEVEL = 3
"""Of zlib: files as small as those of its usual 6, in a third of the time, as measured on noisy pictures."""
PARAMETERS = "parameters"
"""The key under which other programs look for all in one text."""
LONGEST = 2_000
"""Characters of each text in a JPEG file whose texts would not fit into its one block of metadata."""
_NAMES = {
    "steps": "Steps",
    "scheduler": "Sampler",
    "guidance": "CFG scale",
    "seed": "Seed",
    "size": "Size",
    "model": "Model",
    "strength": "Denoising strength",
}
"""Of the last line of the parameters, in the order in which it has them."""
_DESCRIPTION, _EXIF, _COMMENT = 0x010E, 0x8769, 0x9286
"""Tags of EXIF 3.0 (CIPA DC-008): ImageDescription, the block that has UserComment, and UserComment."""
_EXIF_BYTES = 65_533 - len(b"Exif\0\0")
"""What one block of a JPEG file holds."""
_UTF_16 = b"UNICODE\0"


def encode(image: Any, media_type: str, *, compression: int | None = None, about: Mapping[str, str]) -> bytes:
    """*image*, a PIL.Image, as a file of *media_type*; the same gives the same bytes.

    *compression*: 0 (smallest file) to 100 (best picture); PNG, which loses nothing, has none. *about*: what it was
    made from, such as `prompt`, `negative_prompt`, `seed`, `steps`, `scheduler`, `guidance`, `size`, `model` and
    `strength`: in PNG a text chunk for each, and `parameters`; in JPEG and WebP EXIF's ImageDescription, as JSON, and
    the parameters in its UserComment. Raises Unsupported and Invalid, which name the field of a request.
    """
    form = MEDIA_TYPES.get(media_type)
    if form is None:
        raise Unsupported(
            f"no picture is written as {media_type[:80]!r}.",
            f"There are {', '.join(MEDIA_TYPES)}.",
            param="output_format",
        )
    if compression is not None and not 0 <= compression <= 100:
        raise Invalid(f"compression is {compression}.", "Give 0 to 100.", param="output_compression")
    told = {key: _clean(value) for key, value in about.items()}
    file = BytesIO()
    if form == "PNG":
        image.save(file, form, pnginfo=_chunks(told), compress_level=PNG_LEVEL)
    else:
        quality = COMPRESSION if compression is None else compression
        colours = {"subsampling": 0 if quality >= 90 else 2} if form == "JPEG" else {}
        image.convert("RGB").save(file, form, quality=max(1, quality), exif=_exif(told, form), **colours)
    return file.getvalue()


def about(data: bytes) -> Mapping[str, str]:
    """What `encode` was told of the picture in the file *data*, its `parameters` too; {}: nothing. Raises Invalid."""
    opened = reading.header(Picture(data=data), "the picture")
    if opened.format == "PNG":
        return {key: value for key, value in opened.info.items() if isinstance(value, str)}
    try:
        return _exif_of(opened)
    except Exception as error:  # Pillow raises whatever damage brings about
        raise Invalid(f"the picture has damaged metadata: {error}.", "Send all of it.") from error


def parameters(about: Mapping[str, str]) -> str:
    """*about* as one text, as stable-diffusion-webui writes it and many programs read it; "": nothing is known.

    The prompt, a line with the negative one, and a line of the others: `Steps: 28, Sampler: ..., Seed: 7`.
    """
    negative = about.get("negative_prompt", "")
    rest = ", ".join(f"{name}: {_quoted(about[key])}" for key, name in _NAMES.items() if about.get(key))
    lines = (about.get("prompt", ""), f"Negative prompt: {negative}" if negative else "", rest)
    return "\n".join(line for line in lines if line)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ",:\n") else text


def _clean(text: str) -> str:
    """Without what no metadata hold: halves of characters, and the character 0."""
    return text.encode("utf-8", "replace").decode().replace("\0", "�")


def _chunks(told: Mapping[str, str]) -> Any:
    """Text chunks of PNG: https://www.w3.org/TR/png-3/#11textinfo."""
    chunks = png_texts()
    whole = parameters(told)
    for key, value in {**({PARAMETERS: whole} if whole else {}), **told}.items():
        chunks.add_text(key, value)
    return chunks


def _exif(told: Mapping[str, str], form: str) -> bytes:
    """The EXIF block; for JPEG shortened until it fits."""
    if not told:
        return b""
    short = {key: value[:LONGEST] for key, value in told.items()}
    for texts, comment in ((told, parameters(told)), (told, ""), (short, "")):
        block = _block(texts, comment)
        if form != "JPEG" or len(block) <= _EXIF_BYTES:
            break
    return block


def _block(texts: Mapping[str, str], comment: str) -> bytes:
    exif = library().Exif()
    exif[_DESCRIPTION] = json.dumps(texts)
    if comment:
        exif.get_ifd(_EXIF)[_COMMENT] = _UTF_16 + comment.encode("utf-16-be")
    block: bytes = exif.tobytes()
    return block


def _exif_of(opened: Any) -> Mapping[str, str]:
    exif = opened.getexif()
    comment = exif.get_ifd(_EXIF).get(_COMMENT)
    said = {PARAMETERS: _uttered(comment)} if isinstance(comment, bytes) and comment.startswith(_UTF_16) else {}
    return {**_described(exif.get(_DESCRIPTION)), **said}


def _described(text: object) -> Mapping[str, str]:
    """The JSON object of an ImageDescription; {}: somebody else's."""
    try:
        said = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return {}
    return {key: value for key, value in said.items() if isinstance(value, str)} if isinstance(said, dict) else {}


def _uttered(comment: bytes) -> str:
    return comment.removeprefix(_UTF_16).decode("utf-16-be", "replace")
