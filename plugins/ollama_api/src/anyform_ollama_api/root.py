"""GET / and /api/version: by which clients know the server."""

from __future__ import annotations

from starlette.responses import JSONResponse, PlainTextResponse, Response

from anyform_ollama_api.form import VERSION


class Root:
    """The resources."""

    async def running(self) -> Response:
        return PlainTextResponse("Ollama is running")

    async def version(self) -> Response:
        return JSONResponse({"version": VERSION})
