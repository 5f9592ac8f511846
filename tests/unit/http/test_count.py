"""Tokens of a prompt are counted as the answer's usage counts them, without an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from anyform.assembly import start
from anyform.contract.errors import ContextExceeded, ModelNotFound, Unsupported
from anyform.contract.events import Done, Event, Progress, Text, Usage
from anyform.contract.jobs import Chat, Job
from anyform.contract.model import Stop
from anyform.http import chat, completion
from anyform.http.config import HttpConfig
from anyform.http.count import count
from anyform.http.media import Media
from anyform.http.reply import Ask
from anyform.http.service import Service
from anyform.kernel.news import News
from anyform.testing.echo import write_echo

USER = [{"role": "user", "content": "one two three"}]


def ask(model: str = "parrot", **fields: Any) -> Ask:
    return chat.read({"model": model, "messages": USER, **fields}, Media(1000))


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    root = tmp_path_factory.mktemp("models")
    write_echo(root / "parrot.echo.json")
    write_echo(root / "small.echo.json", context=2)
    made = start(folders=[root], where="here", state=tmp_path_factory.mktemp("state"))
    yield made
    made.close()


def counted(runtime: Any, wanted: Ask) -> int:
    async def run() -> int:
        service = Service(runtime, HttpConfig())
        try:
            return await count(service, wanted)
        finally:
            service.threads.close()

    return asyncio.run(run())


class Scripted:
    """A loaded model whose engine says only at its end, or never, how long the prompt was."""

    parallel = 1

    def __init__(self, over: ContextExceeded | None = None) -> None:
        self.over = over
        self.jobs: list[Job] = []

    def generate(self, job: Job, stop: Stop) -> Iterator[Event]:
        self.jobs.append(job)
        if self.over is not None:
            raise self.over
        yield Progress(stage="prompt")
        yield Text(text="a")
        yield Done(usage=Usage(prompt_tokens=7, completion_tokens=1))

    def close(self) -> None: ...


class Runtime:
    """As much of one as opens the scripted model."""

    library = None

    def __init__(self, model: Scripted) -> None:
        self.model, self.news = model, News()

    def find(self, name: str) -> Any:
        return SimpleNamespace(name=name)

    def open(self, *asked: Any) -> Scripted:
        return self.model


def test_it_is_what_usage_says(runtime: Any) -> None:
    wanted = ask()
    model = runtime.open("parrot")
    *_, done = model.generate(wanted.jobs[0], Stop())
    model.close()
    assert counted(runtime, wanted) == done.usage.prompt_tokens == 3


def test_nothing_is_generated_for_it(runtime: Any) -> None:
    """However much was asked for."""
    assert counted(runtime, ask(n=3, max_tokens=500, stop=["x"])) == 3


def test_all_jobs_of_a_request_are_counted(runtime: Any) -> None:
    assert counted(runtime, completion.read({"model": "parrot", "prompt": ["a b", "a b c"]})) == 5


def test_a_prompt_over_the_context_is_counted_too(runtime: Any) -> None:
    assert counted(runtime, ask("small")) == 3


def test_a_model_that_is_not_here_is_refused(runtime: Any) -> None:
    with pytest.raises(ModelNotFound):
        counted(runtime, ask("absent"))


def test_an_engine_that_counts_at_its_end_is_asked_for_one_token() -> None:
    model = Scripted()
    assert counted(Runtime(model), ask()) == 7
    job = model.jobs[0]
    assert isinstance(job, Chat)
    assert job.generation.max_tokens == 1


def test_an_engine_that_never_says_is_told_of() -> None:
    with pytest.raises(Unsupported, match="does not say how many tokens"):
        counted(Runtime(Scripted(ContextExceeded("too long."))), ask())
