"""Leaves out the beginning of a conversation that is over the context, where `truncate` says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from anyform.contract.jobs import Message
from anyform.dialect import Ask, shortened

Messages = tuple[Message, ...]
ASK = 'Send "truncate": true to have the oldest turns left out; the last one is never cut.'
LAST = "With truncate the oldest turns are left out; the last one and the system's message are never cut."


class Cut:
    """Makes the Asks of one request."""

    def __init__(self, made: Callable[[Messages], Ask], wanted: bool) -> None:
        """*made*: the request with these messages. *wanted*: whether any may be left out."""
        self._made, self._wanted = made, wanted

    def ask(self, messages: Messages, cut: int = 0) -> Ask:
        """With *messages*, behind *cut* that were left out."""
        shorter = partial(self._less, messages, cut) if self._wanted else None
        return replace(self._made(messages), shorter=shorter, cut=cut, uncut=LAST if self._wanted else ASK)

    def _less(self, messages: Messages, cut: int, weight: float = 0) -> Ask | None:
        kept = shortened(messages, weight)
        return None if kept is None else self.ask(kept, cut + len(messages) - len(kept))
