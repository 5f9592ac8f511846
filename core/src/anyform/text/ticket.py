"""One request as the decode loop sees it, and what the loop tells the thread that waits for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anyform.contract.errors import Fault
from anyform.contract.model import Stop
from anyform.text.sampling import Recipe
from anyform.text.slot import Media


class Constraint(Protocol):
    """What an answer must follow, token by token."""

    def mask(self, logits: NDArray[np.float32]) -> None:
        """Set the logits of all tokens that may not come next to -inf."""

    def accept(self, token: int) -> None:
        """Go on after *token*."""

    @property
    def finished(self) -> bool:
        """Whether nothing more may follow."""


@dataclass(frozen=True, slots=True)
class Likelihood:
    """The log-probability of a chosen token, and of the likeliest ones at its place."""

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class End:
    """Answer *index* is over: stop, length or cancelled; it had *tokens* tokens, the end token included."""

    index: int
    reason: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Scored:
    """The likelihoods of the next prompt tokens; those of the first prompt token do not exist."""

    likelihoods: tuple[Likelihood, ...]


Token: TypeAlias = tuple[int, int, Likelihood | None]
"""Answer index, token id, likelihood: a tuple, since one is made for every token."""
Message: TypeAlias = Token | End | Scored | Fault


@dataclass(slots=True, eq=False)
class Answer:
    """One sequence: a prompt and the tokens that follow it."""

    ticket: Ticket
    index: int
    tokens: list[int]
    """The prompt, then what was generated."""
    left: int
    """Tokens it may still generate."""
    constraint: Constraint | None = None
    slot: int = -1
    seat: int = 0
    """When it got its slot, as a count."""
    decoded: int = 0
    """How many of `tokens` lie in the slot's memory."""
    dropped: bool = False
    """Set by the reader: it wants no more (a stop string came, or it has gone)."""

    @property
    def reading(self) -> bool:
        """Whether part of the prompt is still to be decoded."""
        return self.decoded < len(self.ticket.prompt)


@dataclass(slots=True, eq=False)
class Ticket:
    """One request: written by its own thread until it is submitted, then by the decode loop."""

    prompt: list[int]
    recipe: Recipe
    limit: int
    """Tokens to generate at the most."""
    stop: Stop
    media: tuple[Media, ...] = ()
    constraints: Sequence[Constraint] = ()
    """One for each answer; empty: free."""
    n: int = 1
    top_logprobs: int = -1
    """How many alternatives to report; -1: no log-probabilities at all."""
    score_prompt: bool = False
    ends: frozenset[int] = frozenset()
    """Tokens that end an answer."""
    messages: SimpleQueue[list[Message]] = field(default_factory=SimpleQueue)
    """What its reader gets, in order; the messages of one list came together."""
    held: list[Message] = field(default_factory=list)
    """Tokens that the reader is not yet woken for."""
    told_s: float = 0.0
    """When the reader was woken last (time.perf_counter)."""
    answers: list[Answer] = field(default_factory=list)
    cached: int = 0
    started_s: float = 0.0
    """When its first answer got a slot (time.perf_counter)."""
    first_s: float = 0.0
    """When its first token was chosen."""
    ended_s: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)
    """What else the loop has to say of it: JSON values, for `Done.extra`."""
    smallest_gap: float = float("inf")
    """The closest that a choice was; kept only where `wants_gap`."""
    wants_gap: bool = field(init=False)
    plain: bool = field(init=False)
    """Whether its tokens are just the most likely ones, with nothing to report about them."""

    def __post_init__(self) -> None:
        for index in range(self.n):
            constraint = self.constraints[index] if self.constraints else None
            self.answers.append(Answer(self, index, list(self.prompt), self.limit, constraint))
        self.wants_gap = self.recipe.seeded or self.top_logprobs >= 0
        self.plain = self.recipe.plain and not self.constraints and not self.wants_gap

    def tell(self, *messages: Message) -> None:
        """Wake the reader with what was held back, and *messages* behind it."""
        batch, self.held = [*self.held, *messages], []
        self.told_s = time.perf_counter()
        self.messages.put(batch)
