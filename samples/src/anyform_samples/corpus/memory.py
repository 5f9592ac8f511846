"""Facts that the user tells in the chat and asks for later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from anyform_samples.corpus.draw import Draw
from anyform_samples.corpus.words import city, colour, made_up, name, number, thing


@dataclass(frozen=True)
class _Fact:
    """Something of the user's that has a *key*, `name`, and a value that *make* draws."""

    key: str
    make: Callable[[Draw], object]
    told: tuple[str, ...]
    asked: tuple[str, ...]


def _fact(key: str, make: Callable[[Draw], object], told: tuple[str, ...] = (), asked: tuple[str, ...] = ()) -> _Fact:
    usual_told = (
        f"my {key} is {{x}}",
        f"[remember|note|keep in mind] that my {key} is {{x}}",
        f"[remember|note|keep in mind]: my {key} is {{x}}",
        f"[I want you to know|you should know|just so you know], my {key} is {{x}}",
        f"~[know|learn] that my {key} is {{x}}",
    )
    usual_asked = (
        f"[what is|what's|what was|tell me|say] my {key}",
        f"[do you|can you|could you] [still|] [remember|know|recall|tell me] [what my {key} is|my {key}]",
        f"[what did I say|what did I tell you|which one did I say] my {key} [is|was]",
        f"[I forgot|remind me of|repeat] my {key}",
        f"my {key} [is|was] what",
        f"~[so|now] [what is|what's] my {key} again",
    )
    return _Fact(key, make, usual_told + told, usual_asked + asked)


_FACTS = (
    _fact(
        "name",
        name,
        (
            "[I am|I'm|call me|this is] {x}",
            "[hi|hello|hey|good morning], [I am|I'm|my name is] {x}",
            "people call me {x}",
        ),
        ("[who am I|what am I called|what do people call me|how am I called]", "what [should|do] you call me"),
    ),
    _fact(
        "city",
        city,
        ("I [live|work] in {x}", "I [come from|am from] {x}", "my home is [in|] {x}"),
        ("where [do I live|am I from|is my home|do I come from]", "[which|what] city [do I live in|am I from]"),
    ),
    _fact(
        "favourite colour",
        colour,
        ("I [like|love] {x} most of all colours",),
        ("[what|which] colour do I like [most|]",),
    ),
    _fact("favourite number", lambda draw: number(draw, 0, 999), (), ("[what|which] number do I like [most|]",)),
    _fact(
        "code word",
        lambda draw: draw.value(lambda: made_up(draw)),
        ("the code word is {x}",),
        ("what is the code word",),
    ),
    _fact("age", lambda draw: number(draw, 5, 99), ("I am {x} years old", "I'm {x} years old"), ("how old am I",)),
    _fact("dog's name", name, ("my dog is called {x}", "I have a dog called {x}"), ("what is my dog called",)),
    _fact("cat's name", name, ("my cat is called {x}", "I have a cat called {x}"), ("what is my cat called",)),
    _fact("sister's name", name, ("my sister is called {x}",), ("what is my sister called",)),
    _fact("brother's name", name, ("my brother is called {x}",), ("what is my brother called",)),
    _fact("favourite thing", thing, (), ("[what|which] thing do I like [most|]",)),
    _fact("room number", lambda draw: number(draw, 1, 999), ("I am in room {x}",), ("[which|what] room am I in",)),
)


def told(draw: Draw, facts: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Turns that tell *facts* different facts, and for each the turn that asks for it: question and answer."""
    tellings, askings = [], []
    for fact in draw.random.sample(_FACTS, facts):
        value = fact.make(draw)
        tellings.append((draw.question(fact.told, x=value), f"Noted: your {fact.key} is {value}."))
        askings.append((draw.question(fact.asked), f"Your {fact.key} is {value}."))
    return tellings, askings


def untold(draw: Draw) -> tuple[str, str]:
    """A question for a fact that was not told, for a chat in which none was."""
    fact = draw.one(_FACTS)
    return draw.question(fact.asked), f"You have not told me your {fact.key}."
