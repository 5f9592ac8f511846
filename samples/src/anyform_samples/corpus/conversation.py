"""Questions put together to conversations: several turns, a system prompt, tools that do not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from anyform_samples.corpus import about, arithmetic, dates, filling, honest, memory, quantities, tools
from anyform_samples.corpus.draw import Draw
from anyform_samples.corpus.example import Example

Turn = tuple[str, str]

_ALONE: dict[str, Callable[[Draw], Turn]] = {
    "about": about.asked,
    "arithmetic": arithmetic.asked,
    "units": quantities.asked,
    "dates": dates.asked,
    "honest": honest.asked,
}
"""Categories whose questions stand by themselves."""

_FITTING = frozenset({"add", "multiply", "search", "get_weather", "get_stock_price", "play_song", "translate"})
"""Kinds of tools that might fit a question that is no call: a sum, the weather, a price, a song about the sea."""

_SYSTEM = (
    "you are a [helpful|friendly|kind|useful|concise|polite|smart] [assistant|model|helper|AI|AI assistant|chatbot]",
    "you are an assistant",
    "[be|always be|please be] [helpful|brief|short|polite|friendly|honest|concise|exact]",
    "[answer|reply|respond] [briefly|shortly|politely|in one sentence|in English|honestly|well]",
    "you [help|assist|support] [the user|people|users|me]",
    "you are Sam, a [helpful|friendly] [assistant|model]",
    "[help|assist] the user [with questions|as well as you can|]",
    "~you are a [very|most] [helpful|friendly] [assistant|model]",
)


def of_category(draw: Draw, category: str) -> Example:
    """An example of *category*, with a system prompt in one of eight."""
    example = _plain(draw, category)
    if example.messages[0]["role"] == "system" or not draw.chance(0.12):
        return example
    text = draw.phrasing(_SYSTEM)
    system = {"role": "system", "content": text[0].upper() + text[1:] + draw.one((".", ".", ""))}
    return replace(example, messages=(system, *example.messages))


def _plain(draw: Draw, category: str) -> Example:
    if category == "json":
        return filling.example(draw)
    if category == "tools":
        return tools.example(draw)
    if category == "memory":
        return Example("memory", _messages(_remembered(draw)))
    if category == "no_tool":
        return Example("no_tool", _messages(_unfit(draw)), tools.offer(draw, _FITTING))
    return Example(category, _messages(_chat(draw, category)))


def _chat(draw: Draw, category: str) -> list[Turn]:
    """Some turns of any kind, the last of *category*. Held-out chats are short: the last answer is what counts."""
    asked = _ALONE[category]
    most = 1 if draw.held else 5 if category == "arithmetic" else 3
    before = 0 if draw.chance(0.75 if draw.held else 0.3) else draw.random.randint(1, most)
    others = [asked if draw.chance(0.6) else draw.one(list(_ALONE.values())) for _ in range(before)]
    return [each(draw) for each in [*others, asked]]


def _remembered(draw: Draw) -> list[Turn]:
    if draw.chance(0.1):
        return [*_between(draw, (0, 0, 1)), memory.untold(draw)]
    tellings, askings = memory.told(draw, draw.one((1, 1, 2, 2, 3)))
    turns = []
    for telling in tellings:
        turns += [telling, *_between(draw, (0, 0, 1))]
    turns += _between(draw, (0, 0, 1))
    wanted = draw.random.sample(askings, 1 if draw.held else draw.random.randint(1, len(askings)))
    return [*turns, *wanted]


def _unfit(draw: Draw) -> list[Turn]:
    """Turns that call for no tool."""
    if draw.chance(0.25):
        tellings, askings = memory.told(draw, 1)
        return [*tellings, *askings]
    kinds = [about.asked, arithmetic.asked, dates.asked, quantities.asked, honest.asked]
    return [draw.one(kinds)(draw) for _ in range(1 if draw.held else draw.one((1, 1, 2)))]


def _between(draw: Draw, counts: tuple[int, ...]) -> list[Turn]:
    return [draw.one(list(_ALONE.values()))(draw) for _ in range(draw.one(counts))]


def _messages(turns: list[Turn]) -> tuple[Mapping[str, Any], ...]:
    said = [({"role": "user", "content": asked}, {"role": "assistant", "content": answer}) for asked, answer in turns]
    return tuple(message for pair in said for message in pair)
