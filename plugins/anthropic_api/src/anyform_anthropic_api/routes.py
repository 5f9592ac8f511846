"""Which route is whose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from anyform.contract.hooks import Routes
from anyform.dialect import Fields, Server, UnknownRoute, Written, server
from anyform_anthropic_api import model, request
from anyform_anthropic_api.form import DIALECT, PATH

MODELS = "/v1/models"


def add(routes: Routes) -> None:
    """All of them. Those of models come behind OpenAI's of the same path, where a listener has these too."""
    here = server(routes)
    here.speak(DIALECT)
    messages = Messages(here)
    routes.add_api_route(PATH, messages.create, methods=["POST"], response_model=None)
    routes.add_api_route(f"{PATH}/count_tokens", messages.count, methods=["POST"], response_model=None)
    for path, endpoint in ((MODELS, messages.models), (f"{MODELS}/{{model:path}}", messages.model)):
        routes.add_api_route(path, endpoint, methods=["GET"], response_model=None, include_in_schema=False)
    for path in (f"{PATH}/batches", f"{PATH}/batches/{{id}}", f"{PATH}/batches/{{id}}/{{what}}"):
        routes.add_api_route(path, messages.no_batches, methods=["GET", "POST", "DELETE"], include_in_schema=False)


class Messages:
    """The resources."""

    def __init__(self, here: Server) -> None:
        self._here = here

    async def create(self, asked: Request) -> Response:
        return await self._here.answer(asked, await self._here.body(asked), request.read, DIALECT)

    async def count(self, asked: Request) -> Response:
        tokens = await self._here.count(asked, await self._here.body(asked), request.counted)
        return JSONResponse({"input_tokens": tokens})

    async def models(self, asked: Request) -> Response:
        query: Mapping[str, Any] = {name: Written(value) for name, value in asked.query_params.items()}
        return JSONResponse(await self._here.quick(model.listed, self._here.runtime, Fields(query)))

    async def model(self, asked: Request) -> Response:
        entry = await self._here.find(asked.path_params["model"])
        return JSONResponse(await self._here.quick(model.described, self._here.runtime, entry))

    async def no_batches(self, asked: Request) -> Response:
        raise UnknownRoute(f"There are no batches here ({asked.method} {asked.url.path}).", f"Use POST {PATH}.")
