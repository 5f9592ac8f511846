"""GET /api/tags: all models."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from anyform.dialect import Entry, Runtime, Server
from anyform_ollama_api.detail import details, metadata
from anyform_ollama_api.identity import called, digest, modified_s, moment


def listed(runtime: Runtime, entry: Entry) -> dict[str, Any]:
    """One model."""
    name = called(entry.name)
    return {
        "name": name,
        "model": name,
        "modified_at": moment(modified_s(entry)),
        "size": entry.size_bytes,
        "digest": digest(entry),
        "details": details(entry, metadata(runtime, entry)),
    }


def listing(runtime: Runtime) -> dict[str, Any]:
    """All models, whatever they do, the newest first."""
    entries = sorted(runtime.library.entries(), key=lambda entry: (-modified_s(entry), entry.name))
    return {"models": [listed(runtime, entry) for entry in entries]}


class Tags:
    """The resource."""

    def __init__(self, here: Server) -> None:
        self._here = here

    async def all(self) -> Response:
        return JSONResponse(await self._here.slow(listing, self._here.runtime))
