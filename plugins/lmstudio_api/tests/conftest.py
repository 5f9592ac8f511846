"""A server over echo models, with LM Studio's API on a port that all dialects share, and on a listener of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from anyform.assembly import start
from anyform.contract.facts import Settings
from anyform.http.config import HttpConfig, Listener
from anyform.kernel.rule import Rule
from anyform.testing.echo import write_echo
from anyform.testing.serving import Served

RULES: dict[str, dict[str, Any]] = {
    "told": {
        "system": "Be kind.",
        "messages": ({"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}),
    },
    "remarking": {"settings": Settings(options={"remark": "This is an echo."})},
    "crasher": {"settings": Settings(options={"crash": "after:2"}), "where": "worker", "fallback": False},
    "brief": {"request": {"max_tokens": 2, "stop": ["three"], "n": 2}},
}
"""What the settings say of some of the models."""
Event = tuple[str, dict[str, Any]]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server over echo models of several kinds."""
    root = tmp_path_factory.mktemp("models")
    write_echo(root / "parrot.echo.json", context=256)
    write_echo(root / "seer.echo.json", features=["tools", "thinking", "vision"])
    write_echo(root / "plain.echo.json", features=[])
    write_echo(root / "small.echo.json", context=8)
    write_echo(root / "embedder.echo.json", tasks=["embed"])
    write_echo(root / "hearer.echo.json", tasks=["transcribe"])
    write_echo(root / "owner" / "bird" / "a.echo.json", name="bird", variant="Q4_K_M", parameters=600_000_000)
    write_echo(root / "owner" / "bird" / "b.echo.json", name="bird", variant="F16", parameters=600_000_000, order=1)
    for name in RULES:
        write_echo(root / f"{name}.echo.json")
    runtime = start(
        folders=[root],
        where="here",
        state=tmp_path_factory.mktemp("state"),
        defaults=Settings(parallel=4),
        rules=lambda entry: Rule(**RULES.get(entry.name, {})),
    )
    listener = Listener(port=None, dialects=("lmstudio_api", "openai"))
    here = Served(runtime, HttpConfig(listeners=(listener,)))
    yield here
    here.close()


@pytest.fixture(scope="session")
def http(served: Served) -> Iterator[httpx.Client]:
    """Of the port that all dialects share."""
    with httpx.Client(base_url=served.url, timeout=120) as client:
        yield client


@pytest.fixture(scope="session")
def own(served: Served) -> Iterator[httpx.Client]:
    """Of the listener of its own."""
    with httpx.Client(base_url=served.places[1].url, timeout=120) as client:
        yield client


@pytest.fixture(scope="session")
def post(http: httpx.Client) -> Callable[..., httpx.Response]:
    """Posts a JSON body, given as keywords, to a path."""
    return lambda path, /, **body: http.post(path, json=body)


@pytest.fixture(scope="session")
def told(post: Callable[..., httpx.Response]) -> Callable[..., Any]:
    """What a body is answered with 200."""

    def answered(path: str, /, **body: Any) -> Any:
        answer = post(path, **body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return answered


@pytest.fixture(scope="session")
def chunks(post: Callable[..., httpx.Response]) -> Callable[..., list[dict[str, Any]]]:
    """OpenAI's chunks of a stream, which ends with [DONE]."""

    def streamed(path: str, /, **body: Any) -> list[dict[str, Any]]:
        answer = post(path, stream=True, **body)
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8", answer.text
        lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
        assert lines.pop() == "[DONE]"
        return [json.loads(line) for line in lines]

    return streamed


@pytest.fixture(scope="session")
def events(post: Callable[..., httpx.Response]) -> Callable[..., list[Event]]:
    """The named events of a stream of /api/v1/chat."""

    def streamed(**body: Any) -> list[Event]:
        answer = post("/api/v1/chat", stream=True, **body)
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8", answer.text
        return list(map(_event, answer.text.split("\n\n")[:-1]))

    return streamed


def _event(text: str) -> Event:
    """Each says its name twice."""
    name, data = text.split("\n")
    told: dict[str, Any] = json.loads(data.removeprefix("data: "))
    assert name == f"event: {told.pop('type')}"
    return name.removeprefix("event: "), told
