"""Requests whose body pauses, and those that the server cancels."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from anyform.http.arrival import Arrivals, Bounded

WAIT_S = 0.01


def cancelled(app: ASGIApp) -> list[Any]:
    """What is sent when a request to *app* is cancelled once it has begun to wait."""
    sent: list[Any] = []

    async def never() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> None:
        task = asyncio.ensure_future(Bounded(app, Arrivals())({"type": "http"}, never, send))
        await asyncio.sleep(0)
        task.cancel()
        await task

    asyncio.run(run())
    return sent


def test_a_cancelled_request_is_answered_that_the_server_stops() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    start, body = cancelled(app)
    assert start["status"] == 503
    assert b'"closed"' in body["body"]


def test_an_answer_that_was_cut_is_not_ended_as_if_it_were_whole() -> None:
    begin = {"type": "http.response.start", "status": 200, "headers": []}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(begin)
        await receive()

    assert cancelled(app) == [begin]


def test_once_the_body_is_whole_a_client_is_watched_for_as_long_as_it_stays() -> None:
    messages = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.request", "body": b"}", "more_body": False},
        {"type": "http.disconnect"},
    ]
    came: list[Any] = []

    async def receive() -> Any:
        if len(came) == 2:
            await asyncio.sleep(5 * WAIT_S)
        return messages[len(came)]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in messages:
            came.append(await receive())

    async def send(message: Any) -> None: ...

    asyncio.run(Bounded(app, Arrivals(WAIT_S))({"type": "http"}, receive, send))
    assert came == messages
