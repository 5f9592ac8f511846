"""What is wrong, hostile or interrupted: every refusal has OpenAI's form, and nothing is left running."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from typing import Any

import httpx
import openai
import pytest

from anyform.contract.errors import ContextExceeded, LoadFailed, OutOfMemory
from anyform.contract.events import Done, Event, Finish, Progress, Text
from anyform.contract.jobs import Chat, Job
from anyform.contract.model import Stop
from anyform.http import fault

Serve = Callable[..., Any]
HELLO = [{"role": "user", "content": "one two three four"}]
CHAT = {"model": "m", "messages": HELLO}
COUNTED = {"model": "m", "input": "hello"}
START = Progress(stage="prompt", total=1)
LIMIT = 1 << 20


def error(response: httpx.Response, status: int) -> dict[str, Any]:
    """The error of a response that is of OpenAI's form and has *status*."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code", *fault.MORE}
    assert isinstance(body["error"]["message"], str)
    assert all(body["error"][key] is None or isinstance(body["error"][key], str) for key in ("param", "code"))
    found: dict[str, Any] = body["error"]
    return found


def until(true: Callable[[], bool], seconds: float = 10) -> None:
    """Poll until *true*, or fail."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "unknown_url"),
        ("POST", "/v1/nothing", 404, "unknown_url"),
        ("GET", "/v1", 404, "unknown_url"),
        ("PUT", "/v1/chat/completions", 405, "method_not_supported"),
        ("GET", "/v1/completions", 405, "method_not_supported"),
        ("GET", "/v1/chat/completions", 501, "not_implemented"),
        ("DELETE", "/v1/models", 405, "method_not_supported"),
        ("POST", "/health", 405, "method_not_supported"),
        ("GET", "/v1/models/nobody", 404, "model_not_found"),
        ("GET", "/v1/models/", 404, "model_not_found"),
        ("POST", "/runtime/load/nobody", 404, "model_not_found"),
        ("POST", "/runtime/unload/nobody", 404, "model_not_found"),
        ("GET", "/runtime/explain/nobody", 404, "model_not_found"),
        ("GET", "/registry/validate/nobody", 404, "model_not_found"),
    ],
)
def test_routes(http: httpx.Client, method: str, path: str, status: int, code: str) -> None:
    assert error(http.request(method, path), status)["code"] == code


DEEP = b'{"model":"parrot","messages":' + b"[" * 200_000 + b"]" * 200_000 + b"}"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b'{"model":"parrot","messages":[{"role":"user","content":"\xff"}]}',
        b'{"model":"parrot","messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"model":"parrot\\udc00","messages":[{"role":"user","content":"x"}]}',
        b'{"model":"parrot","temperature":NaN,"messages":[{"role":"user","content":"x"}]}',
        b'{"model":"parrot","temperature":Infinity,"messages":[{"role":"user","content":"x"}]}',
        b'{"model":"parrot","seed":1e999,"messages":[{"role":"user","content":"x"}]}',
        DEEP,
        b'{"a":' * 100_000,
    ],
    ids=lambda body: body[:60].decode(errors="replace"),
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/rerank"])
def test_bodies_that_are_no_json(http: httpx.Client, path: str, body: bytes) -> None:
    assert error(http.post(path, content=body), 400)["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", "", "nonsense"]
)
def test_any_content_type_is_read_as_json(http: httpx.Client, kind: str) -> None:
    body = json.dumps({"model": "parrot", "messages": HELLO}).encode()
    assert http.post("/v1/chat/completions", content=body, headers={"content-type": kind}).status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
def test_a_compressed_body_is_refused_unread(http: httpx.Client, encoding: str) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    response = http.post("/v1/chat/completions", content=bomb, headers={"content-encoding": encoding})
    assert error(response, 415)["code"] == "unsupported_content_encoding"


def test_fifty_megabytes_are_too_many(http: httpx.Client) -> None:
    body = b'{"model":"parrot","messages":"' + b"x" * 50_000_000 + b'"}'
    assert error(http.post("/v1/chat/completions", content=body), 413)["code"] == "too_large"
    assert http.get("/health").status_code == 200


def test_a_body_without_a_length_is_counted_as_it_comes(scripted: Serve) -> None:
    running = scripted(_say, body_bytes=LIMIT)
    pieces = (b" " * 65536 for _ in range(64))
    assert error(running.http.post("/v1/chat/completions", content=pieces), 413)["code"] == "too_large"


def test_an_announced_length_is_refused_before_it_is_sent(scripted: Serve) -> None:
    running = scripted(_say, body_bytes=LIMIT)
    with socket.create_connection(("127.0.0.1", running.places[0].port), 5) as sock:
        sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000000\r\n\r\n")
        assert sock.recv(1000).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("begun", [b"", b'{"model":'])
def test_a_body_that_stays_away_ends_its_connection(scripted: Serve, begun: bytes) -> None:
    running = scripted(_say)
    running.service.arrivals.wait_s = 0.05
    with socket.create_connection(("127.0.0.1", running.places[0].port), 5) as sock:
        sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n" + begun)
        answer = b"".join(iter(lambda: sock.recv(1000), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["error"]["code"] == "request_timeout"


def test_a_body_at_the_limit_is_read(scripted: Serve) -> None:
    running = scripted(_say, body_bytes=LIMIT)
    body = json.dumps(CHAT).encode()
    full = body + b" " * (LIMIT - len(body))
    assert running.http.post("/v1/chat/completions", content=full).status_code == 200
    assert error(running.http.post("/v1/chat/completions", content=full + b" "), 413)


PATHS = [
    "/etc/passwd",
    "../../etc/passwd",
    "..",
    "a/../../b",
    "./parrot.echo.json",
    "~/x",
    "C:\\x",
    "C:/x",
    "\\\\host\\x",
    ".",
    "",
    "x\0y",
    "x" * 10_000,
]


@pytest.mark.parametrize("name", PATHS, ids=lambda name: repr(name[:20]))
def test_a_path_is_no_name(http: httpx.Client, name: str) -> None:
    body = {"model": name, "messages": HELLO}
    assert error(http.post("/v1/chat/completions", json=body), 404)["code"] == "model_not_found"


def test_a_path_is_no_name_in_the_url_either(server: Any, folder: Any) -> None:
    for name in (str(folder / "parrot.echo.json"), "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%2fx", "parrot.echo.json"):
        for method, prefix in (("GET", "/v1/models/"), ("POST", "/runtime/load/"), ("GET", "/registry/validate/")):
            connection = HTTPConnection(server.url.removeprefix("http://"), timeout=5)
            connection.request(method, f"{prefix}{name}")
            response = connection.getresponse()
            body = json.loads(response.read())
            connection.close()
            assert (response.status, body["error"]["code"]) == (404, "model_not_found"), name


def test_another_host_is_refused(http: httpx.Client) -> None:
    assert error(http.get("/v1/models", headers={"host": "evil.example"}), 403)["code"] == "refused"
    assert error(http.post("/v1/chat/completions", headers={"origin": "https://evil.example"}), 403)
    assert error(http.post("/runtime/load/parrot", headers={"origin": "null"}), 403)


def _say(job: Job, stop: Stop) -> Iterator[Event]:
    yield START
    yield Text(text="hello")
    yield Done(finishes=(Finish(),))


def _fail(fault: Exception, after: int) -> Callable[[Job, Stop], Iterator[Event]]:
    def script(job: Job, stop: Stop) -> Iterator[Event]:
        events: list[Event] = [START, Text(text="a"), Text(text="b")]
        yield from events[:after]
        raise fault

    return script


FAULTS: list[tuple[Exception, int, str]] = [
    (ContextExceeded("the prompt has 9 tokens, the context 8."), 400, "context_length_exceeded"),
    (OutOfMemory("no memory."), 503, "out_of_memory"),
    (ZeroDivisionError("oh"), 500, "internal_error"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fault", "status", "code"), FAULTS, ids=lambda value: str(value))
def test_a_fault_before_the_first_event_is_a_status(
    scripted: Serve, fault: Exception, status: int, code: str, stream: bool
) -> None:
    response = scripted(_fail(fault, 0)).http.post("/v1/chat/completions", json={**CHAT, "stream": stream})
    assert error(response, status)["code"] == code


@pytest.mark.parametrize(("fault", "status", "code"), FAULTS, ids=lambda value: str(value))
def test_a_fault_later_is_a_status_or_the_last_event(scripted: Serve, fault: Exception, status: int, code: str) -> None:
    running = scripted(_fail(fault, 2))
    assert error(running.http.post("/v1/chat/completions", json=CHAT), status)["code"] == code
    response = running.http.post("/v1/chat/completions", json={**CHAT, "stream": True})
    assert response.status_code == 200
    *events, last, rest = response.text.split("\n\n")
    assert rest == ""
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == code
    assert len(events) == 2
    with pytest.raises(openai.APIError):
        list(running.openai.chat.completions.create(model="m", messages=HELLO, stream=True))


def test_what_would_only_fail_again_is_not_retried(scripted: Serve) -> None:
    seen = []

    def script(job: Job, stop: Stop) -> Iterator[Event]:
        seen.append(job)
        raise LoadFailed("it cannot be loaded.")
        yield START

    with pytest.raises(openai.InternalServerError):
        scripted(script).openai.with_options(max_retries=3).chat.completions.create(model="m", messages=HELLO)
    assert len(seen) == 1


@pytest.mark.parametrize("accepted", [False, True])
def test_the_status_waits_for_the_prompt_to_be_accepted(scripted: Serve, accepted: bool) -> None:
    release = threading.Event()

    def script(job: Job, stop: Stop) -> Iterator[Event]:
        if accepted:
            yield START
        assert release.wait(10)
        yield Done(finishes=(Finish(),))

    running = scripted(script)
    request = running.http.build_request("POST", "/v1/chat/completions", json={**CHAT, "stream": True}, timeout=1)
    try:
        if accepted:
            response = running.http.send(request, stream=True)
            assert response.status_code == 200
            response.close()
        else:
            with pytest.raises(httpx.ReadTimeout):
                running.http.send(request, stream=True)
    finally:
        release.set()


class Endless:
    """A script that talks until it is stopped, and remembers how many began, talk and were stopped."""

    def __init__(self, first: Event = START) -> None:
        self.first = first
        self.began = self.stopped = 0
        self.steps = 0

    def __call__(self, job: Job, stop: Stop) -> Iterator[Event]:
        self.began += 1
        yield self.first
        while not stop.wait(0.01):
            self.steps += 1
            yield Text(text=f"{self.steps} ")
        self.stopped += 1
        yield Done(finishes=(Finish(reason="cancelled"),))


@pytest.mark.parametrize("stream", [False, True])
def test_who_hangs_up_stops_the_model(scripted: Serve, stream: bool) -> None:
    model = Endless()
    running = scripted(model)
    with socket.create_connection(("127.0.0.1", running.places[0].port), 5) as sock:
        _send(sock, {**CHAT, "stream": stream})
        if stream:
            assert sock.recv(100).startswith(b"HTTP/1.1 200 ")
        until(lambda: model.steps > 3)
    until(lambda: model.stopped == 1)
    steps = model.steps
    assert running.http.get("/health").status_code == 200
    assert model.steps == steps


def _send(sock: socket.socket, body: dict[str, Any], path: bytes = b"/v1/chat/completions") -> None:
    data = json.dumps(body).encode()
    sock.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (path, len(data)) + data)


def test_who_hangs_up_amid_its_body_is_no_error(scripted: Serve, caplog: pytest.LogCaptureFixture) -> None:
    running = scripted(_say)
    with socket.create_connection(("127.0.0.1", running.places[0].port), 5) as sock:
        sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        until(lambda: len(running.server.server_state.tasks) == 1)
    until(lambda: not running.server.server_state.tasks)
    assert running.http.post("/v1/chat/completions", json=CHAT).status_code == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_who_hangs_up_in_the_queue_is_never_run(scripted: Serve) -> None:
    model = Endless()
    running = scripted(model, parallel=1)
    address = ("127.0.0.1", running.places[0].port)
    line = running.service.gate
    with socket.create_connection(address, 5) as first:
        _send(first, CHAT)
        until(lambda: model.began == 1)
        with socket.create_connection(address, 5) as second:
            _send(second, CHAT)
            until(lambda: line.present().get("m", 0) == 2)
        until(lambda: line.present().get("m", 0) == 1)
    until(lambda: line.present().get("m", 0) == 0)
    until(lambda: model.stopped == 1)  # in a thread of its own
    assert model.began == 1


def test_a_conversation_that_is_cut_keeps_its_turn(scripted: Serve) -> None:
    """It is not sent to the end of the line with each turn less."""
    tried: list[int] = []
    other_waits = threading.Event()

    def script(job: Job, stop: Stop) -> Iterator[Event]:
        assert isinstance(job, Chat)
        tried.append(len(job.messages))
        if len(job.messages) > 1:
            other_waits.wait(10)
            raise ContextExceeded("too long.")
        yield from _say(job, stop)

    running = scripted(script, parallel=1)
    long = {"model": "m", "truncation": "auto", "input": HELLO * 3}
    answers: list[httpx.Response] = []
    first = threading.Thread(target=lambda: answers.append(running.http.post("/v1/responses", json=long)))
    first.start()
    until(lambda: tried == [3])
    second = threading.Thread(target=running.http.post, args=("/v1/chat/completions",), kwargs={"json": CHAT})
    second.start()
    until(lambda: running.service.gate.present().get("m") == 2)
    other_waits.set()
    first.join()
    second.join()
    assert tried == [3, 2, 1, 1]
    assert answers[0].json()["status"] == "completed"
    assert running.service.gate.present() == {}


def test_a_cut_conversation_that_breaks_off_is_not_tried_again(scripted: Serve) -> None:
    """Bytes of it went out."""
    tried: list[Job] = []

    def script(job: Job, stop: Stop) -> Iterator[Event]:
        tried.append(job)
        yield Text(text="hello")
        raise ContextExceeded("it has grown too long.", prompt_tokens=9, context=5)

    running = scripted(script)
    for stream in (True, False):
        body = {"model": "m", "truncation": "auto", "input": HELLO * 3, "stream": stream}
        answer = running.http.post("/v1/responses", json=body)
        assert ("response.failed" in answer.text) if stream else answer.status_code == 400
    assert len(tried) == 2


def test_who_hangs_up_while_tokens_are_counted_leaves_the_line(scripted: Serve) -> None:
    model = Endless(Progress(stage="queue"))
    running = scripted(model, parallel=1)
    address = ("127.0.0.1", running.places[0].port)
    line, counting = running.service.gate, (COUNTED, b"/v1/responses/input_tokens")
    with socket.create_connection(address, 5) as first:
        _send(first, *counting)
        until(lambda: model.began == 1)
        with socket.create_connection(address, 5) as second:
            _send(second, *counting)
            until(lambda: line.present().get("m", 0) == 2)
        until(lambda: line.present().get("m", 0) == 1)
    until(lambda: line.present().get("m", 0) == 0)
    until(lambda: model.stopped == 1)
    assert model.began == 1


def test_a_count_of_tokens_that_the_stop_of_the_server_ends_is_told_so(scripted: Serve) -> None:
    model = Endless(Progress(stage="queue"))
    running = scripted(model)
    with socket.create_connection(("127.0.0.1", running.places[0].port), 5) as sock:
        _send(sock, COUNTED, b"/v1/responses/input_tokens")
        until(lambda: model.began == 1)
        running.server.should_exit = True
        told = b"".join(iter(lambda: sock.recv(4096), b""))
    assert b" 503 " in told.splitlines()[0]
    assert b"The server is stopping." in told


def test_a_model_that_was_unloaded_while_a_request_waited_is_opened_anew(scripted: Serve) -> None:
    model = Endless()
    running = scripted(model, parallel=1)
    requests = running.service.gate.present
    answers: list[int] = []
    with socket.create_connection(("127.0.0.1", running.places[0].port), 5) as first:
        _send(first, CHAT)
        until(lambda: model.began == 1)
        second = threading.Thread(
            target=lambda: answers.append(running.http.post("/v1/chat/completions", json=CHAT).status_code)
        )
        second.start()
        until(lambda: requests().get("m") == 2)
        running.runtime.model = type(running.runtime.model)(_say, 1)
    second.join(10)
    assert (answers, model.began) == ([200], 1)


def test_health_answers_while_all_slots_generate(scripted: Serve) -> None:
    model = Endless()
    running = scripted(model, parallel=1)
    with running.http.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as response:
        assert response.status_code == 200
        with httpx.Client(base_url=running.url, timeout=2) as other:
            assert other.get("/health").json()["status"] == "healthy"
            assert other.get("/ready").status_code == 200


def test_a_full_queue_is_429_with_a_time_to_come_back(scripted: Serve) -> None:
    model = Endless()
    running = scripted(model, parallel=1, queue=1)
    sockets = [socket.create_connection(("127.0.0.1", running.places[0].port), 5) for _ in range(2)]
    for at, sock in enumerate(sockets):
        _send(sock, CHAT)
        until(lambda at=at: running.service.gate.present().get("m", 0) == at + 1)  # type: ignore[misc]
    response = running.http.post("/v1/chat/completions", json=CHAT)
    assert error(response, 429)["code"] == "overloaded"
    assert int(response.headers["retry-after"]) >= 1
    with pytest.raises(openai.RateLimitError):
        running.openai.chat.completions.create(model="m", messages=HELLO)
    for left, sock in enumerate(reversed(sockets), -1):
        sock.close()
        until(lambda left=left: running.service.gate.present().get("m", 0) == -left)  # type: ignore[misc]
    until(lambda: model.stopped == model.began == 1)


def test_a_client_that_does_not_read_holds_the_model_back(scripted: Serve) -> None:
    produced = [0]

    def script(job: Job, stop: Stop) -> Iterator[Event]:
        yield START
        while not stop.is_set():
            produced[0] += 1
            yield Text(text="x" * 1000)
        yield Done(finishes=(Finish(),))

    running = scripted(script)
    with socket.create_connection(("127.0.0.1", running.places[0].port), 5) as sock:
        _send(sock, {**CHAT, "stream": True})
        until(lambda: _rests(produced))
        assert produced[0] < 20_000
    until(lambda: running.service.gate.present().get("m", 0) == 0)


def _rests(counter: list[int]) -> bool:
    before = counter[0]
    return before > 0 and not threading.Event().wait(0.3) and counter[0] == before


def test_a_worker_killed_amid_streams_ends_each_with_an_error_and_the_next_request_is_answered(server: Any) -> None:
    if not _pids(server):
        pytest.skip("the model lives in this process")
    body = {"model": "slow", "stream": True, "ignore_eos": True, "messages": HELLO}
    with httpx.Client(base_url=server.url, timeout=20) as client:
        responses = [
            client.send(client.build_request("POST", "/v1/chat/completions", json=body), stream=True) for _ in range(4)
        ]
        lines = [response.iter_lines() for response in responses]
        for each in lines:
            assert next(each).startswith("data: {")
        os.kill(_pids(server)["slow"], signal.SIGKILL)
        for each in lines:
            last = [line for line in each if line][-1]
            assert json.loads(last.removeprefix("data: "))["error"]["code"] == "worker_died"
    assert server.http.post("/v1/chat/completions", json={"model": "slow", "messages": HELLO}).status_code == 200


def _pids(server: Any) -> dict[str, int]:
    server.http.post("/runtime/load/slow")
    models = server.http.get("/runtime/status").json()["models"]
    return {model["model"]: model["pid"] for model in models if model["pid"]}


def test_hanging_up_frees_the_workers_slot(server: Any) -> None:
    body = {"model": "slow", "stream": True, "ignore_eos": True, "messages": HELLO}
    for _ in range(12):
        with server.http.stream("POST", "/v1/chat/completions", json=body) as response:
            assert next(response.iter_lines()).startswith("data: {")
    assert server.http.post("/v1/chat/completions", json={"model": "slow", "messages": HELLO}).status_code == 200
    until(lambda: all(model.active == 0 for model in server.runtime.loaded()))
