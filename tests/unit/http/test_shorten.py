"""What is left out of a conversation that is too long, and in which order."""

from __future__ import annotations

import pytest

from anyform.contract.errors import ContextExceeded
from anyform.contract.jobs import Chat, Message, Picture, Text
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


def ask(messages: tuple[Message, ...]) -> Ask:
    def shorter() -> Ask | None:
        less = shortened(messages)
        return None if less is None else ask(less)

    return Ask(
        model="m",
        jobs=(Chat(messages=messages),),
        writer=lambda head: pytest.fail("nothing is written"),
        shorter=shorter,
    )


def tried(said: tuple[Message, ...], context: int, tell: bool = True) -> list[int]:
    """How many letters were tried, one after the other, until a letter was a token and they fitted."""
    wanted: Ask | None = ask(said)
    sizes = []
    while wanted is not None:
        (job,) = wanted.jobs
        assert isinstance(job, Chat)
        sizes.append(sum(len(message.text) for message in job.messages))
        if sizes[-1] <= context:
            return sizes
        told = {"prompt_tokens": sizes[-1], "context": context} if tell else {}
        wanted = fitting(wanted, ContextExceeded("too long.", **told))
    return [*sizes, -1]


TALK = tuple(Message(role="user", parts=(Text(text="x" * 10),)) for _ in range(100))


def test_what_is_surely_too_long_is_not_tried() -> None:
    sizes = tried(TALK, 100)
    assert sizes[:2] == [1000, SURE * 100]
    assert sizes[-1] == 100
    assert len(sizes) == 2 + (SURE - 1) * 10


def test_no_more_is_left_out_than_must_be() -> None:
    for context in (10, 15, 99, 500, 999, 1000):
        assert tried(TALK, context)[-1] == context // 10 * 10


def test_where_nothing_fits_all_is_tried_that_may() -> None:
    assert tried(TALK, 5)[-2:] == [10, -1]


def test_an_engine_that_gives_no_numbers_is_asked_each_time() -> None:
    assert tried(TALK, 900, tell=False) == [1000, 990, 980, 970, 960, 950, 940, 930, 920, 910, 900]


def test_pictures_have_no_letters() -> None:
    seen = Message(role="user", parts=(Picture(data=b"x"), Text(text="x" * 10)))
    assert tried((*TALK, seen), 500)[:3] == [1010, 1000, 990]
