"""/registry/pull: fetch models over HTTP, watch it as server-sent events, stop it."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from anyform.contract.errors import Fault, ModelNotFound, Overloaded, RefusedRequest
from anyform.http import body, fault, reply
from anyform.http.fields import Fields
from anyform.sources import hubname
from anyform.sources.hubpull import Wish
from anyform.sources.hubpulls import Pulls, Running

if TYPE_CHECKING:
    from anyform.http.service import Service

UNKNOWN_S = 30
"""When to try again, while nothing tells how long a pull takes."""


def wish(fields: Fields) -> Wish:
    """What a body asks for: `model`, and `include` or `files` for anything but a model's own files."""
    return Wish(
        reference=hubname.require(fields.need_text("model")),
        include=fields.strings("include") or (),
        names=fields.strings("files") or (),
    )


def progress(running: Running) -> dict[str, Any]:
    """One pull, as it stands."""
    said: dict[str, Any] = asdict(running.state)
    if running.pulled is not None:
        said |= {"name": running.pulled.name, "files": list(running.pulled.files)}
        said |= {"revision": running.pulled.revision, "size_bytes": running.pulled.size_bytes}
    if running.fault is not None:
        said |= fault.body(running.fault)
    return said


class Pull:
    """The resources."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def start(self, request: Request) -> Response:
        """Start a pull, or join the one that runs. It goes on when its watchers hang up."""
        fields = Fields(body.parse(await body.read(request, self._service.config.body_bytes)))
        running = await self._service.threads.quick(self._pulls().start, wish(fields))
        if fields.flag("stream") is False:
            return JSONResponse(progress(running), 202)
        return StreamingResponse(
            self._events(running),
            media_type=reply.SSE,
            headers={"cache-control": "no-cache", "x-accel-buffering": "no"},
        )

    async def all(self) -> Response:
        return JSONResponse({"pulls": [progress(running) for running in self._pulls().all()]})

    async def cancel(self, request: Request) -> Response:
        model = str(hubname.require(request.path_params["model"]))
        stopped = self._pulls().cancel(model)
        if not stopped:
            raise ModelNotFound(f"no pull of {model} is running.", "GET /registry/pull lists them.")
        return JSONResponse({"status": "cancelled", "model": model})

    def _pulls(self) -> Pulls:
        if self._service.pulls is None:
            raise RefusedRequest("this server fetches no models.", "Use `anyform pull` where it runs.")
        return self._service.pulls

    async def _events(self, running: Running) -> AsyncIterator[bytes]:
        states: Iterator[object] = running.states()
        while await self._service.threads.slow(partial(next, states, None)) is not None:
            if not running.ended:
                yield reply.sse(progress(running))
        yield reply.sse(progress(running))
        yield b"data: [DONE]\n\n"


async def bring(service: Service, model: str, absent: Fault) -> None:
    """Pull *model* on request, where the server may; nothing is answered meanwhile, since a 200 would promise that the
    prompt is accepted. Raises *absent* with the command to type where it may not, Overloaded, and what ends the pull.
    """
    reference = hubname.parsed(model)
    if reference is None:
        raise absent
    if service.pulls is None or not service.pulls.on_request:
        raise ModelNotFound(absent.message, f"Fetch it with `anyform pull {reference}`. {absent.hint}", model=model)
    running = await service.threads.quick(service.pulls.start, Wish(reference=reference))
    name = running.state.model
    if service.awaiting[name] >= service.config.queue:
        raise Overloaded(
            f"{service.awaiting[name]} requests wait for the pull of {name} already.",
            "GET /registry/pull says how far it is.",
            retry_after_s=max(1, math.ceil(running.state.left_s or UNKNOWN_S)),
        )
    service.awaiting[name] += 1
    try:
        await _ended(running)
    finally:
        service.awaiting -= Counter([name])


async def _ended(running: Running) -> None:
    """Until the pull has ended, without a thread: that takes minutes, and many may wait. Raises what ended it."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def settle() -> None:
        if not ended.done():
            ended.set_result(None)

    def tell() -> None:
        with suppress(RuntimeError):  # the loop was closed, so nobody waits any more
            loop.call_soon_threadsafe(settle)

    running.when_ended(tell)
    await ended
    running.result()


def under_way(service: Service) -> list[dict[str, Any]]:
    """The pulls that run, each with how many requests wait for it."""
    pulls = service.pulls.all() if service.pulls is not None else []
    return [{**progress(one), "requests": service.awaiting[one.state.model]} for one in pulls if not one.ended]
