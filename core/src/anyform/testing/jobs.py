"""Asks loaded models in tests: short jobs, what they answered, many at once. For a plugin's own `conftest.py`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from anyform.contract.events import Done, Event, Progress, Text
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
        """The last event, which is the only one of its kind."""
        last = self.events[-1]
        assert isinstance(last, Done)
        assert sum(isinstance(event, Done) for event in self.events) == 1
        return last

    @property
    def text(self) -> str:
        """The first answer's."""
        return self.text_of(0)

    def text_of(self, index: int) -> str:
        """The text of the answer *index* of several."""
        return "".join(event.text for event in self.events if isinstance(event, Text) and event.index == index)

    @property
    def prompt_tokens(self) -> int:
        """As the first event tells."""
        first = self.events[0]
        assert isinstance(first, Progress)
        assert first.stage == "prompt"
        return first.total


class Kit:
    """What tests call: a fixture gives it to them, since test modules cannot import each other; subclass it."""

    GREEDY = GREEDY

    @classmethod
    def ask(cls, model: LoadedModel, job: Job, stop: Stop | None = None) -> Any:
        """Run *job* to its end; an `Answered`, or what a subclass makes of it."""
        return Answered(tuple(model.generate(job, stop or Stop())))

    @classmethod
    def complete(cls, model: LoadedModel, prompt: str | tuple[int, ...], **generation: Any) -> Any:
        """What *model* makes of *prompt*; greedy and short unless *generation* says otherwise."""
        generation.setdefault("sampling", GREEDY)
        generation.setdefault("max_tokens", 48)
        return cls.ask(model, Complete(prompt=prompt, generation=Generation(**generation)))

    @staticmethod
    def chat(text: str, **fields: Any) -> Chat:
        """A job that asks *text*; without a generation of its own for a short and greedy answer."""
        generation = fields.pop("generation", Generation(max_tokens=24, sampling=GREEDY))
        return Chat(messages=(Message(role="user", parts=(Said(text=text),)),), generation=generation, **fields)

    @staticmethod
    def unending(prompt: str) -> Complete:
        """A job that only its context ends, or a stop."""
        return Complete(prompt=prompt, generation=Generation(ignore_eos=True, sampling=GREEDY))

    @staticmethod
    def question(text: str) -> str:
        """*text* as ChatML's templates put it, ready to be answered."""
        return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"

    @staticmethod
    def together(calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """The results of *calls*, or what they raised, all made at once, each in a thread of its own."""
        return together(calls)


def together(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """As `Kit.together`."""
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

    opened: Callable[..., LoadedModel]
    """What loads one, from what a test gives."""
    loaded: list[LoadedModel] = field(default_factory=list)

    def load(self, *given: Any, **settings: Any) -> LoadedModel:
        """One model more."""
        model = self.opened(*given, **settings)
        self.loaded.append(model)
        return model

    def close(self) -> None:
        """Close all of them."""
        for model in self.loaded:
            model.close()
