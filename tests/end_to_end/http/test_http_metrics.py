"""/metrics, /runtime/plugins and /runtime/hardware of a real server over the echo engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

HELLO = [{"role": "user", "content": "one two three four"}]


def scraped(http: httpx.Client) -> Callable[..., float]:
    """The value of a sample by its name and labels; 0 where there is none."""
    answer = http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    samples = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    return lambda name, **labels: samples.get((f"anyform_{name}", frozenset(labels.items())), 0.0)


@pytest.mark.parametrize("stream", [False, True])
def test_requests_loads_and_tokens_are_counted(http: httpx.Client, stream: bool) -> None:
    before, route = scraped(http), "/v1/chat/completions"
    body = {"model": "SLOW", "messages": HELLO, "stream": stream}
    assert http.post(route, json=body).status_code == 200
    assert http.post(route, json={**body, "temperature": 9}).status_code == 400
    assert http.post(route, json={**body, "model": "nobody"}).status_code == 404
    after, by = scraped(http), {"model": "slow", "backend": "echo"}

    def more(name: str, **labels: str) -> float:
        return after(name, **labels) - before(name, **labels)

    assert more("requests_total", **by, route=route, outcome="ok") == 1
    assert more("requests_total", model="", backend="", route=route, outcome="invalid_value") == 1
    assert more("requests_total", model="", backend="", route=route, outcome="model_not_found") == 1
    assert more("tokens_total", **by, kind="completion") >= 4
    assert more("first_token_seconds_count", **by) == 1
    assert more("token_gap_seconds_count", **by) == 3
    # To the first token and from there to the last; how it is shared between the two hangs on how busy the server is.
    assert more("first_token_seconds_sum", **by) + more("token_gap_seconds_sum", **by) >= 4 * 0.015
    assert after("loads_total", **by) == 1
    assert after("load_seconds_count", **by) == 1
    assert after("requests_running", **by) == 0
    assert "nobody" not in http.get("/metrics").text


def test_what_runs_while_models_are_made_keeps_its_label(http: httpx.Client, server: Any) -> None:
    by = {"model": "slow", "backend": "echo", "route": "/v1/chat/completions", "outcome": "ok"}
    before, body = scraped(http)("requests_total", **by), {"model": "slow", "messages": HELLO, "stream": True}
    with http.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        next(lines)
        server.runtime.news.tell("library")
        assert list(lines)[-2] == "data: [DONE]"
    assert scraped(http)("requests_total", **by) == before + 1


def test_bytes_of_models_come_and_go(http: httpx.Client) -> None:
    by = {"model": "chatter", "backend": "echo"}
    http.post("/runtime/load/chatter").raise_for_status()
    assert scraped(http)("model_bytes", **by, kind="estimated") > 0
    http.post("/runtime/unload/chatter").raise_for_status()
    assert scraped(http)("model_bytes", **by, kind="estimated") == 0


def test_the_servers_own_process_is_told_of(http: httpx.Client) -> None:
    assert "process_resident_memory_bytes" in http.get("/metrics").text


def test_plugins_are_told_with_their_engines(http: httpx.Client) -> None:
    said = http.get("/runtime/plugins").json()
    plugins: dict[str, Any] = {one["name"]: one for one in said["plugins"]}
    assert plugins["echo"]["sound"]
    assert "load" in plugins["echo"]["hooks"]
    [backend] = plugins["echo"]["backends"]
    assert (backend["backend"]["name"], backend["state"] in ("proven", "unproven")) == ("echo", True)
    assert said["failures"] == []


def test_a_look_that_finds_nothing_new_says_so(http: httpx.Client) -> None:
    said = http.post("/runtime/plugins/refresh").json()
    assert (said["added"], said["removed"], said["changed"]) == ([], [], [])
    assert {one["name"] for one in said["plugins"]} >= {"echo", "machine"}


def test_hardware_is_told(http: httpx.Client, server: Any) -> None:
    said = http.get("/runtime/hardware").json()
    assert said["fingerprint"] == server.runtime.hardware().fingerprint
    cpu = next(device for device in said["devices"] if device["kind"] == "cpu")
    assert cpu["id"] == "cpu"
    assert 0 < cpu["free_bytes"] <= cpu["total_bytes"]
