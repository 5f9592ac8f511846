"""POST /api/copy: a model under another name too."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from anyform.contract.errors import Invalid
from anyform.dialect import Fields, Server
from anyform_ollama_api import naming


class Copying:
    """The resource."""

    def __init__(self, here: Server) -> None:
        self._here = here

    async def copy(self, request: Request) -> Response:
        body = Fields((await self._here.body(request)).values)
        source, target = (_name(body, field) for field in ("source", "destination"))
        await self._here.slow(self._here.recipes.copy, naming.own(source), naming.own(target))
        return Response()


def _name(body: Fields, field: str) -> str:
    name = body.text(field) or ""
    if not naming.is_name(name):
        raise Invalid(f'{field} "{name[:100]}" is invalid.', "Give the name of a model.", param=field)
    return name
