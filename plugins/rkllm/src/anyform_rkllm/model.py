"""A loaded model: takes jobs, checks them, and gives each its turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from anyform.contract.errors import Unsupported
from anyform.contract.events import Done, Event, Progress
from anyform.contract.jobs import Chat, Complete, Embed, Job
from anyform.contract.model import Stop
from anyform_rkllm.answering import Answering
from anyform_rkllm.embedding import Embedding
from anyform_rkllm.engine import Engine, EngineStuck
from anyform_rkllm.history import History
from anyform_rkllm.prompting import Prompting
from anyform_rkllm.turn import Turn
from anyform_rkllm.work import Work


class RkllmModel:
    """What `load` gives."""

    parallel = 1
    """The library does one thing at a time; the others wait in line."""

    def __init__(
        self,
        engine: Engine,
        prompting: Prompting,
        *,
        runs_on: str = "",
        notes: Sequence[str] = (),
        text_interval_s: float = 0.0,
        close: Callable[[], None] | None = None,
    ) -> None:
        """*text_interval_s*: how long text may be held back so that it travels with the next. *close*: done last."""
        self.runs_on, self.notes = runs_on, tuple(notes)
        self._engine, self._prompting, self._interval_s = engine, prompting, text_interval_s
        self._turn, self._history = Turn(), History()
        self._close = close
        self._stuck = False

    def generate(self, job: Job, stop: Stop) -> Iterator[Event]:
        """Do *job*. Raises, before any event, Closed, ContextExceeded, Invalid, Unsupported."""
        self._turn.check()
        do, tokens = self._prepared(job)
        return self._events(do, tokens, stop)

    def alive(self) -> bool:
        """Whether the library still ends its runs."""
        return not self._stuck

    def close(self) -> None:
        """End running jobs with Closed, free the model. Idempotent."""
        self._turn.close(self._engine.abort)
        self._engine.close()
        if self._close is not None:
            self._close()

    def _prepared(self, job: Job) -> tuple[Callable[[Work], Done], int]:
        """What does it, and how many tokens it begins with."""
        words = self._prompting.wording.words
        if isinstance(job, Chat | Complete):
            asked = self._prompting.chat(job) if isinstance(job, Chat) else self._prompting.complete(job)
            return Answering(self._engine, self._history, asked, words, self._interval_s).do, asked.prompt_tokens
        if isinstance(job, Embed):
            embedding = Embedding(self._engine, self._history, job, self._prompting)
            return embedding.do, embedding.tokens
        raise Unsupported(
            f"this model chats, completes and embeds; it does not do the task {job.task}.",
            "Use a model that lists the task (`anyform list`).",
        )

    def _events(self, do: Callable[[Work], Done], tokens: int, stop: Stop) -> Iterator[Event]:
        work = Work(self._turn, stop)
        yield Progress(stage="prompt", total=tokens)
        try:
            yield from work.events(do)
        except EngineStuck:
            self._stuck = True
            raise
