"""The server as FastAPI applications, one a port. Its own routes come first; then the plugins', each on its own."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from anyform import __version__
from anyform.contract.errors import Fault, Invalid
from anyform.contract.jobs import EditImage, Image, Speak, Transcribe, Translate, VaryImage
from anyform.http import (
    absent,
    chat,
    classification,
    completion,
    embedding,
    gallery,
    image,
    listener,
    multimodal,
    refusal,
    rerank,
    responses,
    speech,
    speechsocket,
    transcription,
)
from anyform.http.arrival import Bounded
from anyform.http.config import HttpConfig, Listener
from anyform.http.control import Control
from anyform.http.dialect import ANYFORM, OPENAI, Dialects
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
    """The application over *runtime*, which stays the caller's to close; so do *pulls*, which fetch models.

    `state.faces` has those of all listeners, the main one first, each with its `state.listener`; see `Ports`. Raises
    Invalid for a dialect that nothing speaks, and for a listener of which nothing says the port.
    """
    config = config or HttpConfig()
    service = Service(runtime, config, pulls)
    installed, sockets = Installed(service), speechsocket.Sockets(service)
    main = Listener(port=config.port, host=config.host, dialects=config.dialects)
    faces = [_face(service, installed, sockets, one) for one in (main, *config.listeners)]
    faces[0].state.faces = faces
    installed.add_routes()
    for face in faces:
        face.state.listener = _settled(face.state.listener, face.state.dialects, config)
    return faces[0]


def _settled(one: Listener, dialects: Dialects, config: HttpConfig) -> Listener:
    """*one* with its host and its port. Raises Invalid where nothing says which."""
    port = dialects.port if one.port is None else one.port
    if port is None:
        raise Invalid(
            f"the listener {listener.written(one) or 'without dialects'} has no port, and none is customary for it.",
            f"Give it one: --listen PORT={','.join(one.dialects) or 'DIALECT'}, or port in [[server.listeners]].",
        )
    return replace(one, host=one.host or config.host, port=port)


class Ports:
    """All listeners as one ASGI application: at whose socket a request came."""

    def __init__(self, first: FastAPI) -> None:
        """*first*: what `create` made."""
        self._first: FastAPI = first
        self._faces: dict[tuple[str, int], FastAPI] = {}

    def bind(self, sockets: Sequence[socket.socket]) -> None:
        """Which sockets the listeners have, in their order."""
        for sock, face in zip(sockets, self._first.state.faces, strict=True):
            self._faces[sock.getsockname()[:2]] = face

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        face = self._at(*scope["server"]) if self._faces and scope.get("server") else self._first
        await face(scope, receive, send)

    def _at(self, host: str, port: int) -> FastAPI:
        """Whoever listens at that address of this machine, or else at all of them."""
        everywhere = "::" if ":" in host else "0.0.0.0"  # an IPv4 address has colons too, where one socket has both
        return self._faces.get((host, port)) or self._faces.get((everywhere, port)) or self._first


def _face(service: Service, installed: Installed, sockets: speechsocket.Sockets, one: Listener) -> FastAPI:
    """The application of one listener."""
    config, dialects = service.config, Dialects(one.dialects)
    app = FastAPI(
        title="anyform",
        version=__version__,
        lifespan=partial(_lifespan, service),
        openapi_url="/openapi.json" if dialects.serves(ANYFORM) else None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service, app.state.dialects, app.state.listener = service, dialects, one
    app.state.sockets, app.state.events = sockets, service.watchers
    app.state.installed = installed
    if config.cors_origins:
        app.add_middleware(CORSMiddleware, allow_origins=config.cors_origins, allow_methods=["*"], allow_headers=["*"])
    app.add_middleware(Guard, config=replace(config, host=one.host or config.host), dialects=dialects)
    app.add_middleware(Bounded, arrivals=service.arrivals, dialects=dialects)
    refusal.add(app, dialects)
    if dialects.serves(OPENAI):
        _add_jobs(app, service)
        app.add_api_websocket_route(speechsocket.PATH, sockets.open)
        for path in absent.SOCKETS:
            app.add_api_websocket_route(path, absent.refuse)
        _add(app, (*_lookups(service), *_responses(service)))
    if dialects.serves(ANYFORM):
        _add(app, _own(service, installed))
    installed.add_face(app)
    return app


@asynccontextmanager
async def _lifespan(service: Service, app: FastAPI) -> AsyncIterator[None]:
    await service.threads.quick(service.gallery.sweep)
    yield
    close(service)


def close(service: Service) -> None:
    """The end of what serves."""
    service.gallery.close()
    service.metrics.close()
    service.close()
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


def _endpoint(service: Service, read: Read, task: str) -> Endpoint:
    async def answered(request: Request) -> Response:
        return await service.answer(request, read, task)

    return _counted(service, answered)


Endpoint = Callable[[Request], Awaitable[Response]]


def _counted(service: Service, answer: Endpoint) -> Endpoint:
    """*answer*, whose refusals are counted."""

    async def endpoint(request: Request) -> Response:
        try:
            return await answer(request)
        except Fault as refusal:
            service.metrics.refused(request.url.path, refusal)
            raise

    return endpoint


Routes = Sequence[tuple[str, str, Callable[..., Any]]]
"""Method, path, endpoint."""


def _lookups(service: Service) -> Routes:
    """OpenAI's resources that ask no model."""
    models = Models(service)
    return [
        ("GET", "/v1/models", models.all),
        ("GET", "/v1/audio/voices", Voices(service).all),
        ("GET", f"{gallery.PATH}{{name}}", gallery.Files(service.gallery, service.threads).one),
        ("GET", "/v1/models/{model:path}", models.one),
    ]


def _responses(service: Service) -> Routes:
    """Those that make responses, and tell of those that are kept."""
    made = responses.Responses(service)
    return [
        ("POST", "/v1/responses", _counted(service, made.create)),
        ("POST", "/v1/responses/input_tokens", _counted(service, made.count)),
        ("GET", "/v1/responses/{id}", made.one),
        ("DELETE", "/v1/responses/{id}", made.delete),
        ("POST", "/v1/responses/{id}/cancel", made.cancel),
        ("GET", "/v1/responses/{id}/input_items", made.inputs),
    ]


def _own(service: Service, installed: Installed) -> Routes:
    """The resources about the server itself."""
    health, control = Health(service), Control(service)
    registry, pull = Registry(service), Pull(service)
    return [
        ("GET", "/health", health.live),
        ("GET", "/ready", health.ready),
        ("GET", "/metrics", Exposition(service).metrics),
        ("GET", "/runtime/events", service.watchers.events),
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


def _add(app: FastAPI, routes: Routes) -> None:
    for method, path, endpoint in routes:
        app.add_api_route(path, endpoint, methods=[method], response_model=None)
        if method == "GET":
            app.add_api_route(path, endpoint, methods=["HEAD"], response_model=None, include_in_schema=False)
