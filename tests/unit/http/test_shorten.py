"""What is left out of a conversation that is too long, and in which order."""

from __future__ import annotations

from typing import Any

import pytest

from anyform.contract.errors import ContextExceeded
from anyform.contract.jobs import Call, Chat, Message, Picture, Text
from anyform.http.reply import Ask
from anyform.http.shorten import SURE, fitting, shortened

ROLES = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}


def conversation(said: str) -> tuple[Message, ...]:
    """A message for each letter, with its place as text."""
    return tuple(Message(role=ROLES[letter], parts=(Text(text=str(at)),)) for at, letter in enumerate(said))


def left(said: str) -> list[str]:
    """The messages after each step, as their places in *said*."""
    steps, messages = [], shortened(conversation(said))
    while messages is not None:
        steps.append("".join(message.text for message in messages))
        messages = shortened(messages)
    return steps


@pytest.mark.parametrize(
    ("said", "steps"),
    [
        ("u", []),
        ("su", []),
        ("", []),
        ("s", []),
        ("uau", ["2"]),
        ("suau", ["03"]),
        ("ssuauau", ["01456", "016"]),
        ("uuu", ["12", "2"]),
        ("auau", ["123", "3"]),
        ("uatau", ["4"]),
        ("suatat", ["0145"]),
        ("uattatat", ["04567", "067"]),
        ("suausau", ["03456", "0456", "046"]),
    ],
)
def test_the_oldest_turn_goes_and_the_last_stays(said: str, steps: list[str]) -> None:
    assert left(said) == steps


def test_no_result_is_left_without_its_call() -> None:
    messages = shortened(conversation("suattu"))
    assert messages is not None
    assert [message.role for message in messages] == ["system", "user"]


def ask(messages: tuple[Message, ...], calls: list[float]) -> Ask:
    def shorter(weight: float = 0) -> Ask | None:
        calls.append(weight)
        less = shortened(messages, weight)
        return None if less is None else ask(less, calls)

    return Ask(
        model="m",
        jobs=(Chat(messages=messages),),
        writer=lambda head: pytest.fail("nothing is written"),
        shorter=shorter,
    )


def tried(said: tuple[Message, ...], context: int, tell: bool = True) -> list[int]:
    """How many letters were tried, one after the other, until a letter was a token and they fitted. Each was made at
    once, however much had to go.
    """
    calls: list[float] = []
    wanted: Ask | None = ask(said, calls)
    sizes = []
    while wanted is not None:
        (job,) = wanted.jobs
        assert isinstance(job, Chat)
        sizes.append(sum(len(message.text) for message in job.messages))
        if sizes[-1] <= context:
            break
        told: dict[str, Any] = {"prompt_tokens": sizes[-1], "context": context} if tell else {}
        wanted = fitting(wanted, ContextExceeded("too long.", **told))
    else:
        sizes.append(-1)
    assert len(calls) == len(sizes) - 1
    return sizes


def says(text: str, role: str = "user") -> Message:
    return Message(role=role, parts=(Text(text=text),))


TALK = (says("x" * 10),) * 100


def test_what_is_surely_too_long_is_not_tried() -> None:
    assert tried(TALK, 100) == [1000, SURE * 100, 170, 150, 130, 120, 110, 100]


def test_a_long_conversation_is_not_tried_turn_by_turn() -> None:
    sizes = tried((says("x" * 500),) * 2000, 500_000)
    assert sizes[-1] == 500_000
    assert len(sizes) < 10


@pytest.mark.parametrize("context", [1, 10, 15, 99, 500, 999, 1000])
@pytest.mark.parametrize("length", [1, 10, 100])
def test_no_more_is_left_out_than_must_be(context: int, length: int) -> None:
    fits = context // length * length
    assert tried((says("x" * length),) * (1000 // length), context)[-1] == (fits or -1)


def test_what_was_dense_is_not_taken_for_what_is_left() -> None:
    """Here a letter is a token, however many bytes it has."""
    assert tried((*(says("試" * 10),) * 10, *TALK), 1000)[-1] == 1000
    assert tried((*TALK, *(says("試" * 10),) * 10), 1000)[-1] == 1000


def test_where_nothing_fits_all_is_tried_that_may() -> None:
    assert tried(TALK, 5)[-2:] == [10, -1]


def test_an_engine_that_gives_no_numbers_is_asked_each_time() -> None:
    assert tried(TALK, 900, tell=False) == [1000, 990, 980, 970, 960, 950, 940, 930, 920, 910, 900]


def test_what_is_no_text_is_not_weighed() -> None:
    """A turn with a picture goes, but none after it unseen: nobody here knows how many tokens it has."""
    seen = Message(role="user", parts=(Picture(data=b"x"), Text(text="x" * 10)))
    assert tried((*TALK, seen), 500)[:3] == [1010, 880, 780]
    assert tried((seen, *TALK), 500)[:3] == [1010, 1000, 880]


def test_calls_and_thoughts_weigh_too() -> None:
    """They are part of the prompt; a turn that has them may be all that must go."""
    call = Call(id="1", name="f", arguments='"' + "x" * 98 + '"')
    loud = (says("x"), Message(role="assistant", calls=(call,), reasoning="x" * 100), says("x", "tool"))
    assert shortened((*loud, *TALK), 299) == TALK
    assert shortened((*loud, *TALK), 300) == TALK[1:]
