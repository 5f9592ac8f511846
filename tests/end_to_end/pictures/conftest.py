"""Real servers over the real engine, with tiny pipelines: one in this process, one with workers of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from anyform.assembly import start
from anyform.contract.facts import Settings
from anyform.http.config import HttpConfig
from anyform.http.server import Server, listen

from .direct import PROMPT, SIDE, STEPS, Direct, opened, write_lora

OWN = ("n", "size", "output_format", "output_compression", "quality", "stream", "partial_images", "response_format")
"""Arguments of the client's own."""


class Watch:
    """What /runtime/events tells: (kind, facts), as it comes."""

    def __init__(self, url: str) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self._come, there = threading.Condition(), threading.Event()
        self._thread = threading.Thread(target=self._read, args=(url, there), daemon=True)
        self._thread.start()
        assert there.wait(20)

    def mark(self) -> int:
        """Where `since` and `wait` are to begin."""
        return len(self.told)

    def since(self, mark: int, kind: str) -> list[dict[str, Any]]:
        """The facts of all of one kind that came after *mark*."""
        return [facts for told, facts in self.told[mark:] if told == kind]

    def wait(self, mark: int, kind: str, count: int = 1, **facts: Any) -> dict[str, Any]:
        """The *count*th of one kind with these *facts* after *mark*; waits until it comes."""

        def found() -> list[dict[str, Any]]:
            return [told for told in self.since(mark, kind) if facts.items() <= told.items()]

        with self._come:
            assert self._come.wait_for(lambda: len(found()) >= count, 60), self.told[mark:]
        return found()[count - 1]

    def close(self) -> None:
        """After the server was."""
        self._thread.join(20)
        assert not self._thread.is_alive()

    def _read(self, url: str, there: threading.Event) -> None:
        kind = ""
        with httpx.stream("GET", f"{url}/runtime/events", timeout=None) as stream:
            for line in stream.iter_lines():
                there.set()
                name, _, value = line.partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    with self._come:
                        self.told.append((kind, json.loads(value)))
                        self._come.notify_all()


class Served:
    """A server in a thread of its own over a folder of models."""

    def __init__(self, folder: Path, state: Path, config: HttpConfig, **how: Any) -> None:
        self.runtime = start(folders=[folder], state=state, **how)
        sock, listening = listen("127.0.0.1", 0), threading.Event()
        port = sock.getsockname()[1]
        self._server = Server(self.runtime, config, ready=lambda url: listening.set())
        self._thread = threading.Thread(target=self._server.run, args=([sock],), daemon=True)
        self._thread.start()
        assert listening.wait(20)
        self.url = f"http://127.0.0.1:{port}"
        self.watch = Watch(self.url)
        self.http = httpx.Client(base_url=self.url, timeout=120)
        self.openai = OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=120)

    def loaded(self, model: str) -> dict[str, Any]:
        """What the server says of a model that it runs."""
        [found] = [one for one in self.http.get("/runtime/status").json()["models"] if one["model"] == model]
        return found

    def paint(self, model: str = "sd", seed: int = 7, prompt: str = PROMPT, **more: Any) -> Any:
        """The picture that the client of OpenAI gets."""
        return opened(self.answer(model, seed, prompt, **more).data[0].b64_json)

    def answer(self, model: str = "sd", seed: int | None = 7, prompt: str = PROMPT, **more: Any) -> Any:
        """Its whole answer. *more*: of the client's own arguments, and others."""
        own = (
            "n",
            "size",
            "output_format",
            "output_compression",
            "quality",
            "stream",
            "partial_images",
            "response_format",
        )
        given = {"size": f"{SIDE}x{SIDE}", "response_format": "b64_json"}
        given |= {name: more.pop(name) for name in own if name in more}
        body = {"num_inference_steps": STEPS, "seed": seed, **more}
        return self.openai.images.generate(model=model, prompt=prompt, extra_body=body, **given)  # type: ignore[call-overload]

    def close(self) -> None:
        self.http.close()
        self.openai.close()
        self._server.should_exit = True
        self._thread.join(20)
        self.watch.close()
        self.runtime.close()
        assert not self._thread.is_alive()


@pytest.fixture(scope="session")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny pipeline of each family, called as the family is.

    Beside them `wild.safetensors`, a LoRA of `sd`; and single files of the pipeline `sd`, `painted` and `bare`.
    """
    from anyform_samples import painting, painting_checkpoint

    folder = tmp_path_factory.mktemp("pipelines")
    for family in painting.FAMILIES:
        painting.write(family, folder / family)
    write_lora(folder / "sd", folder / "wild.safetensors")
    for name in ("painted", "bare"):
        (folder / name).mkdir()
        painting_checkpoint.write_checkpoint("sd", folder / name / f"{name}.safetensors")
    return folder


@pytest.fixture(scope="session")
def directly(pipelines: Path) -> Callable[[str], Direct]:
    """The same pipelines, called directly."""
    made: dict[str, Direct] = {}

    def find(family: str) -> Direct:
        if family not in made:
            made[family] = Direct.of(pipelines / family)
        return made[family]

    return find


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Served]]:
    """Starts a server over a folder. What one has learnt of this machine all know, so that loads are rehearsed once."""
    started, state = [], tmp_path_factory.mktemp("state")

    def begin(folder: Path, config: HttpConfig | None = None, **how: Any) -> Served:
        started.append(Served(folder, state, config or HttpConfig(), **how))
        return started[-1]

    yield begin
    for one in started:
        one.close()


@pytest.fixture(scope="session")
def house(serve: Callable[..., Served], pipelines: Path, studio: Served) -> Served:
    """All families, in this process: diffusers is imported once. `painted` is told where its configurations are."""
    studio.paint()  # so that it is known here how to load
    config = Settings(options={"config": str(pipelines / "sd")})
    return serve(pipelines, where="here", defaults=Settings(options={"threads": 1}), settings={"painted": config})


@pytest.fixture(scope="session")
def studio(serve: Callable[..., Served], pipelines: Path) -> Served:
    """Models in workers of their own; `sd` with its LoRA."""
    loras = {"loras": {"wild": str(pipelines / "wild.safetensors")}}
    return serve(pipelines, defaults=Settings(options={"threads": 1}), settings={"sd": Settings(options=loras)})
