"""Leaves out the beginning of a conversation that is over the context, where its client lets it be cut."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from anyform.contract.errors import ContextExceeded
from anyform.contract.jobs import Chat, Message, Text
from anyform.http.reply import Ask

Messages = tuple[Message, ...]
SURE = 2
"""How many times too long what is left must seem, by its weight, to be passed over without being tried."""
AROUND = 32
"""Tokens that a template may put around a message, at most."""


def shortened(messages: Messages, weight: float = 0) -> Messages | None:
    """*messages* without their oldest turn, and without those after it until *weight* is gone; None: nothing can go.
    The system's stay, and so does what is asked last.

    A turn is what a user says and all that follows until one speaks again; of the last, the oldest calls of tools go,
    with their results.
    """
    gone: set[int] = set()
    for turn in _turns(messages):
        gone.update(turn)
        weight -= sum(_weight(messages[at]) for at in turn)
        if weight <= 0:
            break
    return tuple(message for at, message in enumerate(messages) if at not in gone) if gone else None


def _turns(messages: Messages) -> Iterator[range]:
    """What may go, step by step: places in *messages*."""
    start, end = 0, len(messages)
    while True:
        start = _next(messages, start, ("user", "assistant", "tool"), end)
        later = _next(messages, start + 1, ("user", "system"), end)
        if later == end:
            break
        yield range(start, later)
        start = later
    if start < end and messages[start].role == "user":
        start += 1
    while (later := _next(messages, start + 1, ("assistant",), end)) < end:
        yield range(start, later)
        start = later


def _next(messages: Messages, start: int, roles: Sequence[str], end: int) -> int:
    """Where the next message of one of *roles* is, from *start* on; *end*: nowhere."""
    return next((at for at in range(start, end) if messages[at].role in roles), end)


def fitting(ask: Ask, over: ContextExceeded) -> Ask | None:
    """A form of *ask* that is shorter, and no shorter than must be to fit; None: there is none. *over*: how it was
    refused.

    A long conversation would be read hundreds of times if each turn less were tried. So at once goes what surely must:
    what has no more tokens than are too many, at most one a byte, and what leaves SURE times too many.
    """
    if ask.shorter is None:
        return None
    tokens, context = over.details.get("prompt_tokens"), over.details.get("context")
    if not (isinstance(tokens, int) and isinstance(context, int) and tokens > context):
        return ask.shorter()
    whole = sum(_weight(message) for job in ask.jobs if isinstance(job, Chat) for message in job.messages)
    many = whole - SURE * context * whole // tokens if math.isfinite(whole) else 0
    return ask.shorter(max(tokens - context, many))


def _weight(message: Message) -> float:
    """More tokens than it has; infinite where it has things other than text, which bytes say nothing of."""
    if not all(isinstance(part, Text) for part in message.parts):
        return math.inf
    said = [message.text, message.reasoning, *(text for call in message.calls for text in (call.name, call.arguments))]
    return AROUND + sum(len(text.encode("utf-8", "replace")) for text in said)
