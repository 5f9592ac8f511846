"""What an application that fails by itself tells."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.testclient import TestClient

from anyform.http import refusal
from anyform.http.dialect import Dialects


def test_a_bug_is_told_and_ends_the_connection_as_the_server_does() -> None:
    app = FastAPI()
    refusal.add(app, Dialects(()))

    @app.get("/v1/broken")
    async def broken() -> None:
        raise ZeroDivisionError("oh")

    answer = TestClient(app, raise_server_exceptions=False).get("/v1/broken")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert answer.headers["connection"] == "close", "else a client sends its next request into a closed connection"
