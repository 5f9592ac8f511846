"""GET /v1/models and /v1/models/{id}: what the library has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from anyform.sources.derived import Derived

if TYPE_CHECKING:
    from anyform.http.service import Service
    from anyform.kernel.entry import Entry
    from anyform.kernel.runtime import Runtime

OWNER = "anyform"


def describe(entry: Entry) -> dict[str, Any]:
    """OpenAI's model object; `created` is when the model's files, or what it was created of, were last changed."""
    return {"id": entry.name, "object": "model", "created": _changed(entry), "owned_by": OWNER}


def _changed(entry: Entry) -> int:
    if isinstance(entry, Derived):
        return int(entry.recipe.modified_s)
    try:
        return int(os.stat(os.path.join(entry.path, entry.match.entry)).st_mtime)
    except OSError:
        return 0


def listing(runtime: Runtime) -> dict[str, Any]:
    """All models by name."""
    return {"object": "list", "data": [describe(runtime.find(name)) for name in runtime.names()]}


class Models:
    """The two resources."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def all(self) -> Response:
        return JSONResponse(await self._service.threads.quick(listing, self._service.runtime))

    async def one(self, request: Request) -> Response:
        entry = await self._service.find(request.path_params["model"])
        return JSONResponse(describe(entry))
