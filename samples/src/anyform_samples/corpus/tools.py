"""Tools, questions that call for them, and what they answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from anyform_samples.corpus.draw import Draw
from anyform_samples.corpus.example import Example
from anyform_samples.corpus.words import CITIES, DAYS, city, made_up, name, number, thing

Make = Callable[[Draw], object]

_LANGUAGES = ("French", "German", "Spanish", "Italian", "Dutch", "Greek", "Latin", "Polish", "Danish", "Turkish")


@dataclass(frozen=True)
class _Kind:
    """A kind of tool under several names. Each parameter has several names as well, and one value to draw."""

    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    parameters: tuple[tuple[tuple[str, ...], Make], ...]
    """In the questions they are `{p0}`, `{p1}`."""
    asked: tuple[str, ...]
    result: tuple[str, Callable[..., object]]
    """How the answer states what the tool gave, with `{p0}` and `{r}`; and what it gives, from the arguments."""


def _small(draw: Draw) -> object:
    return number(draw, 1, 99)


def _large(draw: Draw) -> object:
    return number(draw, 1, 9999)


def _query(draw: Draw) -> object:
    return draw.value(lambda: " ".join(draw.one((made_up(draw), thing(draw))) for _ in range(draw.one((1, 1, 2)))))


def _text(draw: Draw) -> object:
    return draw.value(
        lambda: (
            draw.one(("hello", "see you", "come to", "I like", "where is", "good morning", "thank you", "bring the"))
            + " "
            + draw.one((made_up(draw), draw.one(DAYS), draw.one(CITIES)))
        )
    )


_KINDS = (
    _Kind(
        ("get_weather", "weather", "current_weather", "weather_report"),
        ("The weather in a city", "Get the weather", "Tells the weather of a place"),
        ((("city", "location", "place", "town"), city),),
        (
            "[what is|what's|how is|how's] the weather [like|] [in|for] {p0} [today|now|right now|]",
            "[does it rain|is it raining|is it sunny|is it cold|is it warm|is it windy|is it hot] in {p0} [today|now|]",
            "[show|give|tell] me the weather [in|for|of] {p0}",
            "[do I need|should I take] an umbrella in {p0}",
            "weather [in|for] {p0}",
            "~[I am in|I go to] {p0}. [what is|how is] the weather there",
        ),
        (
            "The weather in {p0}: {r}.",
            lambda draw, *_: (
                draw.one(("sunny", "rain", "snow", "cloudy", "fog", "windy", "clear"))
                + f", {number(draw, 0, 39)} degrees"
            ),
        ),
    ),
    _Kind(
        ("add", "add_numbers", "sum", "plus"),
        ("Adds two numbers", "The sum of two numbers", "Add numbers"),
        ((("a", "x", "first"), _large), (("b", "y", "second"), _large)),
        (
            "[what is|how much is|calculate|compute] {p0} [+|plus] {p1}",
            "[can you|please|] add {p0} [and|to] {p1}",
            "[what is|calculate|find] the sum of {p0} and {p1}",
            "{p0} [+|plus] {p1}",
            "~[tell me|say] [what|how much] {p0} plus {p1} is",
        ),
        ("{p0} + {p1} = {r}", lambda draw, a, b: a + b),
    ),
    _Kind(
        ("multiply", "times", "multiply_numbers", "product"),
        ("Multiplies two numbers", "The product of two numbers", "Multiply numbers"),
        ((("a", "x", "first"), _large), (("b", "y", "second"), _large)),
        (
            "[what is|how much is|calculate|compute] {p0} [x|*|times] {p1}",
            "[can you|please|] multiply {p0} [and|by|with] {p1}",
            "[what is|calculate|find] the product of {p0} and {p1}",
            "{p0} [*|times] {p1}",
            "~[tell me|say] [what|how much] {p0} times {p1} is",
        ),
        ("{p0} x {p1} = {r}", lambda draw, a, b: a * b),
    ),
    _Kind(
        ("set_timer", "timer", "start_timer", "countdown"),
        ("Sets a timer", "Start a timer", "A timer that rings after some minutes"),
        ((("minutes", "duration", "length"), _small),),
        (
            "[set|start|make|begin] a timer [for|of] {p0} minutes",
            "[set|start] a {p0} minute timer",
            "[wake me|ring|beep|call me|remind me] in {p0} minutes",
            "timer [for|of|] {p0} minutes",
            "[I need|I want] a timer [for|of] {p0} minutes",
            "~[tell me when|let me know when] {p0} minutes are over",
        ),
        ("The timer is set for {p0} minutes.", lambda draw, *_: "ok"),
    ),
    _Kind(
        ("search", "web_search", "search_web", "find"),
        ("Searches the web", "Search the internet", "Finds pages"),
        ((("query", "text", "words", "q"), _query),),
        (
            "[search|look] [the web|the internet|online|] for {p0}",
            "[find|find me|look up|google] {p0} [online|on the web|on the internet]",
            "[search|google|look up] {p0}",
            "do a [search|web search] for {p0}",
            "[what does the web say|what is there online] about {p0}",
            "~[start|make] a [search|web search] for {p0}",
        ),
        ("I found: {r}", lambda draw, *_: made_up(draw).capitalize() + " " + made_up(draw)),
    ),
    _Kind(
        ("translate", "translate_text", "translator"),
        ("Translates a text", "Translate into another language", "A translator"),
        ((("text", "sentence", "words"), _text), (("language", "to", "target"), lambda draw: draw.one(_LANGUAGES))),
        (
            '[translate|put] "{p0}" [to|into] {p1}',
            '[how do you say|how do I say|how does one say|what is] "{p0}" in {p1}',
            'say "{p0}" in {p1}',
            '[I need|I want|give me] "{p0}" in {p1}',
            '"{p0}" in {p1}',
            '~[write|tell me] "{p0}" in {p1}',
        ),
        ('"{p0}" is "{r}" in {p1}.', lambda draw, *_: f"{made_up(draw)} {made_up(draw)}"),
    ),
    _Kind(
        ("send_message", "message", "send_text", "send"),
        ("Sends a message", "Send a message to somebody", "Texts a person"),
        ((("to", "person", "recipient", "name"), name), (("text", "message", "body"), _text)),
        (
            '[send|write|text] {p0} [a message|the message|]: "{p1}"',
            '[tell|write to|text|message] {p0} "{p1}"',
            '[send|write] "{p1}" to {p0}',
            '[send|write] a message to {p0} [saying|that says|with the text] "{p1}"',
            'message to {p0}: "{p1}"',
            '~let {p0} know: "{p1}"',
        ),
        ("The message to {p0} is sent.", lambda draw, *_: "sent"),
    ),
    _Kind(
        ("play_song", "play_music", "play", "music"),
        ("Plays a song", "Play music", "Plays a song by its title"),
        ((("title", "song", "name"), lambda draw: draw.value(lambda: f"{made_up(draw)} {made_up(draw)}".title())),),
        (
            "[play|start|put on] [the song|] {p0}",
            "[I want|I would like] to hear [the song|] {p0}",
            "[can you|could you] play [the song|] {p0} [for me|now|]",
            "[let me hear|let us hear] [the song|] {p0}",
            "music: {p0}",
            "~[turn on|begin] the song {p0}",
        ),
        ("Now playing {p0}.", lambda draw, *_: "playing"),
    ),
    _Kind(
        ("get_stock_price", "stock_price", "stock", "share_price"),
        ("The price of a share", "Get a stock's price", "Stock prices"),
        ((("company", "name", "symbol"), lambda draw: draw.value(lambda: made_up(draw).capitalize())),),
        (
            "[what is|what's|get|show me] the [stock|share] price of {p0}",
            "[how much is|what is the price of] [a|one] share of {p0}",
            "[stock|share] price [of|for] {p0}",
            "[what does|how much does] a share of {p0} cost",
            "[how is|how does] the stock of {p0} [today|do|now]",
            "~[look up|check] the [stock|share] price of {p0}",
        ),
        ("A share of {p0} costs {r}.", lambda draw, *_: _large(draw)),
    ),
    _Kind(
        ("turn_on_light", "light_on", "switch_on_light", "lights"),
        ("Turns on a light", "Switch on the light of a room", "Light in a room"),
        (
            (
                ("room", "place", "where"),
                lambda draw: draw.one(
                    ("kitchen", "bedroom", "bathroom", "garage", "hall", "office", "cellar", "garden")
                ),
            ),
        ),
        (
            "[turn|switch] on the [light|lights|lamp] in the {p0}",
            "[turn|switch] the {p0} [light|lights|lamp] on",
            "[light|lights] on in the {p0}",
            "it is [too|] dark in the {p0}",
            "[I need|I want|make] light in the {p0}",
            "~[let there be|give me] light in the {p0}",
        ),
        ("The light in the {p0} is on.", lambda draw, *_: "on"),
    ),
    _Kind(
        ("book_table", "reserve_table", "reserve", "reservation"),
        ("Books a table", "Reserve a table in a restaurant", "Table reservation"),
        (
            (("people", "guests", "persons"), lambda draw: number(draw, 2, 29)),
            (("day", "date", "when"), lambda draw: draw.one(DAYS)),
        ),
        (
            "[book|reserve|get|order] [a|me a|us a] table for {p0} [people|persons|guests|] on {p1}",
            "[I need|we need|I want] a table for {p0} [people|persons|guests|] on {p1}",
            "table for {p0} [people|] on {p1}",
            "on {p1} [we are|we will be] {p0} [people|guests]. [book|reserve] a table",
            "[is there|do you have] a table for {p0} on {p1}",
            "~we are {p0} [people|guests] on {p1}. [book|reserve] a table",
        ),
        ("The table for {p0} on {p1} is booked.", lambda draw, *_: "booked"),
    ),
    _Kind(
        ("get_time", "time_in", "current_time", "clock"),
        ("The time in a city", "Get the time of a place", "Tells what time it is"),
        ((("city", "location", "place", "town"), city),),
        (
            "[what time is it|what's the time|what is the time] [now|right now|] in {p0} [now|]",
            "[how late is it|tell me the time] in {p0}",
            "[show|give|tell] me the [time|local time] in {p0}",
            "[is it|is it already] [day|night|morning|evening|late] in {p0}",
            "[time|local time] in {p0}",
            "~[I am in|I go to] {p0}. what time is it there",
        ),
        ("The time in {p0}: {r}.", lambda draw, *_: f"{draw.random.randint(0, 23):02}:{draw.random.randint(0, 59):02}"),
    ),
    _Kind(
        ("add_event", "create_event", "calendar", "schedule"),
        ("Adds an event to the calendar", "Put something in the calendar", "Calendar entries"),
        ((("title", "event", "name"), _query), (("day", "date", "when"), lambda draw: draw.one(DAYS))),
        (
            '[add|put] "{p0}" [to|in|into] [my|the] calendar [on|for] {p1}',
            '[schedule|plan|note] "{p0}" [on|for] {p1}',
            'on {p1} [I have|there is|we have] "{p0}". [add|put] it [to|in] my calendar',
            'calendar: "{p0}" on {p1}',
            '[make|create] an event "{p0}" [on|for] {p1}',
            '~[enter|write] "{p0}" in my calendar [on|for] {p1}',
        ),
        ("{p0} is in the calendar on {p1}.", lambda draw, *_: "added"),
    ),
)


def example(draw: Draw) -> Example:
    """Up to three tools, and a question for one of them: its call, or after its result what that says."""
    kinds = draw.random.sample(_KINDS, draw.one((1, 2, 2, 3)))
    kind = kinds[0]
    offered = {each.names: _offered(draw, each) for each in kinds}
    values = [make(draw) for _, make in kind.parameters]
    named = {f"p{index}": value for index, value in enumerate(values)}
    function = offered[kind.names]["function"]
    arguments = dict(zip(function["parameters"]["properties"], values, strict=True))
    call = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    messages: list[Mapping[str, Any]] = [
        {"role": "user", "content": draw.question(kind.asked, **named)},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    ]
    if draw.chance(0.3):
        messages += _concluded(draw, kind, values)
    return Example("tools", tuple(messages), tuple(_shuffled(draw, list(offered.values()))))


def offer(draw: Draw, without: Collection[str]) -> tuple[Mapping[str, Any], ...]:
    """Up to three tools, for a question that none of them fits: none of the kinds *without*, by their first names."""
    kinds = [kind for kind in _KINDS if kind.names[0] not in without]
    return tuple(_offered(draw, kind) for kind in draw.random.sample(kinds, draw.one((1, 1, 2, 3))))


def _concluded(draw: Draw, kind: _Kind, values: list[Any]) -> list[Mapping[str, Any]]:
    stated, make = kind.result
    given = make(draw, *values)
    content = json.dumps({"result": given}) if draw.chance(0.3) else str(given)
    answer = stated.format(**{f"p{index}": value for index, value in enumerate(values)}, r=given)
    return [{"role": "tool", "content": content}, {"role": "assistant", "content": answer}]


def _offered(draw: Draw, kind: _Kind) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for names, make in kind.parameters:
        integer = make in (_small, _large) or names[0] == "people"
        property_ = {"type": "integer" if integer else "string"}
        told = {"description": f"The {names[0]}"} if draw.chance(0.12) else {}
        properties[draw.one(names)] = property_ | told
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    parameters |= {} if draw.chance(0.1) else {"required": list(properties)}
    function = {"name": draw.one(kind.names), "description": draw.one(kind.descriptions), "parameters": parameters}
    return {"type": "function", "function": function}


def _shuffled(draw: Draw, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return draw.random.sample(items, len(items))
