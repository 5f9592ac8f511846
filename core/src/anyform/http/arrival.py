"""Requests that would never end by themselves: a body that stays away, and what still runs when the server stops."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anyform.contract.errors import Area, Category, Closed, Fault
from anyform.http.dialect import Dialects

WAIT_S = 60


class BodyLate(Fault):
    """A body of which nothing came for too long."""

    code = "request_timeout"
    category, area = Category.INVALID, Area.NETWORK
    status = 408


class Arrivals:
    """The bodies that are being waited for. One event loop's own: never touched from a thread."""

    def __init__(self, wait_s: float = WAIT_S) -> None:
        self.wait_s = wait_s
        """How long a body may pause."""
        self._waits: set[asyncio.Timeout] = set()
        self._stopped = False

    def stop(self) -> None:
        """Wait no longer, now and from now on."""
        self._stopped = True
        for wait in [wait for wait in self._waits if not wait.expired()]:
            wait.reschedule(asyncio.get_running_loop().time())

    async def next(self, receive: Receive) -> Message:
        """The next message of a body. Raises BodyLate, and Closed when the server stops."""
        if self._stopped:
            raise stopping()
        try:
            async with asyncio.timeout(self.wait_s) as wait:
                self._waits.add(wait)
                try:
                    return await receive()
                finally:
                    self._waits.discard(wait)
        except TimeoutError:
            if self._stopped:
                raise stopping() from None
            raise BodyLate(
                f"Nothing of the request body came for {self.wait_s:g} seconds.", "Send as much as Content-Length says."
            ) from None


class Bounded:
    """ASGI middleware: no request waits for its body without bound, and none that the server cancels is an error."""

    def __init__(self, app: ASGIApp, arrivals: Arrivals, dialects: Dialects | None = None) -> None:
        """*dialects*: in whose form it refuses."""
        self._app, self._dialects = app, dialects or Dialects()
        self._arrivals = arrivals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        whole = begun = False

        async def bounded() -> Message:
            """Once the body is whole, only the client's hanging up is left to wait for, however long it takes."""
            nonlocal whole
            message = await (receive() if whole else self._arrivals.next(receive))
            whole = not message.get("more_body", False)
            return message

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, bounded, noted)
        except asyncio.CancelledError:
            if not begun:  # else uvicorn closes the connection, so that half an answer does not pass for a whole one
                await self._dialects.of(str(scope.get("path", ""))).refusal(stopping())(scope, receive, send)


def stopping() -> Closed:
    """What every request is told that a stop of the server ends."""
    return Closed("The server is stopping.", "Ask again later.")
