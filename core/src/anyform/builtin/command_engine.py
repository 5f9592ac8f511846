"""A running command as a loaded model: jobs become HTTP requests, server-sent events become events."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

from anyform.builtin.openai import Answers, ServerError, fault, request, scores, usage, vectors
from anyform.builtin.process import HOST, Server
from anyform.contract.errors import Closed, Fault, WorkerDied
from anyform.contract.events import Done, Event, Finish, Progress, Usage
from anyform.contract.jobs import Chat, Complete, Job, Rerank
from anyform.contract.model import Stop

HANGUP_S = 1.0
"""A process that died closes its connections a little before its exit can be seen."""


class CommandModel:
    """One connection a request; to cancel is to hang up."""

    def __init__(self, server: Server, name: str, find_name: bool, parallel: int) -> None:
        """*name*: what requests call the model; with *find_name*, only if the server does not say."""
        self.parallel = parallel
        self._server = server
        self._name = self._served() or name if find_name else name

    def generate(self, job: Job, stop: Stop) -> Iterator[Event]:
        path, body = request(job, self._name)
        with _Exchange(self._server.port, stop) as exchange:
            try:
                began = time.monotonic()
                response = exchange.ask(path, body)
                yield Progress(stage="prompt")
                if isinstance(job, Chat | Complete):
                    yield from _streamed(response, job.generation.n, began, exchange)
                else:
                    yield from _whole(job, response, exchange)
            except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
                if not stop.is_set() or self._server.closed.is_set():
                    raise self._broken(error) from error
                count = job.generation.n if isinstance(job, Chat | Complete) else 1
                yield Done(finishes=(Finish(reason="cancelled"),) * count)

    def alive(self) -> bool:
        """Whether the command still runs."""
        return self._server.alive()

    def close(self) -> None:
        self._server.close()

    def _served(self) -> str:
        connection = http.client.HTTPConnection(HOST, self._server.port, timeout=5)
        try:
            connection.request("GET", "/v1/models")
            return str(json.loads(connection.getresponse().read())["data"][0]["id"])
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
            return ""
        finally:
            connection.close()

    def _broken(self, error: Exception) -> Fault:
        if self._server.closed.is_set():
            return Closed(f"{self._name} was closed while it answered.", "Open it again.")
        if self._server.ends_within(HANGUP_S):
            said = self._server.last_lines()
            return WorkerDied(f"the command {self._server.ending()}.", "Load it again.", output=said)
        return ServerError(f"the command's server gave no proper answer: {type(error).__name__}: {error}.")


class _Exchange:
    """One request and its answer on a connection of its own, cut when *stop* is set."""

    def __init__(self, port: int, stop: Stop) -> None:
        self._connection = http.client.HTTPConnection(HOST, port)
        self._stop = stop
        self._response: http.client.HTTPResponse | None = None

    def __enter__(self) -> _Exchange:
        return self

    def __exit__(self, *_: object) -> None:
        if self._response is not None:
            self._response.close()
        self._connection.close()

    @property
    def cancelled(self) -> bool:
        return self._stop.is_set()

    def ask(self, path: str, body: Mapping[str, Any]) -> http.client.HTTPResponse:
        """POST *body*; the answer once its head has come. Raises the fault of an error answer."""
        self._connection.connect()
        sock = self._connection.sock
        self._stop.when_set(lambda: _cut(sock))
        self._connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        self._response = response = self._connection.getresponse()
        if response.status != 200:
            raise fault(response.status, _object(response.read()), response.getheader("Retry-After", ""))
        return response


def _cut(sock: socket.socket) -> None:
    """End both directions, which wakes whoever reads."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _streamed(response: http.client.HTTPResponse, count: int, began: float, exchange: _Exchange) -> Iterator[Event]:
    answers = Answers(count)
    for chunk in _chunks(response):
        yield from answers.read(chunk)
        if exchange.cancelled:
            break
    if not answers.complete() and not exchange.cancelled:
        raise http.client.HTTPException("the stream ended before the answer did")
    yield Done(finishes=answers.ended(), usage=answers.usage, generate_s=time.monotonic() - began)


def _whole(job: Job, response: http.client.HTTPResponse, exchange: _Exchange) -> Iterator[Event]:
    body = json.loads(response.read())
    if isinstance(job, Rerank):
        yield scores(body, len(job.documents))
    else:
        yield from vectors(body)
    spent = usage(body.get("usage") or {})
    yield Done(finishes=(Finish(),), usage=Usage(prompt_tokens=spent.prompt_tokens))


def _chunks(response: http.client.HTTPResponse) -> Iterator[Mapping[str, Any]]:
    """The JSON objects of a stream of server-sent events, up to [DONE]."""
    for line in response:
        field, _, value = line.decode("utf-8", "replace").strip().partition(":")
        if field == "data" and value.strip() == "[DONE]":
            return
        if field == "data" and value.strip():
            yield _object(value)


def _object(text: str | bytes) -> Mapping[str, Any]:
    try:
        data = json.loads(text)
    except ValueError:
        said = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        return {"error": {"message": said[:500] or "an empty answer"}}
    return data if isinstance(data, dict) else {"error": {"message": str(data)[:500]}}
