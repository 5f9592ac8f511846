"""Many at once on one model, clients that hang up, and a worker that dies."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from .direct import NEEDS, PROMPT, STEPS, file, opened, photo, same, transparent

pytestmark = NEEDS

CLIENTS = 4
LONG = {
    "model": "sd", "prompt": PROMPT, "size": "128x128", "num_inference_steps": 50, "seed": 7, "scheduler": "ddim"
}  # fmt: skip
"""Long enough to be ended: a step takes a third of a second."""
SHORT = {"size": "64x64", "num_inference_steps": 1}


def paint(studio: Any, place: int) -> Any:
    """One of four kinds of request."""
    own = {"num_inference_steps": STEPS, "seed": place}
    pictures = {"model": "sd", "image": file(photo()), "response_format": "b64_json", "extra_body": own}
    if place % CLIENTS == 0:
        return studio.paint(seed=place)
    if place % CLIENTS == 1:
        return studio.paint(seed=place, scheduler="DDIMScheduler", loras={"wild": 1.0})
    if place % CLIENTS == 2:
        answer = studio.openai.images.edit(prompt=PROMPT, mask=file(transparent()), **pictures)
    else:
        answer = studio.openai.images.create_variation(**pictures)
    return opened(answer.data[0].b64_json)


def resident_bytes(pid: int) -> int:
    """https://man7.org/linux/man-pages/man5/proc_pid_status.5.html"""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


class Stream:
    """A request whose answer is read event by event; its end hangs up, read or not."""

    def __init__(self, studio: Any, **fields: Any) -> None:
        self._client = httpx.Client(base_url=studio.url, timeout=60)
        body = {**LONG, "stream": True, **fields}
        self._context = self._client.stream("POST", "/v1/images/generations", json=body)

    def __enter__(self) -> Iterator[dict[str, Any]]:
        answer = self._context.__enter__()
        assert answer.status_code == 200, answer.read()
        return (json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line.startswith("data: "))

    def __exit__(self, *_: object) -> None:
        self._context.__exit__(None, None, None)
        self._client.close()


def positions(events: Iterator[dict[str, Any]]) -> list[int]:
    return [event["position"] for event in events if event["type"] == "image_generation.queued"]


def test_four_clients_get_what_each_gets_alone_from_one_model_in_memory_once(studio: Any) -> None:
    alone = [paint(studio, place) for place in range(CLIENTS)]
    pid = studio.loaded("sd")["pid"]
    before = resident_bytes(pid) if sys.platform.startswith("linux") else 0
    with ThreadPoolExecutor(CLIENTS) as pool:
        together = list(pool.map(lambda place: paint(studio, place % CLIENTS), range(2 * CLIENTS)))
    assert all(same(painted, alone[place % CLIENTS]) for place, painted in enumerate(together))
    assert studio.loaded("sd")["pid"] == pid
    if before:
        assert resident_bytes(pid) - before < 100 * 1024**2


def test_a_client_that_hangs_up_costs_one_step_at_most(studio: Any) -> None:
    painted, mark = studio.paint(), studio.watch.mark()
    pid = studio.loaded("sd")["pid"]
    with Stream(studio):
        begun = studio.watch.wait(mark, "step", total=50, done=3)
    assert same(studio.paint(), painted)
    done = [facts["done"] for facts in studio.watch.since(mark, "step") if facts["request"] == begun["request"]]
    assert done in ([1, 2, 3], [1, 2, 3, 4])
    assert studio.loaded("sd")["pid"] == pid


def test_those_who_wait_are_told_how_many_are_ahead(studio: Any) -> None:
    studio.paint()
    mark, ending = studio.watch.mark(), ExitStack()
    with ending:
        first = ending.enter_context(Stream(studio))
        assert next(first) == {"type": "image_generation.queued", "position": 0}
        studio.watch.wait(mark, "step")
        with Stream(studio, **SHORT) as second:
            assert next(second)["position"] == 1
            with Stream(studio, **SHORT) as third:
                assert next(third)["position"] == 2
                ending.close()
                waited = [list(third), list(second)]
    assert [positions(events) for events in waited] == [[1, 0], [0]]
    assert {events[-1]["type"] for events in waited} == {"image_generation.completed"}


def test_who_waits_may_hang_up(studio: Any) -> None:
    mark = studio.watch.mark()
    with Stream(studio):
        studio.watch.wait(mark, "step")
        with Stream(studio, **SHORT) as second:
            assert next(second)["position"] == 1
        studio.watch.wait(mark, "step", 3)
        with Stream(studio, **SHORT) as third:
            assert next(third)["position"] == 1


def test_a_worker_that_is_killed_costs_its_request_alone(studio: Any) -> None:
    painted, mark = studio.paint(), studio.watch.mark()
    pid = studio.loaded("sd")["pid"]
    with Stream(studio) as events:
        studio.watch.wait(mark, "step", 2, total=50)
        os.kill(pid, signal.SIGKILL)
        told = list(events)
    assert told[-1]["type"] == "error"
    assert same(studio.paint(), painted)
    assert studio.loaded("sd")["pid"] != pid
