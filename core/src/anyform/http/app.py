"""The server as one FastAPI application. Its own routes come first; then the plugins', each on its own."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from anyform import __version__
from anyform.contract.errors import Fault
from anyform.contract.jobs import EditImage, Image, Speak, Transcribe, Translate, VaryImage
from anyform.http import (
    chat,
    classification,
    completion,
    embedding,
    fault,
    fields,
    gallery,
    image,
    multimodal,
    rerank,
    speech,
    speechsocket,
    transcription,
)
from anyform.http.arrival import Bounded
from anyform.http.config import HttpConfig
from anyform.http.control import Control
from anyform.http.guard import Guard
from anyform.http.hardware import Machine
from anyform.http.health import Health
from anyform.http.metrics import Exposition
from anyform.http.model import Models
from anyform.http.plugin import Installed
from anyform.http.pull import Pull
from anyform.http.registry import Registry
from anyform.http.reply import Ask
from anyform.http.service import Read, Service
from anyform.http.voice import Voices

if TYPE_CHECKING:
    from anyform.kernel.runtime import Runtime
    from anyform.sources.hubpulls import Pulls

log = logging.getLogger("anyform.http")
TASKS = {
    "/v1/audio/transcriptions": Transcribe.task,
    "/v1/audio/translations": Translate.task,
    "/v1/audio/speech": Speak.task,
    "/v1/images/generations": Image.task,
    "/v1/images/edits": EditImage.task,
    "/v1/images/variations": VaryImage.task,
}
"""Resources that few models serve: who names none means one that does."""


def create(runtime: Runtime, config: HttpConfig | None = None, pulls: Pulls | None = None) -> FastAPI:
    """The application over *runtime*, which stays the caller's to close; so do *pulls*, which fetch models."""
    config = config or HttpConfig()
    service = Service(runtime, config, pulls)
    app = FastAPI(
        title="anyform",
        version=__version__,
        lifespan=partial(_lifespan, service),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    if config.cors_origins:
        app.add_middleware(CORSMiddleware, allow_origins=config.cors_origins, allow_methods=["*"], allow_headers=["*"])
    app.add_middleware(Guard, config=config)
    app.add_middleware(Bounded, arrivals=service.arrivals)
    _add_faults(app)
    _add_jobs(app, service)
    app.state.sockets = speechsocket.Sockets(service)
    app.add_api_websocket_route(speechsocket.PATH, app.state.sockets.open)
    app.state.events, installed = service.watchers, Installed(service, app)
    _add_rest(app, service, installed)
    installed.add_routes()
    return app


@asynccontextmanager
async def _lifespan(service: Service, app: FastAPI) -> AsyncIterator[None]:
    await service.threads.quick(service.gallery.sweep)
    yield
    service.gallery.close()
    service.metrics.close()
    service.threads.close()


def _add_jobs(app: FastAPI, service: Service) -> None:
    """Resources whose body becomes a job."""
    reads: dict[str, Read] = {
        "/v1/chat/completions": chat.read,
        "/v1/completions": _without(completion.read),
        "/v1/embeddings": embedding.read,
        "/v1/rerank": _without(rerank.read),
        "/rerank": _without(rerank.read),
        "/v1/classify": classification.read,
        "/v1/vision/classify": classification.read_pictures,
        "/v1/vision/clip": classification.read_clip,
        "/v1/multimodal/caption": multimodal.read_caption,
        "/v1/multimodal/vqa": multimodal.read_answer,
        "/v1/audio/transcriptions": transcription.read,
        "/v1/audio/translations": transcription.read_translation,
        "/v1/audio/speech": partial(speech.read, letters=service.config.speech_letters),
        "/v1/images/generations": partial(image.read, gallery=service.gallery),
        "/v1/images/edits": partial(image.read_edit, gallery=service.gallery),
        "/v1/images/variations": partial(image.read_variation, gallery=service.gallery),
    }
    for path, read in reads.items():
        endpoint = _endpoint(service, read, TASKS.get(path, ""))
        app.add_api_route(path, endpoint, methods=["POST"], response_model=None)


def _without(read: Callable[[Mapping[str, Any]], Ask]) -> Read:
    """*read* of a resource that knows no media."""
    return lambda body, media: read(body)


def _endpoint(service: Service, read: Read, task: str) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            return await service.answer(request, read, task)
        except Fault as refusal:
            service.metrics.refused(request.url.path, refusal)
            raise

    return endpoint


def _add_rest(app: FastAPI, service: Service, installed: Installed) -> None:
    models, health, control = Models(service), Health(service), Control(service)
    registry, pull = Registry(service), Pull(service)
    routes: list[tuple[str, str, Callable[..., Any]]] = [
        ("GET", "/v1/models", models.all),
        ("GET", "/v1/audio/voices", Voices(service).all),
        ("GET", f"{gallery.PATH}{{name}}", gallery.Files(service.gallery, service.threads).one),
        ("GET", "/v1/models/{model:path}", models.one),
        ("GET", "/health", health.live),
        ("GET", "/ready", health.ready),
        ("GET", "/metrics", Exposition(service).metrics),
        ("GET", "/runtime/events", app.state.events.events),
        ("GET", "/runtime/hardware", Machine(service).hardware),
        ("GET", "/runtime/plugins", installed.plugins),
        ("POST", "/runtime/plugins/refresh", installed.refresh),
        ("GET", "/runtime/status", control.status),
        ("POST", "/runtime/load/{model:path}", control.load),
        ("POST", "/runtime/unload/{model:path}", control.unload),
        ("GET", "/runtime/explain/{model:path}", control.explain),
        ("GET", "/registry/validate/{model:path}", control.validate),
        ("GET", "/registry/models", registry.models),
        ("GET", "/registry/models/{model:path}", registry.model),
        ("GET", "/registry/suggestions", registry.suggestions),
        ("GET", "/registry/pull", pull.all),
        ("POST", "/registry/pull", pull.start),
        ("DELETE", "/registry/pull/{model:path}", pull.cancel),
    ]
    for method, path, endpoint in routes:
        app.add_api_route(path, endpoint, methods=[method], response_model=None)
        if method == "GET":
            app.add_api_route(path, endpoint, methods=["HEAD"], response_model=None, include_in_schema=False)


def _add_faults(app: FastAPI) -> None:
    """Every refusal, the framework's own included, in OpenAI's form."""

    @app.exception_handler(Fault)
    async def known(request: Request, error: Fault) -> Response:
        fault.tell(error, request.url.path)
        return fault.response(error)

    @app.exception_handler(HTTPException)
    async def routing(request: Request, error: HTTPException) -> Response:
        made = fault.response(fault.from_status(error.status_code, request.method, request.url.path))
        made.headers.update(error.headers or {})
        return made

    @app.exception_handler(RequestValidationError)
    async def validation(request: Request, error: RequestValidationError) -> Response:
        return fault.response(_invalid(error))

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # which nobody will read

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        return fault.response(fault.unforeseen(error))


def _invalid(error: RequestValidationError) -> Fault:
    """The first complaint of a plugin's own pydantic model."""
    first: dict[str, Any] = next(iter(error.errors()), {})
    param = ".".join(str(part) for part in first.get("loc", ()) if part != "body")
    return fields.WrongValue(f"Invalid '{param}': {first.get('msg', 'not valid')}.", param=param)
