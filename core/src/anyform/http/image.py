"""POST /v1/images/generations, /v1/images/edits and /v1/images/variations: pictures from words, and from pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from anyform.contract.jobs import EditImage, Image, Picture, VaryImage
from anyform.http.fields import Fields, NotSupported, mistyped, wrong
from anyform.http.gallery import Gallery
from anyform.http.imagereply import Stream, Whole, Wish
from anyform.http.input import many
from anyform.http.media import Media
from anyform.http.reply import Ask

FORMATS = ("png", "jpeg", "webp")
PLACES = ("b64_json", "url")
QUALITIES = {"auto": "", "standard": "", "low": "low", "medium": "medium", "high": "high", "hd": "high"}
BACKGROUNDS = ("auto", "opaque")
IMAGE_NAMES = ("image", "images", "image_url")
STEPS = ("num_inference_steps", "steps")
GUIDANCE = ("guidance_scale", "guidance")
MOST = 10
"""Pictures of one request; as many as OpenAI makes."""
PICTURES = 16
"""Pictures that an edit may bring; as many as OpenAI takes."""
PARTIALS = 3
LONGEST_SIDE = 16_384
MOST_STEPS = 1000
"""Schedulers were trained with as many."""
MOST_GUIDANCE = 100
LETTERS = 32_000
"""Of a prompt; OpenAI's limit. How much of it a model reads is its own matter."""
LORAS = 16
MOST_WEIGHT = 100
_SIZE = re.compile(r"(\d{1,9})x(\d{1,9})", re.ASCII)
ELSEWHERE = "Send pictures to /v1/images/edits, or to /v1/images/variations."
NOT_DONE = {
    "complexity": "Set num_inference_steps, or quality.",
    "frame_count": "One picture is made at a time; no film.",
    "frame_duration_ms": "One picture is made at a time; no film.",
    "input_fidelity": "Set strength: the lower it is, the more is kept of the picture.",
    "markup": "Draw a mask, or paint on the picture itself.",
    "style": "Say it in the prompt.",
    "svg": "Ask for png, jpeg or webp.",
}
"""What OpenAI's own models take, or took, and none does here; and what to do instead."""
MEANT = {
    "batch_size": "n",
    "cfg": "guidance_scale",
    "cfg_scale": "guidance_scale",
    "denoising_strength": "strength",
    "init_image": "image",
    "mask_image": "mask",
    "negative": "negative_prompt",
    "num_images_per_prompt": "n",
    "sampler": "scheduler",
    "sampler_name": "scheduler",
}
"""What other programs call fields: left alone, they would be ignored in silence."""
WITHOUT_EFFECT = ("moderation", "safety_identifier", "user")
"""What OpenAI's take that does not concern the picture: there is no moderation here, and users are not told apart."""
JUDGED = (
    "prompt", "negative_prompt", "n", "size", "width", "height", "quality", "num_inference_steps", "guidance_scale",
    "seed", "scheduler", "loras", "strength", "image", "mask", "partial_images", "output_format", "output_compression",
)  # fmt: skip


def read(body: Mapping[str, Any], media: Media, gallery: Gallery) -> Ask:
    """The request as an Image job. Raises Invalid, Unsupported."""
    fields = Fields(body)
    for name in (*IMAGE_NAMES, "mask"):
        fields.refuse(name, ELSEWHERE)
    return _ask(fields, _image(fields, _prompt(fields)), "image_generation", gallery)


def read_edit(body: Mapping[str, Any], media: Media, gallery: Gallery) -> Ask:
    """The request as an EditImage job. Raises Invalid, Unsupported, TooLarge."""
    fields = Fields(body)
    image, wanted = _image(fields, _prompt(fields)), strength(fields)
    mask = fields.data.get("mask")
    job = EditImage(
        pictures=_pictures(fields, media, PICTURES),
        image=image,
        mask=None if mask is None else media.picture(mask, fields.path("mask")),
        strength=wanted,
    )
    return _ask(fields, job, "image_edit", gallery)


def read_variation(body: Mapping[str, Any], media: Media, gallery: Gallery) -> Ask:
    """The request as a VaryImage job. Raises Invalid, Unsupported, TooLarge."""
    fields = Fields(body)
    fields.refuse("mask", "Send it to /v1/images/edits.")
    image, wanted = _image(fields, _text(fields, "prompt")), strength(fields)
    (picture,) = _pictures(fields, media, 1)
    return _ask(fields, VaryImage(picture=picture, image=image, strength=wanted), "image_variation", gallery)


def _ask(fields: Fields, job: Image | EditImage | VaryImage, noun: str, gallery: Gallery) -> Ask:
    image = job if isinstance(job, Image) else job.image
    model, stream = fields.need_text("model"), bool(fields.flag("stream"))
    if image.partials and not stream:
        wrong(fields.path("partial_images"), "only a stream has a place for them", "Set stream to true.")
    kept = fields.choice("response_format", *PLACES) == "url"
    if kept and not gallery.limit_bytes:
        raise NotSupported(
            "Unsupported parameter: 'response_format': this server keeps no pictures to fetch.",
            "Ask for b64_json, or set the server's images_bytes.",
            param=fields.path("response_format"),
        )
    wish = Wish(
        noun=noun,
        form=image.media_type.partition("/")[2],
        quality=image.quality or "auto",
        n=image.n,
        size=f"{image.width}x{image.height}" if image.width else "auto",
        keep=gallery.keep if kept else None,
    )
    return Ask(
        model=model,
        jobs=(job,),
        writer=partial(Stream if stream else Whole, wish=wish),
        stream=stream,
        prompt="prompt",
        heavy=True,
        typed=True,
        judged=JUDGED,
        spelt=_spelt(fields),
        told=True,
    )


def _spelt(fields: Fields) -> dict[str, str]:
    """What the request calls what has several names."""
    return {
        "num_inference_steps": fields.find(*STEPS)[0],
        "guidance_scale": fields.find(*GUIDANCE)[0],
        "size": "width" if fields.data.get("width") is not None else "size",
        "image": fields.find(*IMAGE_NAMES)[0],
    }


def _image(fields: Fields, prompt: str) -> Image:
    for name, hint in NOT_DONE.items():
        fields.refuse(name, hint)
    for name in WITHOUT_EFFECT:
        fields.text(name)
    seed = fields.integer("seed", low=-1, high=2**63 - 1)
    return Image(
        prompt=prompt,
        n=fields.integer("n", low=1, high=MOST) or 1,
        seed=None if seed == -1 else seed,
        partials=fields.integer("partial_images", low=0, high=PARTIALS) or 0,
        **manner(fields),
    )


def manner(fields: Fields) -> dict[str, Any]:
    """What a rule may say too: all of an Image but what is on it, which one, and how many. Raises Invalid."""
    for name, meant in MEANT.items():
        if fields.data.get(name) not in (None, ""):
            raise NotSupported(
                f"Unsupported parameter: '{fields.path(name)}'.", f"Did you mean {meant}?", param=fields.path(name)
            )
    width, height = _size(fields)
    form = fields.choice("output_format", *FORMATS) or "png"
    if fields.data.get("background") == "transparent":
        raise NotSupported(
            "Unsupported parameter: 'background': no model here leaves anything transparent.",
            "Say opaque, or auto.",
            param=fields.path("background"),
        )
    fields.choice("background", *BACKGROUNDS)
    return {
        "negative_prompt": _text(fields, "negative_prompt"),
        "width": width,
        "height": height,
        "steps": _one(fields, *STEPS).integer(*STEPS, low=1, high=MOST_STEPS),
        "quality": QUALITIES[fields.choice("quality", *QUALITIES) or "auto"],
        "guidance": _one(fields, *GUIDANCE).number(*GUIDANCE, low=0, high=MOST_GUIDANCE),
        "scheduler": _text(fields, "scheduler"),
        "loras": _loras(fields),
        "media_type": f"image/{form}",
        "compression": _compression(fields, form),
    }


def _one(fields: Fields, *names: str) -> Fields:
    """*fields*, unless two spellings of one thing disagree."""
    said = [name for name in names if fields.data.get(name) is not None]
    for name in said[1:]:
        if fields.data[name] != fields.data[said[0]]:
            wrong(fields.path(name), f"'{said[0]}' is another", "Send one of them.")
    return fields


def _prompt(fields: Fields) -> str:
    fields.need_text("prompt")
    text = _text(fields, "prompt")
    if not text.strip():
        wrong(fields.path("prompt"), "it is empty", "Say what is to be seen.")
    return text


def _text(fields: Fields, name: str) -> str:
    text = str(fields.text(name) or "")
    if len(text) > LETTERS:
        wrong(fields.path(name), f"it has {len(text)} letters", f"Expected at most {LETTERS}.")
    return text


def _size(fields: Fields) -> tuple[int | None, int | None]:
    """(width, height); None: the model's own. That of `size`, or of `width` and `height`."""
    sides = [fields.integer(name, low=1, high=LONGEST_SIDE) for name in ("width", "height")]
    text, param = fields.text("size"), fields.path("size")
    if None in sides and sides != [None, None]:
        wrong(fields.path("height" if sides[0] else "width"), "it is missing", "Send width and height, or size.")
    if text in (None, "", "auto"):
        return sides[0], sides[1]
    found = _SIZE.fullmatch(str(text))
    if found is None:
        wrong(param, f"'{str(text)[:40]}' is none", "Write it as WIDTHxHEIGHT, such as 512x512, or auto.")
    width, height = int(found[1]), int(found[2])
    if not (1 <= width <= LONGEST_SIDE and 1 <= height <= LONGEST_SIDE):
        wrong(param, f"{width}x{height}", f"Each side has from 1 to {LONGEST_SIDE} pixels; most models make fewer.")
    if sides not in ([None, None], [width, height]):
        wrong(param, "'width' and 'height' are others", "Send size, or the two.")
    return width, height


def _compression(fields: Fields, form: str) -> int | None:
    """100, which is OpenAI's own default, says nothing of a picture that loses nothing."""
    value = fields.integer("output_compression", low=0, high=100)
    if form == "png" and value not in (None, 100):
        wrong(fields.path("output_compression"), "png loses nothing", "Set output_format to jpeg or webp.")
    return None if form == "png" else value


def _loras(fields: Fields) -> dict[str, float]:
    """Weights by name."""
    given, param = fields.members("loras", 'Write {"name": 0.8}.'), fields.path("loras")
    if given in (None, ""):
        return {}
    if not isinstance(given, dict):
        mistyped(param, "an object", given, 'Such as {"name": 0.8}.')
    if len(given) > LORAS:
        wrong(param, f"{len(given)} add-ons", f"Expected at most {LORAS}.")
    inner = Fields(given, f"{param}.")
    return {name: _weight(inner, name) for name in given}


def _weight(inner: Fields, name: str) -> float:
    weight = inner.number(name, low=-MOST_WEIGHT, high=MOST_WEIGHT)
    return mistyped(inner.path(name), "a number", None) if weight is None else weight


def strength(fields: Fields) -> float | None:
    """How far from the picture. Raises Invalid."""
    wanted = fields.number("strength", low=0, high=1)
    if wanted == 0:
        wrong(fields.path("strength"), "with 0 nothing changes", "Expected a value above 0, up to 1.")
    return wanted


def _pictures(fields: Fields, media: Media, most: int) -> tuple[Picture, ...]:
    found = many(
        _one(fields, *IMAGE_NAMES), *IMAGE_NAMES, one=lambda param, value: media.picture(value, param), what="picture"
    )
    if len(found) > most:
        param = fields.path(fields.find(*IMAGE_NAMES)[0])
        wrong(param, f"{len(found)} pictures", "Send one a request." if most == 1 else f"Expected at most {most}.")
    return found
