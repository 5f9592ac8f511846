"""The numbers of `context`: what goes in comes out, and nothing else is taken."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from anyform.contract.errors import Invalid
from anyform.contract.jobs import Message, Picture, Text
from anyform_ollama_api import context
from anyform_ollama_api.context import MAGIC

SAID = (
    Message(role="system", parts=(Text(text="Be kind."),)),
    Message(role="user", parts=(Text(text="Hé, \u2028 \U0001f600?"),)),
    Message(role="assistant", parts=(Text(text="word " * 400),)),
    Message(role="user"),
)


def packed(plain: bytes, width: int = 3) -> list[int]:
    """Numbers whose check is right, over any bytes."""
    data = zlib.compress(plain)
    padded = data + b"\0" * (-len(data) % width)
    numbers = [int.from_bytes(padded[at : at + width], "big") for at in range(0, len(padded), width)]
    return [MAGIC, len(data), zlib.crc32(data) >> 16, zlib.crc32(data) & 0xFFFF, *numbers]


@given(some.lists(some.tuples(some.sampled_from(context.ROLES), some.text(some.characters(codec="utf-8")))))
def test_what_goes_in_comes_out(said: Sequence[tuple[str, str]]) -> None:
    messages = tuple(Message(role=role, parts=(Text(text=text),) if text else ()) for role, text in said)
    numbers = context.written(messages)
    assert context.read(json.loads(json.dumps(numbers))) == messages


def test_each_number_is_small_and_there_are_few() -> None:
    numbers = context.written(SAID)
    assert context.read(numbers) == SAID
    assert all(0 <= number < 2**24 for number in numbers)
    assert len(numbers) < 60, "what repeats itself takes no room"
    assert context.written(SAID) == numbers


def test_pictures_and_thoughts_are_not_kept() -> None:
    message = Message(role="user", parts=(Picture(data=b"abc"), Text(text="What is it?")), reasoning="Hm.")
    assert context.read(context.written([message])) == (Message(role="user", parts=(Text(text="What is it?"),)),)


def test_nothing_is_no_conversation() -> None:
    assert context.read(None) == context.read([]) == ()


@pytest.mark.parametrize(
    "value",
    [
        "abc", 3, {}, [""], [1.0], [True], [None],
        [403, 407, 261], [MAGIC], [MAGIC, 1, 2], [MAGIC, 0, 0, 0], [MAGIC, -1, 0, 0, 1], [MAGIC, 2**70, 0, 0, 1],
        [MAGIC, 3, 0, 0, -1], [MAGIC, 3, 0, 0, 2**24],
        *map(packed, (
            b"{", b"[1]", b'["a"]',
            b'{"a": 1}', b'[["user"]]', b'[["robot", "a"]]', b'[["tool", "a"]]', b'[["user", 1]]',
            b'[[1, "a"]]', b'[["user", "\\ud800"]]', b"\xff", b'[[["user"], "a"]]', b"[" * 100_000,
            b'[["user", "' + b"a" * 17_000_000 + b'"]]',
        )),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_what_is_not_ours_is_refused(value: Any) -> None:
    with pytest.raises(Invalid, match="Invalid 'context'") as refused:
        context.read(value)
    assert "Send back what an answer of this server had" in refused.value.hint


def test_token_ids_of_another_server_are_called_that() -> None:
    with pytest.raises(Invalid, match="token ids, such as Ollama itself gives"):
        context.read([128006, 882, 128007])


def test_no_change_goes_unnoticed() -> None:
    numbers = context.written(SAID)
    chance = random.Random(7)
    for _ in range(300):
        changed = list(numbers)
        at = chance.randrange(len(changed))
        match chance.randrange(3):
            case 0:
                changed[at] ^= 1 << chance.randrange(24)
            case 1:
                del changed[at]
            case 2:
                changed.insert(at, chance.randrange(2**24))
        with pytest.raises(Invalid):
            context.read(changed)
