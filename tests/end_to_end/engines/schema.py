"""Fifty JSON schemas as people send them: nested, enums, arrays, patterns, unions, references, numbers with bounds."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
SHORT: Schema = {"type": "string", "maxLength": 12}
WHOLE: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0, "maximum": 99}
NUMBER: Schema = {"type": "number"}
TRUTH: Schema = {"type": "boolean"}


def thing(*optional: str, **properties: Schema) -> Schema:
    """An object with *properties*, all required but the *optional* ones, and no others."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def some(items: Schema, least: int = 0, most: int = 4) -> Schema:
    """An array."""
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


def one_of(*values: Any) -> Schema:
    """An enumeration."""
    return {"enum": list(values)}


def matching(pattern: str) -> Schema:
    """A string that *pattern* matches whole."""
    return {"type": "string", "pattern": pattern}


def either(*schemas: Schema) -> Schema:
    """A union."""
    return {"anyOf": list(schemas)}


def ref(name: str) -> Schema:
    """What is defined under *name*."""
    return {"$ref": f"#/$defs/{name}"}


PERSON = thing(name=TEXT, age=WHOLE, city=TEXT)
ORDER = thing(item=TEXT, quantity=WHOLE, customer=TEXT)
TREE = {**thing(value=COUNT, children=some(ref("leaf"), 0, 2)), "$defs": {"leaf": thing(value=COUNT)}}
CHAIN = {
    "$ref": "#/$defs/link",
    "$defs": {"link": thing(name=SHORT, next=either(ref("end"), {"type": "null"})), "end": thing(name=SHORT)},
}
LISTING = {
    **thing(people=some(ref("person"), 1, 2), owner=ref("person")),
    "$defs": {"person": thing(name=SHORT, age=COUNT)},
}
SHAPE = either(thing(kind={"const": "circle"}, radius=COUNT), thing(kind={"const": "square"}, side=COUNT, filled=TRUTH))
DEEP = thing(a=thing(b=thing(c=thing(d=thing(e=COUNT)))))

ALICE = "Give me JSON with the keys name, age, city: Tara is 54 years old and lives in Shanghai"
SALE = "Give me JSON with the keys item, quantity, customer: Peter buys 24 pieces of rope"
LIST = "How do I list models?"

SCHEMAS: dict[str, tuple[str, Schema]] = {
    "person": (ALICE, PERSON),
    "person, reversed": (ALICE, thing(city=TEXT, age=WHOLE, name=TEXT)),
    "person, years bounded": (ALICE, thing(name=TEXT, age={"type": "integer", "minimum": 18, "maximum": 120})),
    "person, name only": (ALICE, thing(name=TEXT)),
    "person, city optional": (ALICE, thing("city", name=TEXT, age=WHOLE, city=TEXT)),
    "person, all optional": (ALICE, thing("name", "age", "city", name=TEXT, age=WHOLE, city=TEXT)),
    "person, or nothing": (ALICE, either(PERSON, {"type": "null"})),
    "person, city of three": (ALICE, thing(name=TEXT, city=one_of("Berlin", "Chicago", "Shanghai"))),
    "person, described": (ALICE, {**PERSON, "title": "Person", "description": "Somebody", "examples": []}),
    "person, in a list": (ALICE, thing(people=some(PERSON, 1, 1))),
    "person, nested": (ALICE, thing(person=PERSON, sure=TRUTH)),
    "person, capital first": (ALICE, thing(name=matching("^[A-Z][a-z]{1,9}$"), age=COUNT)),
    "order": (SALE, ORDER),
    "order, several": (SALE, thing(orders=some(ORDER, 1, 2))),
    "order, with price": (SALE, thing(item=SHORT, price={"type": "number", "minimum": 0, "maximum": 1000})),
    "order, status": (SALE, thing(item=SHORT, status=one_of("open", "paid", "sent"))),
    "order, number": (SALE, thing(number=matching("^[A-Z]{2}-[0-9]{4}$"), item=SHORT)),
    "order, customer or guest": (SALE, thing(item=SHORT, customer=either(thing(name=SHORT), {"const": "guest"}))),
    "order, lines": (SALE, thing(lines=some(thing(item=SHORT, quantity=COUNT), 2, 3), total=COUNT)),
    "order, tuple": (
        SALE,
        {"type": "array", "prefixItems": [SHORT, COUNT], "items": False, "minItems": 2, "maxItems": 2},
    ),
    "one word": (LIST, one_of("list", "show", "run")),
    "one number": (LIST, COUNT),
    "one truth": (LIST, TRUTH),
    "nothing": (LIST, {"type": "null"}),
    "constant": (LIST, {"const": {"command": "anyform list", "flags": [1, True, None]}}),
    "mixed enumeration": (LIST, one_of(1, "one", None, True, [1])),
    "text bounded": (LIST, {"type": "string", "minLength": 3, "maxLength": 20}),
    "date": (LIST, matching("^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$")),
    "date by format": (LIST, thing(day={"type": "string", "format": "date"})),
    "time by format": (LIST, thing(at={"type": "string", "format": "date-time"})),
    "mail by format": (LIST, thing(mail={"type": "string", "format": "uuid"})),
    "telephone": (LIST, thing(telephone=matching("^\\+[0-9]{2,3} [0-9]{6,8}$"))),
    "colour": (LIST, thing(colour=matching("^#[0-9a-f]{6}$"))),
    "alternatives in a pattern": (LIST, thing(command=matching("^anyform (list|show|run)$"))),
    "words": (LIST, some(SHORT, 1, 3)),
    "exactly three numbers": (LIST, some(COUNT, 3, 3)),
    "matrix": (LIST, some(some(COUNT, 2, 2), 2, 2)),
    "empty array": (LIST, thing(none=some(TEXT, 0, 0))),
    "array of unions": (LIST, some(either(COUNT, TRUTH, {"type": "null"}), 2, 4)),
    "several types": (LIST, thing(value={"type": ["integer", "null"], "minimum": 0, "maximum": 9})),
    "number bounded": (LIST, thing(share={"type": "number", "minimum": 0, "maximum": 1})),
    "number above": (LIST, thing(share={"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 10})),
    "negative": (LIST, thing(degrees={"type": "integer", "minimum": -40, "maximum": -1})),
    "tagged union": (LIST, SHAPE),
    "list of tagged unions": (LIST, thing(shapes=some(SHAPE, 1, 2))),
    "all of": (LIST, {"allOf": [thing(a=COUNT), {"type": "object", "required": ["a"]}]}),
    "deep": (LIST, DEEP),
    "tree by reference": (LIST, TREE),
    "chain by reference": (LIST, CHAIN),
    "listing by reference": (LIST, LISTING),
}
"""Name -> what the model is asked, and what its answer must follow."""
