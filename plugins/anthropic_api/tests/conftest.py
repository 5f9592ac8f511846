"""A real server on a free port, over the echo engine or over a model that a test scripts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
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
from anyform.http.config import HttpConfig, Listener
from anyform.kernel.news import News
from anyform.kernel.plugins import Plugins
from anyform.kernel.rule import Rule
from anyform.testing.echo import write_echo
from anyform.testing.serving import Served
from anyform_anthropic_api import plugin

Script = Callable[[Job, Stop], Iterator[Event]]
Named = tuple[str, dict[str, Any]]


class Running(Served):
    """A server with a client."""

    def __init__(self, runtime: Any, config: HttpConfig | None = None) -> None:
        super().__init__(runtime, config)
        self.model = ""
        self.http = client(self.url)

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
        super().close()


def client(url: str) -> httpx.Client:
    """Its patience is for machines that are slow and have much else to do."""
    return httpx.Client(base_url=url, timeout=120)


def _event(text: str) -> Named:
    first, second = text.split("\n")
    name, data = first.removeprefix("event: "), json.loads(second.removeprefix("data: "))
    assert data["type"] == name
    return name, data


class ScriptedRuntime:
    """As much of a runtime as the resources need, with one model called `m`."""

    library = None

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

    def close(self) -> None:
        """There is nothing to end."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server over echo models: one that sees, one with a small context, one that does not chat."""
    root = tmp_path_factory.mktemp("models")
    write_echo(root / "parrot.echo")
    write_echo(root / "eye.echo", features=["tools", "thinking", "vision"])
    write_echo(root / "small.echo", context=8)
    write_echo(root / "embedder.echo", tasks=["embed"])
    runtime = start(folders=[root], where="here", state=root / "state", defaults=Settings(parallel=4))
    listener = Listener(port=None, dialects=("anthropic_api",))
    running = Running(runtime, HttpConfig(body_bytes=2**20, listeners=(listener,)))
    yield running
    running.close()


@pytest.fixture(scope="module")
def own(server: Running) -> Iterator[httpx.Client]:
    """Of a port that speaks Anthropic's dialect alone."""
    with client(server.places[1].url) as made:
        yield made


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
def sampled(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server over the sample decoder."""
    runtime = start(folders=[sample.parent], where="here", state=tmp_path_factory.mktemp("state"))
    made = Running(runtime, HttpConfig(default_model=sample.stem))
    made.model = sample.stem
    yield made
    made.close()
