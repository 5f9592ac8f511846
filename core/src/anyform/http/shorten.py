"""Leaves out the beginning of a conversation that is over the context, where its client lets it be cut."""

from __future__ import annotations

from anyform.contract.errors import ContextExceeded
from anyform.contract.jobs import Chat, Message, Text
from anyform.http.reply import Ask

Messages = tuple[Message, ...]
SURE = 2
"""How many times too long what is left must seem, by its letters, to be passed over without being tried."""


def shortened(messages: Messages) -> Messages | None:
    """*messages* without their oldest turn; None: nothing can go. The system's stay, and so does what is asked last.

    A turn is what a user says and all that follows until one speaks again; of the last, the oldest calls of tools go,
    with their results.
    """
    first = next((at for at, message in enumerate(messages) if message.role != "system"), len(messages))
    kept, rest = messages[:first], messages[first:]
    later = next((at for at in range(1, len(rest)) if rest[at].role in ("user", "system")), None)
    if later is not None:
        return kept + rest[later:]
    asked = rest[:1] if rest and rest[0].role == "user" else ()
    work = rest[len(asked) :]
    again = next((at for at in range(1, len(work)) if work[at].role == "assistant"), None)
    return None if again is None else kept + asked + work[again:]


def fitting(ask: Ask, over: ContextExceeded) -> Ask | None:
    """The longest form of *ask* that is shorter and may fit; None: there is none. *over*: how it was refused.

    A long conversation would be read hundreds of times if each message less were tried.
    """
    less = ask.shorter() if ask.shorter is not None else None
    tokens, context = over.details.get("prompt_tokens"), over.details.get("context")
    whole = _letters(ask)
    if not (whole and isinstance(tokens, int) and isinstance(context, int)):
        return less
    while less is not None and less.shorter is not None:
        letters = _letters(less)
        if letters is None or letters * tokens <= SURE * context * whole:
            break
        further = less.shorter()
        if further is None:
            break
        less = further
    return less


def _letters(ask: Ask) -> int | None:
    """Of all messages; None: there are things other than text, which letters say nothing of."""
    letters = 0
    for part in (part for job in ask.jobs if isinstance(job, Chat) for said in job.messages for part in said.parts):
        if not isinstance(part, Text):
            return None
        letters += len(part.text)
    return letters
