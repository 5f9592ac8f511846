"""Streams of what is being done, one JSON object a line; the last says `success`, or what went wrong."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from starlette.responses import JSONResponse, Response, StreamingResponse

from anyform.contract.errors import Fault
from anyform.dialect import NDJSON, Fields, dumps
from anyform_ollama_api.form import DIALECT

Step = dict[str, Any]
Steps = AsyncGenerator[Step, None]
SUCCESS: Step = {"status": "success"}


async def answer(body: Fields, steps: Steps) -> Response:
    """*steps* as a stream, or all of them at once where a request does not want one.

    What is wrong before the first of them is told by the status; and all that is, where it is not a stream.
    """
    whole = body.flag("stream") is False
    first = await anext(steps)
    if whole:
        async for _ in steps:
            pass
        return JSONResponse(SUCCESS)
    return StreamingResponse(_lines(first, steps), media_type=NDJSON)


async def _lines(first: Step, steps: Steps) -> AsyncIterator[bytes]:
    async with aclosing(steps):
        try:
            yield _line(first)
            async for step in steps:
                yield _line(step)
            yield _line(SUCCESS)
        except Fault as fault:
            yield DIALECT.ending(fault)


def _line(step: Step) -> bytes:
    return dumps(step).encode("ascii") + b"\n"
