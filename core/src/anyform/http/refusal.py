"""Refuses what went wrong outside of a resource, or inside of one that says so by raising, in the right form."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route

from anyform.contract.errors import Fault
from anyform.http import absent, fault, fields
from anyform.http.dialect import OPENAI, Dialects


def add(app: FastAPI, dialects: Dialects) -> None:
    """Have every refusal of *app*, the framework's own included, be in the form of the dialect that has the path; one
    that nobody has is answered as the first of the listener's dialects does.
    """

    def refused(request: Request, error: Fault) -> Response:
        return dialects.of(request.url.path).refusal(error)

    @app.exception_handler(Fault)
    async def known(request: Request, error: Fault) -> Response:
        fault.tell(error, request.url.path)
        return refused(request, error)

    @app.exception_handler(HTTPException)
    async def routing(request: Request, error: HTTPException) -> Response:
        made = _routed(request, error, dialects)
        made.headers.update(error.headers or {})
        if error.status_code == 405 and "allow" in made.headers:
            made.headers["allow"] = ", ".join(_methods(request)) or made.headers["allow"]
        return made

    @app.exception_handler(RequestValidationError)
    async def validation(request: Request, error: RequestValidationError) -> Response:
        return refused(request, _invalid(error))

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # which nobody will read

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        made = refused(request, fault.unforeseen(error))
        made.headers["connection"] = "close"  # which the server does, as the error goes on to it: for its log
        return made


def _routed(request: Request, error: HTTPException, dialects: Dialects) -> Response:
    """The answer to what no route serves, or to what a plugin's resource refuses as the framework lets it."""
    status, method, path = error.status_code, request.method, request.url.path
    if said := _said(error):
        return dialects.of(path).refusal(fault.from_status(status, method, path, said))
    absence = absent.missed(method, path) if status in (404, 405) and dialects.serves(OPENAI) else None
    if absence is not None:
        return dialects.of(path).refusal(absence)
    made = dialects.unknown(method, path, status == 405) if status in (404, 405) else None
    if made is not None:
        return made
    nearest = dialects.of(path)
    owner = nearest.name if nearest.has(path) else OPENAI
    return nearest.refusal(fault.from_status(status, method, path, spoken=dialects.wanted, owner=owner))


def _said(error: HTTPException) -> str:
    """What a plugin's resource says beyond the status."""
    try:
        usual = HTTPStatus(error.status_code).phrase
    except ValueError:
        usual = ""
    return "" if error.detail in (usual, None) else str(error.detail)


def _methods(request: Request) -> list[str]:
    """Those that the path takes, by any route: each of them alone knows its own."""
    routes = [route for route in request.app.router.routes if isinstance(route, Route)]
    found = [route.methods or () for route in routes if route.matches(request.scope)[0] != Match.NONE]
    return sorted({method for methods in found for method in methods})


def _invalid(error: RequestValidationError) -> Fault:
    """The first complaint of a plugin's own pydantic model."""
    first: dict[str, Any] = next(iter(error.errors()), {})
    param = ".".join(str(part) for part in first.get("loc", ()) if part != "body")
    return fields.WrongValue(f"Invalid '{param}': {first.get('msg', 'not valid')}.", param=param)
