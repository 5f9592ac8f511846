"""Pulling over HTTP: progress as events, joined, stopped; and on request, where that is switched on."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from anyform.assembly import start
from anyform.contract.facts import BackendInfo
from anyform.contract.hooks import hookimpl
from anyform.http.config import HttpConfig
from anyform.http.server import Server, listen
from anyform.kernel.plugins import Plugins
from anyform.sources.hub import Hub
from anyform.sources.hubpulls import Pulls
from anyform.sources.stores import Stores

from .conftest import Cli
from .server import LoopbackHub

MIB = 1 << 20
ECHO = json.dumps({"format": "echo"}).encode()
Serve = Callable[..., httpx.Client]


@pytest.fixture
def serve(client: Hub, plugins: Plugins, home: Path) -> Iterator[Serve]:
    """Starts a server over anyform's own folder, which may pull."""
    ends: list[Callable[[], None]] = []

    def begin(queue: int = 64, plugins: Plugins = plugins, **more: Any) -> httpx.Client:
        runtime = start(where="here", plugins=plugins, stores=Stores(home=home, names=("anyform",)))
        pulls = Pulls(client, plugins, home, arrived=runtime.library.refresh, **more)
        sock, listening = listen("127.0.0.1", 0), threading.Event()
        config = HttpConfig(port=sock.getsockname()[1], queue=queue)
        server = Server(runtime, config, lambda url: listening.set(), pulls)
        thread = threading.Thread(target=server.run, args=([sock],), daemon=True)
        thread.start()
        assert listening.wait(10)

        def end() -> None:
            pulls.close()
            server.should_exit = True
            thread.join(10)
            runtime.close()

        ends.append(end)
        return httpx.Client(base_url=f"http://127.0.0.1:{sock.getsockname()[1]}", timeout=30)

    yield begin
    for end in ends:
        end()


def events(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_a_pull_tells_how_far_it_is_and_then_the_model_is_served(hub: LoopbackHub, serve: Serve) -> None:
    hub.add("owner/parrot", {"parrot.echo": ECHO + b" " * MIB})
    hub.rate = 2 * MIB
    http = serve()
    with http.stream("POST", "/registry/pull", json={"model": "owner/parrot"}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        told = events(response)
    stages = [one["stage"] for one in told]
    assert stages[-1] == "done"
    assert "downloading" in stages
    assert (told[-1]["name"], told[-1]["files"]) == ("owner/parrot", ["parrot.echo"])
    assert [model["id"] for model in http.get("/v1/models").json()["data"]] == ["owner/parrot"]
    assert [one["stage"] for one in http.get("/registry/pull").json()["pulls"]] == ["done"]


def test_two_clients_watch_one_pull(hub: LoopbackHub, serve: Serve) -> None:
    hub.add("owner/data", {"data.bin": bytes(MIB)})
    hub.rate = MIB
    http = serve()
    body = {"model": "owner/data", "files": ["data.bin"]}
    started = http.post("/registry/pull", json={**body, "stream": False})
    assert started.status_code == 202
    with http.stream("POST", "/registry/pull", json=body) as response:
        told = events(response)
    assert told[-1]["stage"] == "done"
    hub.wait_for_bytes(MIB)  # it counts a block once it is written, which may be after it was read
    assert hub.bytes_served == MIB
    assert len(http.get("/registry/pull").json()["pulls"]) == 1


def test_delete_stops_it_and_keeps_what_came(hub: LoopbackHub, serve: Serve, home: Path) -> None:
    hub.add("owner/data", {"data.bin": bytes(4 * MIB)})
    hub.rate = MIB / 4
    http = serve()
    body = {"model": "hf.co/owner/data", "files": "data.bin"}
    http.post("/registry/pull", json={**body, "stream": False})
    hub.wait_for_bytes(MIB // 2)
    stopped = http.delete("/registry/pull/owner/data")
    assert stopped.json() == {"status": "cancelled", "model": "owner/data"}
    hub.rate = 0
    before = hub.bytes_served
    with http.stream("POST", "/registry/pull", json=body) as response:
        first = events(response)[-1]
    if first["stage"] == "cancelled":  # joined the one that was just ending
        with http.stream("POST", "/registry/pull", json=body) as response:
            assert events(response)[-1]["stage"] == "done"
    assert (home / "owner" / "data" / "data.bin").stat().st_size == 4 * MIB
    assert hub.bytes_served - before < 4 * MIB - MIB // 4
    assert http.delete("/registry/pull/owner/data").status_code == 404


def test_a_pull_that_fails_ends_with_an_error(hub: LoopbackHub, serve: Serve) -> None:
    http = serve()
    with http.stream("POST", "/registry/pull", json={"model": "owner/none"}) as response:
        last = events(response)[-1]
    assert last["stage"] == "failed"
    assert last["error"]["code"] == "repository_not_found"
    refused = http.post("/registry/pull", json={"model": "../../etc/passwd"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")


CHAT = {"messages": [{"role": "user", "content": "hello"}]}


def test_a_request_for_what_is_not_here_is_answered_with_the_command_to_type(hub: LoopbackHub, serve: Serve) -> None:
    hub.add("owner/parrot", {"parrot.echo": ECHO})
    answer = serve().post("/v1/chat/completions", json={"model": "owner/parrot:Q8_0", **CHAT})
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["code"] == "model_not_found"
    assert "`anyform pull owner/parrot:Q8_0`" in error["message"]
    assert hub.requests == []


def test_a_request_pulls_on_first_use_where_that_is_on(hub: LoopbackHub, serve: Serve) -> None:
    hub.add("owner/parrot", {"parrot.echo": ECHO})
    http = serve(on_request=True)
    answer = http.post("/v1/chat/completions", json={"model": "owner/parrot", **CHAT})
    assert answer.status_code == 200, answer.text
    assert "hello" in answer.json()["choices"][0]["message"]["content"]
    missing = http.post("/v1/chat/completions", json={"model": "owner/none", **CHAT})
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "repository_not_found")
    plain = http.post("/v1/chat/completions", json={"model": "none", **CHAT})
    assert (plain.status_code, plain.json()["error"]["code"]) == (404, "model_not_found")


class Asking:
    """A request that runs in a thread of its own: what OpenAI's client gets, once it gets anything."""

    def __init__(self, http: httpx.Client, content: str = "hello") -> None:
        from openai import OpenAI

        self.client = OpenAI(base_url=f"{http.base_url}/v1", api_key="unused", max_retries=0)
        self.status = 0
        self.text = ""
        self._content = content
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        from openai import APIStatusError

        messages: Any = [{"role": "user", "content": self._content}]
        create = self.client.chat.completions.with_raw_response.create
        try:
            answer = create(model="owner/parrot", messages=messages, stream=True)
            self.status = answer.status_code
            for chunk in answer.parse():
                self.text += chunk.choices[0].delta.content or "" if chunk.choices else ""
        except APIStatusError as error:
            self.status, self.text = error.status_code, str(error.code)

    def end(self) -> tuple[int, str]:
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.status, self.text


def slow_parrot(hub: LoopbackHub) -> None:
    """A model that is looked at at once, and comes slowly."""
    data = ECHO[:-1] + b', "context": 50}' + b" " * 4 * MIB
    hub.add("owner/parrot", {"parrot.echo": data})
    hub.rate, hub.unlimited = MIB / 4, len(data)


def under_way(http: httpx.Client, requests: int) -> dict[str, Any]:
    """The one pull that runs, once it brings bytes and so many requests wait for it."""
    for _ in range(20_000):
        [pull] = http.get("/runtime/status").json()["pulls"] or [{"stage": "", "requests": 0}]
        if (pull["stage"], pull["requests"]) == ("downloading", requests) and pull["fetched_bytes"]:
            return dict(pull)
    raise AssertionError(f"no pull that {requests} requests wait for: {http.get('/registry/pull').json()}")


def asking(http: httpx.Client, hub: LoopbackHub, count: int = 1, content: str = "hello") -> list[Asking]:
    """Requests that wait for a pull."""
    slow_parrot(hub)
    requests = [Asking(http, content) for _ in range(count)]
    under_way(http, count)
    return requests


def test_a_stream_that_waits_for_a_pull_gets_no_status_and_the_pull_is_seen_elsewhere(
    hub: LoopbackHub, serve: Serve, cli: Cli, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "anyform.hub")
    http = serve(on_request=True)
    [request] = asking(http, hub)
    [told] = http.get("/registry/pull").json()["pulls"]
    assert (told["model"], told["stage"]) == ("owner/parrot", "downloading")
    assert 0 < told["done_bytes"] < told["total_bytes"]
    seen = cli("ps", "--url", str(http.base_url))
    assert "pulling owner/parrot [" in seen.stdout
    assert "of 4.0 MiB" in seen.stdout
    assert "1 request waits for it" in seen.stdout
    assert request.status == 0
    with http.stream("POST", "/registry/pull", json={"model": "owner/parrot"}) as response:
        joined = response.iter_lines()
        assert json.loads(next(joined).removeprefix("data: "))["stage"] == "downloading"
        hub.rate = 0
        assert [line for line in joined if line][-1] == "data: [DONE]"
    status, text = request.end()
    assert (status, "hello" in text) == (200, True)
    assert http.get("/runtime/status").json()["pulls"] == []
    logged = [record.getMessage() for record in caplog.records]
    assert any(line.startswith("pulling owner/parrot: downloading, ") and "% of 4.0 MiB" in line for line in logged)
    assert any(line.startswith("owner/parrot is pulled: 4.0 MiB in ") for line in logged)


def test_the_servers_log_tells_of_the_pull_and_of_no_address(hub: LoopbackHub, cli: Cli) -> None:
    hub.add("owner/parrot", {"parrot.echo": ECHO})
    with cli.start("serve", "--pull", "--port", "0") as process:
        assert process.stdout
        url = next(line.split()[2] for line in process.stdout if line.startswith("anyform serves "))
        answer = httpx.post(f"{url}/chat/completions", json={"model": "owner/parrot", **CHAT}, timeout=30)
        process.terminate()
        _, log = process.communicate(timeout=30)
    assert answer.status_code == 200, answer.text
    assert "INFO pulling owner/parrot: downloading" in log
    assert "INFO owner/parrot is pulled: " in log
    assert "/resolve/" not in log


def test_a_prompt_that_is_refused_after_the_pull_is_no_200(hub: LoopbackHub, serve: Serve) -> None:
    [request] = asking(serve(on_request=True), hub, content="too long " * 100)
    hub.rate = 0
    status, text = request.end()
    assert (status, text) == (400, "context_length_exceeded")


def test_a_pull_goes_on_without_the_request_that_began_it(hub: LoopbackHub, serve: Serve) -> None:
    http = serve(on_request=True)
    slow_parrot(hub)
    with pytest.raises(httpx.ReadTimeout):
        http.post("/v1/chat/completions", json={"model": "owner/parrot", **CHAT}, timeout=0.5)
    assert under_way(http, 0)["done_bytes"] < 4 * MIB
    hub.rate = 0
    again = http.post("/v1/chat/completions", json={"model": "owner/parrot", **CHAT})
    assert again.status_code == 200
    assert hub.served["parrot.echo"] < 9 * MIB  # looked at once, and fetched once


def test_no_more_requests_wait_for_a_pull_than_for_a_model(hub: LoopbackHub, serve: Serve) -> None:
    http = serve(queue=2, on_request=True)
    requests = asking(http, hub, count=2)
    refused = http.post("/v1/chat/completions", json={"model": "hf.co/owner/parrot", **CHAT})
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert "GET /registry/pull" in refused.json()["error"]["message"]
    hub.rate = 0
    assert [request.end()[0] for request in requests] == [200, 200]


def test_a_pull_on_request_that_fails_is_logged_and_answered(
    hub: LoopbackHub, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "anyform.hub")
    answer = serve(on_request=True).post("/v1/chat/completions", json={"model": "owner/none", **CHAT})
    assert answer.status_code == 404
    assert any("owner/none is not pulled: " in record.getMessage() for record in caplog.records)


def test_the_registry_describes_what_is_here_and_what_could_be(hub: LoopbackHub, serve: Serve, tiny: Path) -> None:
    hub.add("owner/parrot", {"parrot.echo": ECHO})
    http = serve()
    with http.stream("POST", "/registry/pull", json={"model": "owner/parrot"}) as response:
        events(response)
    [model] = http.get("/registry/models").json()["models"]
    assert (model["name"], model["format"], model["runs_on"]) == ("owner/parrot", "echo", "echo")
    assert model["revisions"] == [hub.repositories["owner/parrot"].sha]
    here = http.get("/registry/models/owner/parrot").json()
    assert here["here"] is True
    assert here["decision"]["plugin"] == "echo"
    there = http.get("/registry/models/owner/tiny:F16").json()
    assert there["here"] is False
    assert there["metadata"]["architecture"] == "llama"
    assert there["variants"] == ["Q8_0", "F16"]
    assert there["decision"]["verdicts"]
    assert {one["fits"] for one in there["memory"]} == {True}
    assert there["memory"][0]["total_bytes"] > there["size_bytes"]
    assert http.get("/registry/models/owner/none").status_code == 404
    assert http.get("/registry/models/none").status_code == 404
    assert [one["id"] for one in http.get("/v1/models").json()["data"]] == ["owner/parrot"]


def test_suggestions_by_task_and_size(serve: Serve) -> None:
    http = serve()
    every = http.get("/registry/suggestions").json()["suggestions"]
    assert {"chat", "embed", "rerank"} <= {task for one in every for task in one["tasks"]}
    sizes = [one["size_bytes"] for one in every]
    assert sizes == sorted(sizes)
    assert {one["backend"] for one in every} == {""}
    small = http.get("/registry/suggestions", params={"task": "chat", "max_bytes": 10**9}).json()["suggestions"]
    assert small
    assert all("chat" in one["tasks"] and one["size_bytes"] <= 10**9 for one in small)


def test_backends_that_can_be_used_here_suggest_too(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "board.toml"
    file.write_text('[[model]]\nname = "board/tiny"\ntasks = ["chat"]\nsize_gb = 0.001\n')
    info = BackendInfo(name="npu", reads=("x",), tasks=("chat",), devices=("npu",), suggestions=str(file))
    module = ModuleType("npu")
    module.ANYFORM_CONTRACT, module.list_backends = 1, hookimpl(lambda: [info])  # type: ignore[attr-defined]
    http = serve(plugins=Plugins.of({"npu": module}))
    answer = http.get("/registry/suggestions").json()
    assert (answer["suggestions"][0]["name"], answer["suggestions"][0]["backend"]) == ("board/tiny", "npu")
    assert len(answer["suggestions"]) > 8
    assert answer["troubles"] == []
    file.write_text("[[model")
    [trouble] = http.get("/registry/suggestions").json()["troubles"]
    assert "npu" in trouble


def test_a_model_that_was_looked_at_is_not_taken_for_one_that_is_here(
    hub: LoopbackHub, serve: Serve, tiny: Path
) -> None:
    http = serve()
    assert http.get("/registry/models/owner/tiny:F16").json()["here"] is False
    assert http.get("/registry/models/owner/tiny:F16").json()["here"] is False
    answer = http.post("/v1/chat/completions", json={"model": "owner/tiny:F16", **CHAT})
    assert answer.status_code == 404
    assert "anyform pull owner/tiny:F16" in answer.json()["error"]["message"]
