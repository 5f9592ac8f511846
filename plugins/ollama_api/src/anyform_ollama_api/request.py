"""What all requests for a model's work have: its name, how long it stays, whether to think, pictures."""

from __future__ import annotations

from typing import Any

from anyform.contract.jobs import Picture
from anyform.dialect import Fields, Media, Missing, Rule, Use, WrongValue, read_template
from anyform_ollama_api import gotemplate

EFFORTS = ("low", "medium", "high", "max")


def model(body: Fields) -> str:
    """The name of the model. Raises Missing."""
    name = body.text("model")
    if not name:
        raise Missing("model is required.", "GET /api/tags lists those that are here.", param="model")
    return name


def use(body: Fields) -> Use:
    """How long the model stays loaded afterwards. Raises Invalid."""
    try:
        return Use(keep_alive_s=body.duration("keep_alive"))
    except WrongValue as wrong:
        given = str(body.data["keep_alive"])[:100]
        said = f"time: invalid duration \"{given}\" in 'keep_alive'."
        raise WrongValue(said, "Give seconds, or such as '5m'; -1: for ever.", param="keep_alive") from wrong


def truncates(body: Fields, rule: Rule) -> bool:
    """Whether what is over the context may be cut: as the request says, else as *rule* does. Raises Invalid."""
    said = body.flag("truncate")
    return bool(rule.request.get("truncate")) if said is None else said


def pictures(fields: Fields, media: Media) -> tuple[Picture, ...]:
    """Those in `images`, base64 each."""
    given = fields.array("images") or ()
    return tuple(media.picture(item, f"{fields.path('images')}[{at}]") for at, item in enumerate(given))


def manner(body: Fields, rule: Rule, template: str = "") -> tuple[bool | None, dict[str, Any]]:
    """Whether to think, None: as the model does; and variables for its chat template, which may be another: *template*,
    in Go's language, or that of *rule*. Raises Invalid.
    """
    thinking, options = read_template(Fields(rule.request))
    if rule.request.get("chat_template"):
        options["chat_template"] = rule.request["chat_template"]
    if template:
        options["chat_template"] = gotemplate.jinja(template)
    wanted = think(body)
    if wanted is None:
        return thinking, options
    options.pop("reasoning_effort", None)
    return bool(wanted), options | ({"reasoning_effort": wanted} if isinstance(wanted, str) else {})


def think(body: Fields) -> bool | str | None:
    """The field of that name. Raises Invalid in Ollama's words."""
    value = body.data.get("think")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and value in EFFORTS:
        return value
    shown = f'"{value[:100]}"' if isinstance(value, str) else str(value)[:100]
    said = f'invalid think value: {shown} (must be "max", "high", "medium", "low", true, or false).'
    raise WrongValue(said, param="think")
