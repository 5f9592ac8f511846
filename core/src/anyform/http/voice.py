"""GET /v1/audio/voices: the voices of the models that speak. None is loaded for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from anyform.contract.errors import Fault, Unsupported
from anyform.contract.jobs import Speak
from anyform.http import able

if TYPE_CHECKING:
    from anyform.contract.facts import Metadata
    from anyform.http.service import Service
    from anyform.kernel.entry import Entry
    from anyform.kernel.runtime import Runtime


def speaking(runtime: Runtime) -> Iterator[tuple[Entry, Metadata]]:
    """All models that speak. Reads those of which nothing is known yet."""
    for entry in runtime.library.entries():
        try:
            metadata = runtime.metadata(entry)
        except Fault:  # unreadable, which is told of where it is asked for
            continue
        if Speak.task in metadata.tasks:
            yield entry, metadata


def listed(model: str, metadata: Metadata) -> list[dict[str, Any]]:
    """The voices of one model, as it names them."""
    return [
        {
            "id": voice["id"],
            "name": voice.get("name") or voice["id"],
            "language": voice.get("language", ""),
            "model": model,
        }
        for voice in metadata.extra.get("voices", ())
    ]


def _all(runtime: Runtime) -> list[dict[str, Any]]:
    return [voice for entry, metadata in speaking(runtime) for voice in listed(entry.name, metadata)]


def _one(runtime: Runtime, entry: Entry) -> list[dict[str, Any]]:
    metadata = runtime.metadata(entry)
    if Speak.task in metadata.tasks:
        return listed(entry.name, metadata)
    refusal = Unsupported(f"{entry.name} does not speak.", param="model", tasks=list(metadata.tasks))
    raise able.told(runtime, refusal, Speak.task)


class Voices:
    """The resource."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def all(self, request: Request) -> Response:
        """Those of all models, or of the one that `model` names."""
        service, model = self._service, request.query_params.get("model", "")
        if model:
            found = await service.threads.slow(_one, service.runtime, await service.find(model))
        else:
            found = await service.threads.slow(_all, service.runtime)
        return JSONResponse({"object": "list", "data": found})
