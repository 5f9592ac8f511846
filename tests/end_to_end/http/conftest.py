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
from openai import OpenAI

from anyform.assembly import start
from anyform.contract.errors import ModelNotFound
from anyform.contract.events import Event
from anyform.contract.facts import Metadata, Settings
from anyform.contract.jobs import Job
from anyform.contract.model import Stop
from anyform.http.config import HttpConfig
from anyform.http.listener import Place
from anyform.http.server import Server
from anyform.kernel.news import News
from anyform.kernel.plugins import Plugins
from anyform.kernel.rule import Rule
from anyform.kernel.runtime import Use

Script = Callable[[Job, Stop], Iterator[Event]]


class Running:
    """A server in a thread of its own."""

    def __init__(self, runtime: Any, config: HttpConfig) -> None:
        self.runtime = runtime
        listening = threading.Event()
        self.places: list[Place] = []
        """Where it listens, the main one first."""
        self.server = Server(
            runtime, replace(config, port=0), ready=lambda url: listening.set(), places=self.places.extend
        )
        self.service = self.server.service
        self._thread = threading.Thread(target=self.server.run, args=(self.server.listen(),), daemon=True)
        self._thread.start()
        assert listening.wait(10)
        self.url = self.places[0].url
        self.http = httpx.Client(base_url=self.url, timeout=20)
        self.openai = OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=20)

    def close(self) -> None:
        self.http.close()
        self.openai.close()
        self.server.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive()


class ScriptedModel:
    """A loaded model that does what a test says."""

    def __init__(self, script: Script, parallel: int) -> None:
        self.parallel = parallel
        self.generate = script

    def close(self) -> None: ...


class ScriptedRuntime:
    """As much of a runtime as the texts' resources need, with one model called `m`."""

    library = None

    def __init__(self, script: Script, parallel: int = 4) -> None:
        self.plugins, self.news = Plugins.of({}), News()
        self.model = ScriptedModel(script, parallel)

    def names(self) -> list[str]:
        return ["m"]

    def find(self, model: str) -> Any:
        if model != "m":
            raise ModelNotFound(f"there is no model {model!r}.", model=model)
        return SimpleNamespace(name="m")

    def metadata(self, entry: Any) -> Metadata:
        return Metadata(tasks=("speak",))

    def rule(self, entry: Any) -> Rule:
        return Rule()

    def open(
        self,
        model: str,
        job: Job | None = None,
        settings: Settings | None = None,
        use: Use | None = None,
        hold: bool = False,
    ) -> ScriptedModel:
        return self.model

    def loaded(self) -> list[Any]:
        return []

    @property
    def pool(self) -> Any:
        return SimpleNamespace(residents=list, failed=dict)

    def hardware(self) -> Any:
        return SimpleNamespace(devices=())


@pytest.fixture(scope="session")
def running() -> type[Running]:
    """For fixtures that end their server themselves."""
    return Running


@pytest.fixture
def serve() -> Iterator[Callable[..., Running]]:
    """Starts a server over a runtime, with HttpConfig's fields as keywords; it ends with the test."""
    started: list[Running] = []

    def begin(runtime: Any, **config: Any) -> Running:
        started.append(Running(runtime, HttpConfig(**config)))
        return started[-1]

    yield begin
    for running in started:
        running.close()


@pytest.fixture
def scripted(serve: Callable[..., Running]) -> Callable[..., Running]:
    """Starts a server over a ScriptedModel: script, parallel, HttpConfig's fields."""
    return lambda script, parallel=4, **config: serve(ScriptedRuntime(script, parallel), **config)


def write(path: Path, **model: Any) -> None:
    """An echo model."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"format": "echo", **model}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Echo models: one in a folder with variants, one small, one slow, ones with a single task."""
    root = tmp_path_factory.mktemp("models")
    write(root / "parrot.echo.json")
    write(root / "small.echo.json", context=8)
    write(root / "slow.echo.json", options={"delay_s": 0.02})
    write(root / "snail.echo.json", options={"load_delay_s": 60.0})
    write(root / "chatter.echo.json", tasks=["chat"])
    write(root / "embedder.echo.json", tasks=["embed"])
    write(root / "hearer.echo.json", tasks=["transcribe", "translate"])
    write(root / "slow-hearer.echo.json", tasks=["transcribe"], options={"delay_s": 0.02})
    write(root / "owner" / "bird" / "a.echo.json", name="bird", variant="Q4", order=1)
    write(root / "owner" / "bird" / "b.echo.json", name="bird", variant="Q8", order=0)
    return root


@pytest.fixture(scope="module", params=["here", "worker"])
def server(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server over all echo models, in this process and in workers."""
    state = tmp_path_factory.mktemp("state")
    runtime = start(folders=[folder], where=request.param, state=state, defaults=Settings(parallel=4))
    running = Running(runtime, HttpConfig())
    yield running
    running.close()
    runtime.close()


@pytest.fixture
def client(server: Running) -> OpenAI:
    return server.openai


@pytest.fixture
def http(server: Running) -> httpx.Client:
    return server.http
