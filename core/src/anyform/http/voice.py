"""GET /v1/audio/voices: the voices of the models that speak. None is loaded for it."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from anyform.contract.errors import Unsupported
from anyform.contract.jobs import Speak
from anyform.http import able
from anyform.http.fields import wrong

if TYPE_CHECKING:
    from anyform.contract.facts import Metadata
    from anyform.http.service import Service
    from anyform.kernel.entry import Entry
    from anyform.kernel.runtime import Runtime


SHOWN = 60
"""Voices that a refusal names."""
_WEIGHT = re.compile(r"\([^()]*\)")


def listed(model: str, metadata: Metadata, language: str = "") -> list[dict[str, Any]]:
    """The voices of one model, as it names them; of a *language*, such as en or en-GB, or all."""
    return [
        {
            "id": voice["id"],
            "name": voice.get("name") or voice["id"],
            "language": voice.get("language", ""),
            "model": model,
        }
        for voice in metadata.extra.get("voices", ())
        if _is_of(str(voice.get("language", "")), language)
    ]


def _is_of(spoken: str, language: str) -> bool:
    return not language or f"{spoken}-".lower().startswith(f"{language}-".lower())


def check(metadata: Metadata, voice: str, speed: float) -> None:
    """Refuse what the model is known not to have; of what is not known here it decides itself. Raises WrongValue."""
    names = [str(one["id"]) for one in metadata.extra.get("voices", ())]
    if names and voice not in names:
        for name in _WEIGHT.sub("", voice).replace("+", " ").split():  # a blend: af_heart(2)+af_bella(1)
            if name not in names:
                near = get_close_matches(name[:100].lower(), names, n=3, cutoff=0.5)
                told = f"Near it are {', '.join(near)}." if near else f"There are {', '.join(names[:SHOWN])}."
                wrong("voice", f"there is no voice {name[:60]!r}", told)
    speeds = metadata.extra.get("speeds", ())
    if len(speeds) == 2 and not speeds[0] <= speed <= speeds[1]:
        wrong("speed", f"{speed:g}", f"This model speaks at {speeds[0]:g} to {speeds[1]:g}.")


def known(runtime: Runtime, entry: Entry) -> Metadata:
    """What is known of a model that speaks. Raises Unsupported, which names those that do."""
    metadata = runtime.metadata(entry)
    if Speak.task in metadata.tasks:
        return metadata
    refusal = Unsupported(f"{entry.name} does not speak.", param="model", tasks=list(metadata.tasks))
    raise able.told(runtime, refusal, Speak.task)


def _all(runtime: Runtime, language: str) -> list[dict[str, Any]]:
    speaking = able.doing(runtime, Speak.task)
    return [voice for entry, metadata in speaking for voice in listed(entry.name, metadata, language)]


def _one(runtime: Runtime, entry: Entry, language: str) -> list[dict[str, Any]]:
    return listed(entry.name, known(runtime, entry), language)


class Voices:
    """The resource."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def all(self, request: Request) -> Response:
        """Those of all models, or of the one that `model` names; of all languages, or of `language`."""
        service, model = self._service, request.query_params.get("model", "")
        language = request.query_params.get("language", "").strip()
        if model:
            found = await service.threads.slow(_one, service.runtime, await service.find(model), language)
        else:
            found = await service.threads.slow(_all, service.runtime, language)
        return JSONResponse({"object": "list", "data": found})
