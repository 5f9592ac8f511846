"""POST /api/push: refused, since there is nowhere to publish to."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from anyform.contract.errors import Unsupported
from anyform.dialect import Fields, Server
from anyform_ollama_api import naming


class NoRegistry(Unsupported):
    """Models cannot be published from here."""

    code = "ollama_api.no_registry"
    status = 501


class Push:
    """The resource."""

    def __init__(self, here: Server) -> None:
        self._here = here

    async def push(self, request: Request) -> Response:
        body = Fields((await self._here.body(request)).values)
        body.flag("stream")
        body.flag("insecure")
        entry = await naming.find(self._here, naming.wanted(body))
        raise NoRegistry(
            f"{entry.name} is not pushed: this server publishes no models.",
            "Upload its files to the Hugging Face hub with `hf upload`; others pull them by owner/repo.",
            model=entry.name,
        )
