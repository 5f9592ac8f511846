"""/runtime/events over a real server: order, resumption, keep-alive, readers that hang up or fall behind, the end."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from anyform.contract.events import Done, Event, Finish, Progress, Text
from anyform.contract.jobs import Job
from anyform.contract.model import Stop

Serve = Callable[..., Any]


def answer(job: Job, stop: Stop) -> Iterator[Event]:
    yield Progress(stage="prompt", total=1)
    yield Text(text="hi")
    yield Done(finishes=(Finish(),))


@pytest.fixture
def running(scripted: Serve) -> Any:
    return scripted(answer)


class Watch:
    """A reader of the stream: its blocks, each a dict of the fields of one event or of a comment."""

    def __init__(self, running: Any, path: str = "/runtime/events", **headers: str) -> None:
        self._client = httpx.Client(base_url=running.url, timeout=20)
        self._context = self._client.stream("GET", path, headers=headers)
        self.response = self._context.__enter__()
        self._lines = self.response.iter_lines()
        self.next()  # retry: the reader is heard of from here on

    def next(self) -> dict[str, str]:
        block: dict[str, str] = {}
        for line in self._lines:
            if not line:
                return block
            name, _, value = line.partition(": ")
            block[name or "comment"] = value or line
        raise EOFError

    def event(self) -> tuple[int, str, Any]:
        block = self.next()
        return int(block["id"]), block["event"], json.loads(block["data"])

    def close(self) -> None:
        self._context.__exit__(None, None, None)
        self._client.close()


@pytest.fixture
def watch(running: Any) -> Iterator[Callable[..., Watch]]:
    made: list[Watch] = []

    def begin(*where: str, **headers: str) -> Watch:
        made.append(Watch(running, *where, **headers))
        return made[-1]

    yield begin
    for one in made:
        one.close()


def until(true: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)


def test_what_happens_is_told_as_it_happens(running: Any, watch: Callable[..., Watch]) -> None:
    running.runtime.news.tell("loading", "m", backend="before anybody listens")
    stream = watch()
    assert stream.response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert stream.response.headers["cache-control"] == "no-cache"
    running.runtime.news.tell("loaded", "m", seconds=1.5, why='"quoted"\nand broken ü')
    number, kind, data = stream.event()
    assert (number, kind) == (2, "loaded")
    assert data.pop("time_s") == pytest.approx(time.time(), abs=20)
    assert data == {"model": "m", "seconds": 1.5, "why": '"quoted"\nand broken ü'}


def test_two_readers_get_the_same_in_order(running: Any, watch: Callable[..., Watch]) -> None:
    one, two = watch(), watch()
    threads = [
        threading.Thread(target=lambda: [running.runtime.news.tell("progress", "m") for _ in range(50)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    told = [[stream.event()[0] for _ in range(200)] for stream in (one, two)]
    assert told == [list(range(1, 201))] * 2


@pytest.mark.parametrize("how", ["header", "query", "both"])
def test_who_comes_again_gets_what_was_missed(running: Any, watch: Callable[..., Watch], how: str) -> None:
    for number in range(5):
        running.runtime.news.tell("progress", "m", done=number)
    path = {"header": "/runtime/events", "query": "/runtime/events?after=3", "both": "/runtime/events?after=0"}[how]
    stream = watch(path, **({} if how == "query" else {"Last-Event-ID": "3"}))
    assert [stream.event()[0] for _ in range(2)] == [4, 5]
    running.runtime.news.tell("progress", "m")
    assert stream.event()[0] == 6


def test_what_is_not_kept_any_more_is_said(running: Any, watch: Callable[..., Watch]) -> None:
    for _ in range(600):
        running.runtime.news.tell("progress", "m")
    stream = watch("/runtime/events?after=0")
    assert stream.next() == {"comment": "1 to 88 are not kept any more"}
    assert stream.event()[0] == 89


def test_a_quiet_line_is_kept_alive(running: Any, watch: Callable[..., Watch]) -> None:
    running.server.events.keep_alive_s = 0.01
    stream = watch()
    assert [stream.next() for _ in range(2)] == [{"comment": "nothing new"}] * 2
    running.runtime.news.tell("loaded", "m")
    while (block := stream.next()).get("event") != "loaded":
        assert block == {"comment": "nothing new"}


def test_who_hangs_up_leaves_nothing_behind(running: Any) -> None:
    stream = Watch(running)
    assert len(running.runtime.news._listeners) == 3  # this reader's, the service's and the metrics'
    stream.close()
    until(lambda: len(running.runtime.news._listeners) == 2)
    assert running.server.events.readers == set()


def test_a_reader_that_does_not_read_is_cut_off_and_holds_nobody_up(running: Any, watch: Callable[..., Watch]) -> None:
    address = ("127.0.0.1", int(running.url.rpartition(":")[2]))
    other = watch()
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(address)
        slow.sendall(b"GET /runtime/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: len(running.server.events.readers) == 2)
        sent = 0
        while len(running.server.events.readers) == 2:
            running.runtime.news.tell("failed", "m", message="x" * 10_000)
            sent += 1
            assert other.event()[0] == sent
            assert sent < 5_000
        assert len(running.runtime.news._listeners) == 3
        rest = bytearray()  # what was under way, and then a whole end
        slow.settimeout(10)
        while not rest.endswith(b"0\r\n\r\n"):
            piece = slow.recv(1 << 16)
            assert piece
            rest += piece
    assert rest.count(b"\r\nid: ") < sent


def test_the_end_of_the_server_ends_the_stream(running: Any, watch: Callable[..., Watch]) -> None:
    stream = watch()
    began = time.monotonic()
    running.server.should_exit = True
    with pytest.raises(EOFError):
        stream.next()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("after", ["x", "-1"])
def test_a_number_that_is_none_is_refused(running: Any, after: str) -> None:
    refused = running.http.get(f"/runtime/events?after={after}")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "after")


def test_its_head_can_be_asked_for(running: Any) -> None:
    assert running.http.head("/runtime/events").headers["content-type"].startswith("text/event-stream")


def test_a_page_from_elsewhere_reads_nothing(running: Any) -> None:
    for path in ("/runtime/events", "/metrics", "/runtime/plugins", "/runtime/hardware"):
        assert running.http.get(path, headers={"Origin": "https://evil.example"}).status_code == 403
        assert running.http.get(path, headers={"Host": "evil.example"}).status_code == 403


def test_the_log_is_free_of_complaints_about_readers(running: Any, caplog: pytest.LogCaptureFixture) -> None:
    stream = Watch(running)
    stream.close()
    until(lambda: not running.server.events.readers)
    assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []


def test_what_is_passed_on_is_told_to_who_reads_and_not_kept(running: Any, watch: Callable[..., Watch]) -> None:
    running.runtime.news.tell("loading", "m")
    stream = watch("/runtime/events?after=0")
    assert stream.event()[:2] == (1, "loading")

    def pass_on() -> None:
        for done in range(600):
            running.service.watchers.pass_on("step", "m", done=done)

    running.service.watchers.readers.copy().pop()._loop.call_soon_threadsafe(pass_on)
    block = stream.next()
    assert set(block) == {"event", "data"}
    assert (block["event"], json.loads(block["data"])["done"]) == ("step", 0)
    running.runtime.news.tell("loaded", "m")
    last, told = 0, 1
    while (block := stream.next())["event"] == "step":
        last, told = json.loads(block["data"])["done"], told + 1
    assert (block["event"], block["id"]) == ("loaded", "2")  # a reader that lags misses steps, and nothing else
    assert told == last + 1 == 512
    late = watch("/runtime/events?after=0")
    assert [late.event()[:2] for _ in range(2)] == [(1, "loading"), (2, "loaded")]


def test_what_has_no_number_is_no_gap(running: Any, watch: Callable[..., Watch]) -> None:
    running.runtime.news.tell("loading", "m")
    stream = watch("/runtime/events?after=0")
    assert stream.event()[:2] == (1, "loading")
    reader = running.service.watchers.readers.copy().pop()
    reader._loop.call_soon_threadsafe(running.service.watchers.pass_on, "step", "m")
    assert stream.next()["event"] == "step"
    running.runtime.news.tell("loaded", "m")
    assert stream.event()[:2] == (2, "loaded")
