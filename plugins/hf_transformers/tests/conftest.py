"""Folders that the engine's tests load or write, and how models are asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.events import Done, Event, Progress, Text, Vector
from anyform.contract.facts import Plan, Settings
from anyform.contract.jobs import Chat, Complete, Generation, Job, Message, Sampling
from anyform.contract.jobs import Text as Said
from anyform.contract.model import LoadedModel, Stop

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

    @property
    def vectors(self) -> Any:
        """One row for each input."""
        import numpy

        found = {event.index: numpy.frombuffer(event.data, "<f4") for event in self.events if isinstance(event, Vector)}
        return numpy.stack([found[place] for place in range(len(found))])


def plan(folder: Path, *, context: int | None = 512, parallel: int | None = 4, **options: Any) -> Plan:
    """A plan as the kernel makes it, from what the format's side finds in *folder*."""
    from anyform.kernel.files import FolderFiles
    from anyform_hf_transformers import detection, metadata

    files = FolderFiles(folder)
    match = detection.detect(files)[0]
    return Plan(
        plugin="hf_transformers",
        backend="transformers",
        model=folder.name,
        path=str(folder),
        match=match,
        metadata=metadata.extract(files, match),
        settings=Settings(context=context, parallel=parallel, options=options),
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
    """Loads folders, and closes the models when the test is over."""

    loaded: list[LoadedModel]

    def load(self, folder: Path, *, tasks: tuple[str, ...] = (), **settings: Any) -> LoadedModel:
        from anyform_hf_transformers import backend

        made = plan(folder, **settings)
        if tasks:
            made = replace(made, metadata=replace(made.metadata, tasks=tasks))
        model = backend.load(made)
        self.loaded.append(model)
        return model

    def close(self) -> None:
        for model in self.loaded:
            model.close()


class Kit:
    """What the tests call; a fixture, since test modules cannot import each other."""

    GREEDY = GREEDY
    COMMAND = "anyform serve --models DIR"
    FOLDER = "How do I serve a folder of models?"
    """A question whose answer names COMMAND."""
    plan = staticmethod(plan)
    ask = staticmethod(ask)
    chat = staticmethod(chat)
    complete = staticmethod(complete)
    together = staticmethod(together)

    @staticmethod
    def question(text: str) -> str:
        """*text* as ChatML's templates put it, ready to be answered."""
        return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"

    @staticmethod
    def unending(prompt: str) -> Complete:
        return Complete(prompt=prompt, generation=Generation(ignore_eos=True, sampling=GREEDY))


@pytest.fixture(scope="session")
def kit() -> type[Kit]:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    return Kit


@pytest.fixture
def engine(kit: type[Kit]) -> Iterator[Engine]:
    made = Engine([])
    yield made
    made.close()


@pytest.fixture(scope="session")
def decoder_folder() -> Path:
    """The sample decoder as transformers reads it."""
    layout = pytest.importorskip("anyform_samples.layout", exc_type=ImportError)
    return Path(layout.SAMPLE)


@pytest.fixture(scope="session")
def encoder_folder() -> Path:
    """The sample encoder as sentence-transformers reads it."""
    layout = pytest.importorskip("anyform_samples.embedding.layout", exc_type=ImportError)
    return Path(layout.DATA)


@pytest.fixture(scope="session")
def decoder(kit: type[Kit], decoder_folder: Path) -> Iterator[LoadedModel]:
    """The sample decoder, loaded."""
    made = Engine([])
    yield made.load(decoder_folder, context=2048)
    made.close()


@pytest.fixture(scope="session")
def encoder(kit: type[Kit], encoder_folder: Path) -> Iterator[LoadedModel]:
    """The sample encoder, loaded."""
    made = Engine([])
    yield made.load(encoder_folder, context=None)
    made.close()
