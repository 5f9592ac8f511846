"""JSON objects filled in from a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from anyform_samples.corpus.draw import Draw
from anyform_samples.corpus.example import Example
from anyform_samples.corpus.words import DAYS, city, colour, made_up, name, number, thing


@dataclass(frozen=True)
class _Record:
    """A kind of object: how each key's value is drawn, and sentences that tell all of them."""

    kind: str
    keys: Mapping[str, Callable[[Draw], object]]
    sentences: tuple[str, ...]


def _title(draw: Draw) -> str:
    return draw.value(
        lambda: f"The {draw.one(('Last', 'Old', 'Lost', 'Red', 'Silent', 'New'))} {made_up(draw).capitalize()}"
    )


_RECORDS = (
    _Record(
        "person",
        {"name": name, "age": lambda draw: number(draw, 1, 99), "city": city},
        (
            "{name} is {age} [years old|] and [lives in|comes from|works in|is from] {city}",
            "{name}, {age}, [lives in|is from|of|from] {city}",
            "{name} [lives in|is from] {city} and is {age} [years old|]",
            "[in|from] {city} [comes|is] {name}, [aged|who is] {age}",
            "my friend {name} from {city} is {age}",
            "[this|here] is {name} from {city}, {age} [years old|]",
            "{city}: {name}, {age}",
            "{name} ({age}), {city}",
            "{age}, {name}, {city}",
            "[I am|I'm|my name is] {name}, I am {age} and live in {city}",
            "[meet|we met|I met|I know] {name}, {age}, who [lives in|comes from|is from] {city}",
            "{name} [turned|became|turns] {age} in {city}",
            "the {age} year old {name} [lives in|comes from] {city}",
            "{age} years [old|] is {name}, [who lives in|from] {city}",
            "name {name}, age {age}, city {city}",
            "name: {name}; city: {city}; age: {age}",
            "[a person|somebody] [called|named] {name}, {age} years old, from {city}",
            "at {age}, {name} [moved to|lives in|went to] {city}",
            "{name} was born {age} years ago in {city}",
            "{name} has lived {age} years and is at home in {city}",
            "~{name} of {city} is {age} [years old|]",
        ),
    ),
    _Record(
        "order",
        {"item": thing, "quantity": lambda draw: number(draw, 2, 99), "customer": name},
        (
            "{customer} [orders|buys|wants|ordered|bought|needs] {quantity} [pieces|units|x] of {item}",
            "{customer} [orders|buys|wants|ordered|bought] {quantity} x {item}",
            "{quantity} x {item} for {customer}",
            "[send|ship|bring] {quantity} x {item} to {customer}",
            "please [send|sell] {customer} {quantity} [pieces|units] of {item}",
            "to {customer}: {quantity} [units of|times|] {item}",
            "from {customer}: {item}, {quantity} [pieces|units|]",
            "{customer}: {quantity} {item}",
            "{customer}, {item}, {quantity}",
            "{quantity} {item}, {customer}",
            "{item}: {quantity} [pieces|units|] for {customer}",
            "item {item}, quantity {quantity}, customer {customer}",
            "customer: {customer}; item: {item}; quantity: {quantity}",
            "[new order|order]: {quantity} {item}, [customer|name] {customer}",
            "[order|an order] [by|of|from] {customer}: {quantity} [pieces of|x|times] {item}",
            "[I am|this is|my name is] {customer} and I [want|need|order|take] {quantity} [pieces of|x|] {item}",
            "{quantity} [pieces|units] of {item} [go to|are for|were sold to|were bought by] {customer}",
            "{customer} [has bought|takes|gets|has ordered|asked for|would like] {quantity} {item}",
            "we [sold|sent|owe] {customer} {quantity} [pieces of|] {item}",
            "[note|write] down {quantity} [pieces of|times] {item} for {customer}",
            "{item} for {customer}, {quantity} [pieces|units|of them]",
            "how much is {quantity} times {item}, asks {customer}",
            "[give|hand|bring|sell] {customer} {item}, {quantity} [of them|pieces]",
            "~for {customer}: {quantity} [x|pieces of] {item}",
        ),
    ),
    _Record(
        "event",
        {
            "event": lambda draw: draw.one(
                ("meeting", "concert", "lunch", "party", "lesson", "match", "dinner", "visit")
            ),
            "day": lambda draw: draw.one(DAYS),
            "city": city,
        },
        (
            "[the|a|our|my] {event} [is|takes place|will be|happens] on {day} in {city}",
            "on {day} [there is|we have|I have] [a|the|our] {event} in {city}",
            "in {city} [there is|we have] [a|the] {event} on {day}",
            "{event} in {city}, {day}",
            "[come|go] to the {event} in {city} on {day}",
            "{city}: {event} on {day}",
            "{city}, {day}: {event}",
            "{event}, {day}, {city}",
            "{event}: {city}, {day}",
            "{day}, {city}, {event}",
            "event {event}, day {day}, city {city}",
            "city: {city}; day: {day}; event: {event}",
            "[next|this|every] {day} [there is|we have|comes] [a|the|our] {event} in {city}",
            "[see you|I see you|we meet|join us] on {day} [at|for] [the|a] {event} in {city}",
            "there [is|will be] [a|another] {event} in {city} on {day}",
            "the {day} {event} [is|takes place|will be] in {city}",
            "[do not forget|remember|note] the {event} [on {day} in {city}|in {city} on {day}]",
            "{city} [has|sees] [a|the] {event} on {day}",
            "[what about|who comes to] [a|the] {event} in {city} on {day}",
            "[I am|we are] in {city} on {day} for [a|the] {event}",
            "{day} is the day of the {event} in {city}",
            "we [travel|go] to {city} for [a|the] {event} on {day}",
            "~{day}: {event} in {city}",
        ),
    ),
    _Record(
        "book",
        {"title": _title, "author": name, "year": lambda draw: number(draw, 1800, 2029)},
        (
            "{author} wrote {title} in {year}",
            "{title} [was written by|is a book by|is by|by] {author}, {year}",
            "in {year}, {author} [wrote|published|finished] {title}",
            "{title} [came out|appeared] in {year} and [was written by|is by] {author}",
            "the book {title} by {author} is from {year}",
            "{title}, {author}, {year}",
            "{author}: {title}, {year}",
            "{author}, {title} ({year})",
            "{year}: {title} by {author}",
            "{year}, {author}, {title}",
            "title {title}, author {author}, year {year}",
            "author: {author}; year: {year}; title: {title}",
            "[I read|I like|do you know] {title} by {author}, [from|written in|printed in] {year}",
            "{title} ({year}), [written|a book] by {author}",
            "the author of {title} is {author}, [the year is|and the year] {year}",
            "{title} is [from|of] {year} and its author is {author}",
            "[a book|a novel] of {year}: {title} by {author}",
            "{author} is the author of {title}, [which appeared in|from] {year}",
            "{author} [finished|printed|began] {title} in {year}",
            "since {year} [we have|there is] {title} by {author}",
            "~{author} published {title} in {year}",
        ),
    ),
    _Record(
        "product",
        {"product": thing, "price": lambda draw: number(draw, 1, 999), "colour": colour},
        (
            "[the|a|our|this] {colour} {product} costs {price} [euros|dollars|]",
            "[the|a|our|this] {product} is {colour} and costs {price} [euros|dollars|]",
            "{price} [euros|dollars] for [the|a] {colour} {product}",
            "[you can have|I sell|we sell] [the|a] {colour} {product} for {price} [euros|dollars|]",
            "the price of the {colour} {product} is {price}",
            "{product}, {colour}, {price}",
            "{product}: {colour}, {price} [euros|dollars|]",
            "{price}, {colour}, {product}",
            "{product} in {colour}: {price} [euros|dollars|]",
            "{product} ({colour}), [only|just|] {price} [euros|dollars]",
            "product {product}, colour {colour}, price {price}",
            "colour: {colour}; price: {price}; product: {product}",
            "[for sale|to sell|new]: {product}, {colour}, for {price} [euros|dollars]",
            "[I paid|she paid|we pay] {price} [euros|dollars] for [the|a] {product} in {colour}",
            "for {price} [euros|dollars] [you get|I bought|there is] [a|the] {colour} {product}",
            "[the|a] {product} [painted|coloured] {colour} [costs|is] {price} [euros|dollars|]",
            "{price} [euros|dollars] is what [the|a] {colour} {product} costs",
            "[how about|who wants|look at] [a|the|this] {colour} {product}, {price} [euros|dollars]",
            "[buy|take|get] [a|the|this] {product}, it is {colour} and only {price} [euros|dollars]",
            "in {colour}, [the|this|a] {product} is {price} [euros|dollars]",
            "~[the|a] {colour} {product}: {price} [euros|dollars]",
        ),
    ),
)
_ASKED = (
    "[give me|write|make|return|fill in|create] [a|the|] JSON [object|] with [the keys|the fields|keys|] {keys}",
    "[extract|find|read|get] {keys} as JSON",
    "[answer|reply|respond] [in|as|with] JSON with [the keys|the fields|keys|] {keys}",
    "JSON with [the keys|the fields|keys|] {keys}",
    "[put|turn|convert] this [in|into|to] JSON with [the keys|the fields|keys|] {keys}",
    "[as|in] JSON: {keys}",
    "[I need|I want|I would like] [a|] JSON [object|] with {keys}",
    "[only|just] JSON, [with|keys] {keys}",
    "[say|tell me|show|list|name] {keys} [as|in] JSON",
    "[the keys are|use the keys|keys:] {keys}. [answer|write|reply] [in|as] JSON",
    "[what are|find] {keys} here? [answer|reply] [with|as] JSON",
    "[build|form|fill] an object [of|with] {keys}",
    "~[produce|output] JSON with [the keys|the fields] {keys}",
)
_BY_SCHEMA = (
    "[answer|reply|respond] [in|as|with] JSON [that follows|after|by|for] this schema: {schema}",
    "[fill in|follow|use] this [JSON|] schema: {schema}",
    "JSON schema: {schema}",
    "[I need|I want] JSON [by|for|like] this schema: {schema}",
    "[your answer|the answer] [must|should] [fit|match|follow] [this|the] schema: {schema}",
    "[only|just] JSON [by|of] this schema, [please|nothing else]: {schema}",
    "schema: {schema}",
    "~[produce|output] JSON for this schema: {schema}",
)


def example(draw: Draw) -> Example:
    """A sentence, the keys or the schema that are wanted, and the object in the order of the keys."""
    record = draw.one(_RECORDS)
    values = {key: make(draw) for key, make in record.keys.items()}
    keys = list(record.keys)
    if draw.chance(0.5):
        keys = draw.random.sample(keys, draw.one((2, 3, 3)))
    schema = _schema(keys, values)
    if draw.chance(0.25):
        wanted = draw.phrasing(_BY_SCHEMA).format(schema=json.dumps(schema))
    else:
        wanted = draw.phrasing(_ASKED).format(keys=draw.one((", ".join(keys), _listed(keys))))
    sentence = _capital(draw.phrasing(record.sentences)).format(**values)
    answer = json.dumps({key: values[key] for key in keys}, ensure_ascii=False)
    messages = [*_put(draw, _capital(wanted), sentence), {"role": "assistant", "content": answer}]
    return Example("json", tuple(messages), schema=schema)


def _put(draw: Draw, wanted: str, sentence: str) -> list[dict[str, Any]]:
    """What is wanted and the sentence, in the orders and roles in which clients say them."""
    kind = draw.random.random()
    if kind < 0.3:
        return [{"role": "system", "content": f"{wanted}"}, {"role": "user", "content": sentence + draw.one(("", "."))}]
    if kind < 0.75:
        text = wanted + draw.one((": ", ":\n", ". ", ".\n")) + sentence + draw.one(("", "."))
    else:
        text = sentence + draw.one((". ", ".\n", "\n")) + wanted + draw.one(("", "."))
    return [{"role": "user", "content": text}]


def _schema(keys: list[str], values: Mapping[str, object]) -> dict[str, Any]:
    kinds = {key: {"type": "integer" if isinstance(values[key], int) else "string"} for key in keys}
    return {"type": "object", "properties": kinds, "required": keys}


def _listed(keys: list[str]) -> str:
    return ", ".join(keys[:-1]) + " and " + keys[-1]


def _capital(text: str) -> str:
    """*text* with a capital first, unless that is a value: values are copied as they stand."""
    return text[:1].upper() + text[1:]
