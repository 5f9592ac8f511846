"""How long models stay, who goes for whom, and what the server says of it: a real server, echo models in workers."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from anyform.assembly import start
from anyform.contract.facts import Settings
from anyform.kernel.rule import Rule
from anyform.kernel.runtime import Runtime
from anyform.workers.lifecycle import Lifecycle

GIB = 1 << 30
HELLO = [{"role": "user", "content": "one two three"}]


def write(path: Path, **model: Any) -> Path:
    path.write_text(json.dumps({"format": "echo", **model}))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Models that say that they take 2 GiB each, one slow, one that says it takes 9."""
    root = tmp_path / "models"
    root.mkdir()
    for name in "abc":
        write(root / f"{name}.echo.json", options={"memory_bytes": 2 * GIB})
    write(root / "slow.echo.json", options={"memory_bytes": 2 * GIB, "delay_s": 0.02})
    write(root / "late.echo.json", options={"load_delay_s": 1.5})
    write(root / "huge.echo.json", options={"memory_bytes": 9 * GIB})
    return root


@pytest.fixture
def begin(folder: Path, serve: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Starts a server whose models may take 5 GiB of this machine's memory."""
    runtimes: list[Runtime] = []

    def make(rules: Any = None, http: dict[str, Any] | None = None, **lifecycle: Any) -> Any:
        kept = Lifecycle(**{"limit_bytes": {"cpu": 5 * GIB}, "check_s": 0.1, **lifecycle})
        runtimes.append(start(folders=[folder], lifecycle=kept, rules=rules, defaults=Settings(parallel=4)))
        return serve(runtimes[-1], **(http or {}))

    yield make
    for runtime in runtimes:
        runtime.close()


def status(server: Any) -> dict[str, Any]:
    return {model["model"]: model for model in server.http.get("/runtime/status").json()["models"]}


def chat(server: Any, model: str, **more: Any) -> httpx.Response:
    answer: httpx.Response = server.http.post(
        "/v1/chat/completions", json={"model": model, "messages": HELLO, **more}, timeout=60
    )
    return answer


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def test_a_third_model_takes_the_place_of_the_least_recently_used(begin: Callable[..., Any]) -> None:
    server = begin()
    for name in ("a", "b", "a", "c"):
        assert chat(server, name).status_code == 200
        until(lambda: not any(one["active"] for one in status(server).values()))  # used until then, answered before
    there = status(server)
    assert sorted(there) == ["a", "c"]
    assert there["a"]["estimated_bytes"] >= 2 * GIB
    assert 0 < there["a"]["memory_bytes"] < GIB


def test_one_that_never_fits_is_refused_with_numbers(begin: Callable[..., Any]) -> None:
    server = begin()
    answer = chat(server, "huge")
    assert answer.status_code == 503
    error = answer.json()["error"]
    assert error["code"] == "out_of_memory"
    assert "9.0 GiB" in error["message"]
    assert "5.0 GiB" in error["message"]


def test_what_is_pinned_stays(begin: Callable[..., Any]) -> None:
    server = begin(idle_s=0.2)
    assert server.http.post("/runtime/load/a?pin=true").json()["pinned"] is True
    for name in ("b", "c"):
        assert chat(server, name).status_code == 200
    until(lambda: sorted(status(server)) == ["a"])
    assert server.http.post("/runtime/load/a?pin=false").json()["pinned"] is False
    until(lambda: status(server) == {})


def test_a_model_in_use_is_waited_for(begin: Callable[..., Any]) -> None:
    server = begin(limit_bytes={"cpu": 3 * GIB})
    long = [{"role": "user", "content": "word " * 60}]
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(chat, server, "slow", messages=long)
        until(lambda: bool(status(server).get("slow", {}).get("active")))
        second = pool.submit(chat, server, "a")
        until(lambda: bool(server.http.get("/runtime/status").json()["loading"]))
        waiting = server.http.get("/runtime/status").json()["loading"][0]
        assert (waiting["model"], waiting["status"]) == ("a", "waiting")
        assert first.result().json()["choices"][0]["message"]["content"].count("word") == 60
        assert second.result().status_code == 200
    assert list(status(server)) == ["a"]


def test_keep_alive_says_how_long_it_stays(begin: Callable[..., Any]) -> None:
    server = begin()
    chat(server, "a", keep_alive="10m")
    assert 590 < status(server)["a"]["expires_s"] <= 600
    chat(server, "a", keep_alive=-1)
    assert status(server)["a"]["expires_s"] is None
    chat(server, "a", keep_alive=0)
    until(lambda: status(server) == {})
    refused = chat(server, "a", keep_alive="soon")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "keep_alive")


def test_the_openai_client_passes_keep_alive(begin: Callable[..., Any]) -> None:
    server = begin()
    server.openai.chat.completions.create(model="a", messages=HELLO, extra_body={"keep_alive": 40})
    assert 30 < status(server)["a"]["expires_s"] <= 40


def test_an_unload_waits_for_a_running_stream_unless_told_not_to(begin: Callable[..., Any]) -> None:
    server = begin()
    long: Any = [{"role": "user", "content": "word " * 200}]
    for now in (False, True):
        stream = server.openai.chat.completions.create(model="slow", messages=long, stream=True)
        next(stream)
        unload = threading.Thread(target=server.http.post, args=(f"/runtime/unload/slow?now={str(now).lower()}",))
        unload.start()
        if now:
            with pytest.raises(openai.APIError):
                list(stream)
        else:
            words = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
            assert words.count("word") >= 199
        unload.join(20)
        assert status(server) == {}


def test_a_crash_is_survived_and_three_in_a_row_are_told(begin: Callable[..., Any]) -> None:
    server = begin()
    for _ in range(3):
        until(lambda: server.http.post("/runtime/load/a").status_code == 200)
        os.kill(status(server)["a"]["pid"], signal.SIGKILL)
        until(lambda: status(server) == {})
    # asked for by name each time, so forgiven each time
    assert chat(server, "a").status_code == 200
    assert server.http.get("/runtime/status").json()["failed"] == {}


def test_a_model_that_crashes_at_each_load_is_given_up_until_it_is_asked_for(folder: Path, serve: Any) -> None:
    settings = {"a": Settings(options={"crash": "load"})}
    runtime = start(folders=[folder], settings=settings, lifecycle=Lifecycle())
    server = serve(runtime)
    answers = [chat(server, "a") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [503] * 4
    told = answers[3].json()["error"]["message"]
    assert "crashed 3 times in a row" in told
    assert ".." not in told
    assert "SIGKILL" in server.http.get("/runtime/status").json()["failed"]["a"]
    again = server.http.post("/runtime/load/a").json()["error"]["message"]
    assert "crashed 3 times" not in again
    runtime.close()


def test_a_model_that_crashes_amid_each_answer_is_given_up(begin: Callable[..., Any]) -> None:
    server = begin()
    long: Any = [{"role": "user", "content": "word " * 200}]
    for _ in range(3):
        assert server.http.get("/runtime/status").json()["failed"] == {}
        stream = server.openai.chat.completions.create(model="slow", messages=long, stream=True)
        next(stream)
        os.kill(status(server)["slow"]["pid"], signal.SIGKILL)
        with pytest.raises(openai.APIError, match="ended by SIGKILL"):
            list(stream)
    until(lambda: "SIGKILL" in server.http.get("/runtime/status").json()["failed"].get("slow", ""))
    refused = chat(server, "slow")
    assert refused.status_code == 503
    assert "crashed 3 times in a row" in refused.json()["error"]["message"]


def test_a_whole_answer_forgives_crashes_and_a_client_that_hangs_up_does_not(begin: Callable[..., Any]) -> None:
    server = begin()
    long: Any = [{"role": "user", "content": "word " * 200}]
    for whole in (True, True, False, False):
        with server.openai.chat.completions.create(model="slow", messages=long, stream=True) as stream:
            next(stream)
        until(lambda: not status(server)["slow"]["active"])
        if whole:
            assert chat(server, "slow").status_code == 200
        os.kill(status(server)["slow"]["pid"], signal.SIGKILL)
        until(lambda: status(server) == {})
    assert list(server.http.get("/runtime/status").json()["failed"]) == ["slow"]


@pytest.mark.parametrize("wrong", ["device=cuda", "backend=nosuch", "context=100000000000", "wrong=3"])
def test_a_load_that_is_refused_leaves_what_is_loaded(begin: Callable[..., Any], wrong: str) -> None:
    server = begin()
    pid = server.http.post("/runtime/load/a?pin=true").json()["pid"]
    refused = server.http.post(f"/runtime/load/a?{wrong}")
    assert 400 <= refused.status_code < 600
    there = status(server)["a"]
    assert (there["pid"], there["pinned"], there["active"]) == (pid, True, 0)
    assert chat(server, "a").status_code == 200
    assert status(server)["a"]["pid"] == pid


def test_a_signal_to_all_processes_is_the_servers_to_answer(begin: Callable[..., Any]) -> None:
    server = begin()
    server.http.post("/runtime/load/slow")
    long: Any = [{"role": "user", "content": "word " * 100}]
    stream = server.openai.chat.completions.create(model="slow", messages=long, stream=True)
    next(stream)
    os.kill(status(server)["slow"]["pid"], signal.SIGTERM)
    words = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert words.count("word") >= 99


def test_a_model_is_unloaded_though_its_files_are_gone(begin: Callable[..., Any], folder: Path) -> None:
    server = begin()
    server.http.post("/runtime/load/a")
    (folder / "a.echo.json").unlink()
    server.http.get("/v1/models/nosuch")  # the library looks again
    assert server.http.post("/runtime/unload/a").json() == {"status": "unloaded", "model": "a"}


def test_what_happens_is_told_as_events(begin: Callable[..., Any]) -> None:
    server = begin()
    chat(server, "late")
    chat(server, "late", keep_alive=0)
    until(lambda: status(server) == {})
    told: list[tuple[str, dict[str, Any]]] = []
    with server.http.stream("GET", "/runtime/events?after=0") as events:
        kind = ""
        for line in events.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                told.append((kind, json.loads(line.removeprefix("data: "))))
                if kind == "unloaded":
                    break
    kinds = [kind for kind, _ in told]
    assert kinds[0] == "loading"
    assert kinds[-2:] == ["loaded", "unloaded"]
    assert "progress" in kinds
    assert {data["model"] for _, data in told} == {"late"}
    with server.http.stream("GET", "/runtime/events?after=99999") as events:  # the number of an earlier server
        assert next(line for line in events.iter_lines() if line.startswith("id:")) == "id: 1"


def test_a_stuck_worker_is_ended_and_its_request_told(begin: Callable[..., Any]) -> None:
    server = begin(stuck_s=0.5)
    chat(server, "a")
    os.kill(status(server)["a"]["pid"], signal.SIGSTOP)
    answer = chat(server, "a")
    assert answer.status_code in (200, 503)
    if answer.status_code == 503:
        assert "said nothing for" in answer.json()["error"]["message"]
    assert chat(server, "a").status_code == 200


def test_a_rule_fills_what_a_request_leaves_out(begin: Callable[..., Any]) -> None:
    def rules(entry: Any) -> Rule:
        return Rule(system="be brief", request={"max_tokens": 2}, settings=Settings(parallel=4))

    server = begin(rules, {"default_model": "a"})
    usual = server.http.post("/v1/chat/completions", json={"messages": HELLO}).json()
    assert usual["model"] == "a"
    assert usual["usage"]["completion_tokens"] == 2
    told = server.http.post("/v1/chat/completions", json={"messages": HELLO, "max_tokens": 3}).json()
    assert told["usage"]["completion_tokens"] == 3
    own = [{"role": "system", "content": "x"}, *HELLO]
    without = server.http.post("/v1/chat/completions", json={"messages": own}).json()
    assert without["usage"]["prompt_tokens"] == usual["usage"]["prompt_tokens"] - 1


def test_load_takes_what_is_documented_and_answers_so(begin: Callable[..., Any]) -> None:
    server = begin()
    answer = server.http.post(
        "/runtime/load/a", json={"context": 64, "backend": "echo", "pin": True, "ttl": "1m"}
    ).json()
    wanted = {"status", "model", "port", "format", "runtime", "gpu_layers", "context", "pid"}
    assert wanted <= answer.keys()
    assert (answer["context"], answer["pinned"], answer["runtime"]) == (64, True, "echo")
    refused = server.http.post("/runtime/load/b", json={"backend": "nonesuch"})
    assert refused.status_code == 400
    assert "nonesuch" in refused.json()["error"]["message"]
