"""DELETE /api/delete: forget a model, and its files where no other needs them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from anyform.contract.errors import Fault, Invalid, RefusedRequest
from anyform.dialect import Fields, Server
from anyform_ollama_api import naming

NOT_OURS = "not_ours"
"""The code of the refusal to delete what a person, or another program, keeps; its words say where."""


class Deletion:
    """The resource."""

    def __init__(self, here: Server) -> None:
        self._here = here

    async def delete(self, request: Request) -> Response:
        """Only what was made or pulled here: files that a person put there are theirs."""
        body = Fields((await self._here.body(request)).values)
        name = naming.said(body)
        if not naming.is_name(name):
            raise Invalid(f'name "{name[:100]}" is invalid.', "Give the name of a model.", param="model")
        try:
            await self._here.slow(self._here.recipes.delete, naming.own(name))
        except Fault as refused:
            if refused.code != NOT_OURS:
                raise
            raise RefusedRequest(f"{name} was not put here by anyform.", refused.hint, model=name) from None
        return Response()
