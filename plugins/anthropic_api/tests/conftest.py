"""A real server on a free port, over the echo engine or over a model that a test scripts."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from anyform.assembly import start
from anyform.contract.errors import ModelNotFound
from anyform.contract.events import Event
from anyform.contract.facts import Metadata, Settings
from anyform.contract.jobs import Job
from anyform.contract.model import Stop
from anyform.http.config import HttpConfig
from anyform.http.server import Server, listen
from anyform.kernel.news import News
from anyform.kernel.plugins import Plugins
from anyform.kernel.rule import Rule
from anyform.testing.echo import write_echo
from anyform_anthropic_api import plugin

Script = Callable[[Job, Stop], Iterator[Event]]
Named = tuple[str, dict[str, Any]]


class Running:
    """A server in a thread of its own."""

    def __init__(self, runtime: Any, config: HttpConfig) -> None:
        sock = listen("127.0.0.1", 0)
        listening = threading.Event()
        self.runtime = runtime
        self.model = ""
        self.server = Server(runtime, replace(config, port=sock.getsockname()[1]), ready=lambda url: listening.set())
        self.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        self._thread = threading.Thread(target=self.server.run, args=([sock],), daemon=True)
        self._thread.start()
        assert listening.wait(10)
        self.http = httpx.Client(base_url=self.url, timeout=20)

    def post(self, path: str = "", **body: Any) -> httpx.Response:
        return self.http.post(f"/v1/messages{path}", json=body)

    def events(self, **body: Any) -> list[Named]:
        """The events of a stream, each of which has its name twice."""
        response = self.post(**body, stream=True)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        return [_event(one) for one in response.text.split("\n\n") if one]

    def close(self) -> None:
        self.http.close()
        self.server.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive()


def _event(text: str) -> Named:
    first, second = text.split("\n")
    name, data = first.removeprefix("event: "), json.loads(second.removeprefix("data: "))
    assert data["type"] == name
    return name, data


class ScriptedRuntime:
    """As much of a runtime as the resources need, with one model called `m`."""

    def __init__(self, script: Script, rule: Rule) -> None:
        self.plugins, self.news, self._rule = Plugins.of({"anthropic_api": plugin}), News(), rule
        self._model = SimpleNamespace(parallel=4, generate=script, close=lambda: None)

    def find(self, model: str) -> Any:
        if model != "m":
            raise ModelNotFound(f"there is no model {model!r}.", model=model)
        return SimpleNamespace(name="m")

    def names(self) -> list[str]:
        return ["m"]

    def metadata(self, entry: Any) -> Metadata:
        return Metadata(tasks=("chat",))

    def rule(self, entry: Any) -> Rule:
        return self._rule

    def open(self, model: str, *wanted: Any) -> Any:
        return self._model

    def loaded(self) -> list[Any]:
        return []

    @property
    def pool(self) -> Any:
        return SimpleNamespace(residents=list, failed=dict)

    def hardware(self) -> Any:
        return SimpleNamespace(devices=())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server over echo models: one that sees, one with a small context, one that does not chat."""
    root = tmp_path_factory.mktemp("models")
    write_echo(root / "parrot.echo")
    write_echo(root / "eye.echo", features=["tools", "thinking", "vision"])
    write_echo(root / "small.echo", context=8)
    write_echo(root / "embedder.echo", tasks=["embed"])
    runtime = start(folders=[root], where="here", state=root / "state", defaults=Settings(parallel=4))
    running = Running(runtime, HttpConfig(body_bytes=2**20))
    yield running
    running.close()
    runtime.close()


@pytest.fixture(scope="module")
def own(server: Running) -> Iterator[Running]:
    """The same models on a port that speaks Anthropic's dialect alone."""
    running = Running(server.runtime, HttpConfig(dialects=("anthropic_api",)))
    yield running
    running.close()


@pytest.fixture
def scripted() -> Iterator[Callable[..., Running]]:
    """Starts a server over a model that does what a test says."""
    started: list[Running] = []

    def begin(script: Script, rule: Rule | None = None) -> Running:
        started.append(Running(ScriptedRuntime(script, rule or Rule()), HttpConfig()))
        return started[-1]

    yield begin
    for running in started:
        running.close()


@pytest.fixture(scope="session")
def running() -> type[Running]:
    """For fixtures that end their server themselves."""
    return Running


@pytest.fixture(scope="session")
def sampled(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server over the sample decoder."""
    runtime = start(folders=[sample.parent], where="here", state=tmp_path_factory.mktemp("state"))
    made = Running(runtime, HttpConfig(default_model=sample.stem))
    made.model = sample.stem
    yield made
    made.close()
    runtime.close()
