"""Models that the engine's tests write or derive and load, and how they are asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.events import Done, Event, Progress, Text
from anyform.contract.facts import Evidence, FormatMatch, Metadata, Plan, Settings
from anyform.contract.jobs import Chat, Complete, Generation, Job, Message, Sampling
from anyform.contract.jobs import Text as Said
from anyform.contract.model import LoadedModel, Stop
from anyform.testing import gguf

GREEDY = Sampling(temperature=0.0)


@dataclass(frozen=True)
class Answered:
    """All events of one job."""

    events: tuple[Event, ...]

    @property
    def done(self) -> Done:
        last = self.events[-1]
        assert isinstance(last, Done)
        assert sum(isinstance(event, Done) for event in self.events) == 1
        return last

    @property
    def text(self) -> str:
        return self.text_of(0)

    def text_of(self, index: int) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Text) and event.index == index)

    @property
    def prompt_tokens(self) -> int:
        first = self.events[0]
        assert isinstance(first, Progress)
        assert first.stage == "prompt"
        return first.total


def plan(
    path: Path,
    *,
    tasks: tuple[str, ...] = ("chat", "complete"),
    context: int | None = 512,
    parallel: int | None = 4,
    files: tuple[str, ...] = (),
    device: str | None = None,
    **options: Any,
) -> Plan:
    match = FormatMatch(
        format="gguf", entry=path.name, files=files or (path.name,), evidence=Evidence.MAGIC, why="GGUF v3"
    )
    return Plan(
        plugin="gguf_llamacpp",
        backend="llamacpp",
        model=path.stem,
        path=str(path.parent),
        match=match,
        metadata=Metadata(tasks=tasks),
        settings=Settings(context=context, parallel=parallel, device=device, options=options),
    )


def ask(model: LoadedModel, job: Job, stop: Stop | None = None) -> Answered:
    return Answered(tuple(model.generate(job, stop or Stop())))


def complete(model: LoadedModel, prompt: str | tuple[int, ...], **generation: Any) -> Answered:
    generation.setdefault("sampling", GREEDY)
    generation.setdefault("max_tokens", 48)
    return ask(model, Complete(prompt=prompt, generation=Generation(**generation)))


def chat(text: str, **fields: Any) -> Chat:
    """A job that asks *text*; without a generation of its own for a short and greedy answer."""
    generation = fields.pop("generation", Generation(max_tokens=24, sampling=GREEDY))
    return Chat(messages=(Message(role="user", parts=(Said(text=text),)),), generation=generation, **fields)


def unending(prompt: str) -> Complete:
    return Complete(prompt=prompt, generation=Generation(ignore_eos=True))


def question(text: str) -> str:
    """*text* as ChatML's templates put it, ready to be answered."""
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


def together(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """The results of *calls*, all made at once, each in a thread of its own."""
    results: list[Any] = [None] * len(calls)

    def run(place: int) -> None:
        try:
            results[place] = calls[place]()
        except Exception as error:
            results[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@dataclass
class Engine:
    """Loads models, and closes them when the test is over."""

    loaded: list[LoadedModel]

    def load(self, path: Path, **settings: Any) -> LoadedModel:
        from anyform_gguf_llamacpp import backend

        model = backend.load(plan(path, **settings))
        self.loaded.append(model)
        return model


class Kit:
    """What the tests call; a fixture, since test modules cannot import each other."""

    GREEDY = GREEDY
    COMMAND = "anyform serve --models DIR"
    FOLDER = "How do I serve a folder of models?"
    """A question whose answer names COMMAND."""
    plan = staticmethod(plan)
    ask = staticmethod(ask)
    chat = staticmethod(chat)
    unending = staticmethod(unending)
    question = staticmethod(question)
    complete = staticmethod(complete)
    together = staticmethod(together)

    @staticmethod
    def ids(model: Any, text: str) -> list[int]:
        """The tokens of *text*, without any affix."""
        found: list[int] = model._vocabulary.tokenize(text, affixes=False, special=True)
        return found


@pytest.fixture(scope="session")
def kit() -> type[Kit]:
    pytest.importorskip("llama_cpp")
    return Kit


@pytest.fixture
def engine() -> Iterator[Engine]:
    pytest.importorskip("llama_cpp")
    made = Engine([])
    yield made
    for model in made.loaded:
        model.close()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama of random weights with a ChatML template."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    return gguf.write_llama(path, chat_template=gguf.CHATML, context=512)


@pytest.fixture(scope="session")
def tiny_model(tiny: Path) -> Iterator[LoadedModel]:
    pytest.importorskip("llama_cpp")
    from anyform_gguf_llamacpp import backend

    model = backend.load(plan(tiny))
    yield model
    model.close()


@pytest.fixture(scope="session", params=["F16", "Q8_0"])
def decoder(request: pytest.FixtureRequest, sample: Path, sample_half: Path) -> Path:
    """The sample model, in both forms."""
    return sample_half if request.param == "F16" else sample


@pytest.fixture(scope="session")
def sample_model(sample: Path) -> Iterator[LoadedModel]:
    """The sample model, loaded."""
    from anyform_gguf_llamacpp import backend

    model = backend.load(plan(sample, context=2048))
    yield model
    model.close()
