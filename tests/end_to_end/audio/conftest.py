"""A real server over real engines of sound in workers, with tiny models that the tests write."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from anyform.assembly import start
from anyform.contract.facts import Settings
from anyform.http.config import HttpConfig
from anyform.http.server import Server, listen


class Served:
    """A server in a thread of its own over a folder of models, each of which it runs in a worker."""

    def __init__(self, folder: Path, state: Path, settings: Settings, config: HttpConfig) -> None:
        self.runtime = start(folders=[folder], where="worker", state=state, defaults=settings)
        sock, listening = listen("127.0.0.1", 0), threading.Event()
        port = sock.getsockname()[1]
        self._server = Server(self.runtime, replace(config, port=port), ready=lambda url: listening.set())
        self._thread = threading.Thread(target=self._server.run, args=([sock],), daemon=True)
        self._thread.start()
        assert listening.wait(10)
        self.url = f"http://127.0.0.1:{port}"
        self.http = httpx.Client(base_url=self.url, timeout=60)
        self.openai = OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)

    def loaded(self, model: str) -> dict[str, Any]:
        """What the server says of a model that it runs."""
        [found] = [one for one in self.http.get("/runtime/status").json()["models"] if one["model"] == model]
        return found

    def close(self) -> None:
        self.http.close()
        self.openai.close()
        self._server.should_exit = True
        self._thread.join(20)
        self.runtime.close()
        assert not self._thread.is_alive()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Served]]:
    """Starts a server: the folder, load options by name, HttpConfig's fields as `config`."""
    started: list[Served] = []

    def begin(folder: Path, config: HttpConfig | None = None, parallel: int = 2, **options: Any) -> Served:
        settings = Settings(parallel=parallel, options=options)
        started.append(Served(folder, tmp_path_factory.mktemp("state"), settings, config or HttpConfig()))
        return started[-1]

    yield begin
    for one in started:
        one.close()
