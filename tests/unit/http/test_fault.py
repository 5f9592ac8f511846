"""Faults in OpenAI's error form."""

from __future__ import annotations

import json

import pytest

from anyform.contract.errors import (
    Category,
    Closed,
    ContextExceeded,
    EngineMissing,
    Fault,
    Invalid,
    LoadFailed,
    ModelNotFound,
    NoBackend,
    OutOfMemory,
    Overloaded,
    PluginFault,
    RefusedRequest,
    TooLarge,
    Unsupported,
    WorkerDied,
)
from anyform.http import fault


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (Invalid("x"), 400, "invalid_request_error", "invalid_request"),
        (Unsupported("x"), 400, "invalid_request_error", "unsupported"),
        (ContextExceeded("x"), 400, "invalid_request_error", "context_length_exceeded"),
        (NoBackend("x"), 400, "invalid_request_error", "no_backend"),
        (RefusedRequest("x"), 403, "invalid_request_error", "refused"),
        (ModelNotFound("x"), 404, "invalid_request_error", "model_not_found"),
        (TooLarge("x"), 413, "invalid_request_error", "too_large"),
        (Overloaded("x"), 429, "requests", "overloaded"),
        (PluginFault("p", "load", "x"), 500, "server_error", "plugin_error"),
        (fault.unforeseen(ZeroDivisionError("x")), 500, "server_error", "internal_error"),
        (WorkerDied("x"), 503, "server_error", "worker_died"),
        (OutOfMemory("x"), 503, "server_error", "out_of_memory"),
        (Closed("x"), 503, "server_error", "closed"),
        (fault.from_status(404, "GET", "/x"), 404, "invalid_request_error", "unknown_url"),
        (fault.from_status(405, "GET", "/x"), 405, "invalid_request_error", "method_not_supported"),
        (fault.from_status(418, "GET", "/x"), 418, "invalid_request_error", "internal_error"),
        (fault.WrongEncoding("x"), 415, "invalid_request_error", "unsupported_content_encoding"),
    ],
)
def test_status_type_and_code(error: Fault, status: int, kind: str, code: str) -> None:
    response = fault.response(error)
    body = json.loads(bytes(response.body))
    assert response.status_code == status
    assert (body["error"]["type"], body["error"]["code"], body["error"]["param"]) == (kind, code, None)
    assert set(body["error"]) == {"message", "type", "param", "code", *fault.MORE}


def test_every_category_has_a_status() -> None:
    assert set(fault.STATUS) == set(Category)


def test_the_message_is_what_happened_and_what_to_do() -> None:
    body = fault.body(Invalid("It is 3.", "Give 4.", param="x"))
    assert body["error"]["message"] == "It is 3. Give 4."
    assert body["error"]["param"] == "x"


def test_the_body_says_where_to_look_and_what_else_may_help() -> None:
    try:
        raise OutOfMemory("x needs 9 GiB.", "Ask for less.", suggestions=["Close y."], model="x") from OSError("full")
    except OutOfMemory as error:
        said = fault.body(error)["error"]
    assert {name: said[name] for name in fault.MORE} == {
        "category": "unavailable",
        "area": "memory",
        "severity": "warning",
        "part": "x",
        "cause": "OSError: full",
        "suggestions": ["Ask for less.", "Close y."],
    }


@pytest.mark.parametrize(
    ("error", "level"), [(Invalid("x"), "INFO"), (WorkerDied("x"), "WARNING"), (EngineMissing("x"), "ERROR")]
)
def test_the_log_has_one_line_of_it_as_loud_as_it_is_severe(
    error: Fault, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "anyform.http")
    fault.tell(error, "/v1/models")
    [record] = caplog.records
    assert (record.levelname, record.getMessage()) == (level, f"[{error.code} /v1/models] x")
    assert record.__dict__["fault"] == error.as_dict()


def test_what_a_program_printed_is_for_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    error = LoadFailed("it ended.", "Run it.", output="no /home/me/m.gguf\nbye")
    caplog.set_level("DEBUG", "anyform.http")
    fault.tell(error)
    assert caplog.records[0].getMessage() == "[load_failed] it ended. Run it. It printed last: no /home/me/m.gguf | bye"
    assert b"/home/me" not in fault.encode(error)


@pytest.mark.parametrize("param", [3, ["x"], None])
def test_param_is_a_string_or_null(param: object) -> None:
    assert fault.body(Invalid("x", param=param))["error"]["param"] is None


@pytest.mark.parametrize(("seconds", "header"), [(0, "1"), (2.1, "3"), (30, "30"), (float("nan"), "1"), ("x", "1")])
def test_a_full_queue_says_when_to_come_back(seconds: object, header: str) -> None:
    assert fault.headers(Overloaded("x", retry_after_s=seconds)) == {"retry-after": header}


@pytest.mark.parametrize("error", [EngineMissing("x"), OutOfMemory("x"), LoadFailed("x")])
def test_what_lasts_is_not_to_be_tried_again(error: Fault) -> None:
    assert fault.headers(error) == {"x-should-retry": "false"}
    assert fault.headers(WorkerDied("x")) == {}


@pytest.mark.parametrize(
    ("path", "spoken", "owner", "hint"),
    [
        ("/nowhere", (), "openai", "The OpenAI resources are under /v1."),
        ("/nowhere", ("toy", "openai"), "openai", "The OpenAI resources are under /v1."),
        ("/nowhere", ("toy", "anyform"), "openai", "Spoken at this port: toy, anyform."),
        ("/v1/v1/messages", ("toy",), "openai", "It has /v1 twice: leave it out of the client's base URL."),
        ("/v1/v1/chat/completions", (), "openai", "It has /v1 twice: leave it out of the client's base URL."),
        ("/toy/nowhere", (), "toy", "toy has no such resource."),
    ],
)
def test_a_path_that_nothing_serves_is_told_where_to_look(
    path: str, spoken: tuple[str, ...], owner: str, hint: str
) -> None:
    assert fault.from_status(404, "GET", path, spoken=spoken, owner=owner).hint == hint
