"""What a dialect makes of each field of a request. docs/dialects.md is written from these, and a test sends each one:
tests/end_to_end/http/test_http_dialects.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Treatment = Literal["heeded", "ignored", "refused"]
Body = tuple[tuple[str, Any], ...]
"""The fields of a body, by name."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of a request's body.

    `options.seed` is the field `seed` in the object `options`; `messages[].images` the field `images` of each object in
    the array `messages` (it is sent in the last of the least body's); `?after` a parameter of the query.
    """

    name: str
    treatment: Treatment
    note: str = ""
    """What becomes of it, where its name and treatment leave that open."""
    example: Any = None
    """A value that it may have: with it the request is answered; refused ones are refused with it, by name."""
    wrong: Any = None
    """A value that is refused with a 4xx which names the field; None: there is none."""
    beside: Body = ()
    """Further fields that must be sent with it for it to be taken; over those of the least body."""


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One method and path.

    The test sends the least body, at a listener for the dialect alone; then with it each field: heeded and ignored
    ones with their example, which must be answered as the least body is; refused ones, and wrong values, which must
    be refused with a 4xx that names the field. It also sees which fields the code looks at: all of them must be in
    the table, and all that are heeded must be looked at.

    In paths, bodies, examples and wrong values "{chat}", "{complete}", "{embedding}", "{rerank}", "{see}",
    "{hear}", "{speak}", "{paint}", "{classify}", "{caption}" and "{answer}" stand for the name of a model that does
    that, "{picture}" and "{sound}" for a small PNG and WAV in base64, "{digest}" for `raw`'s sha256 in hex, and
    "{id}" for the `id` of the answer to the last of `before`.
    """

    method: str
    path: str
    """As documented: `/api/v0/models/{model}`; the test goes to `at` then."""
    about: str
    """What it does, in a sentence."""
    fields: tuple[Field, ...] = ()
    body: Body = ()
    """The least body that is answered."""
    like: str = ""
    """The path of another resource, whose body this one takes too, and whose table so says what is read."""
    at: str = ""
    """Where the test goes; empty: to `path`."""
    headers: tuple[tuple[str, str], ...] = ()
    raw: bytes = b""
    """A body that is no JSON, in its place."""
    before: tuple[tuple[str, str, Body], ...] = ()
    """Method, path and body of requests that must be sent before each of the test's own, for there to be something."""
    status: int = 0
    """The status of the answer to the least body, where it is none of 200 to 299: what nothing here can do, or needs a
    network, which tests have not.
    """
    form: bool = False
    """Whether the body is a form with files (multipart/form-data); a value such as {"file": "{sound}"} is one."""
