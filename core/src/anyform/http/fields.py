"""Reads a JSON object field by field: the right type, within its range, or a fault that names the field.

null counts as absent. Unknown fields are never looked at. Wording and codes follow OpenAI's own refusals.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from anyform.contract.errors import Fault, Invalid, Unsupported


class Written(str):
    """Text of a form, which has no other types: it may stand for a number or a boolean."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file of a form. Its name and media type are what the client says: nothing to rely on."""

    data: bytes
    filename: str = ""
    media_type: str = ""


LARGEST = 2**63 - 1
"""Integers beyond are told apart by no engine, and are too large for floats to calculate with."""
KINDS: dict[type, str] = {
    Written: "a string",
    Upload: "a file",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
}


class Missing(Invalid):
    """A field that is required."""

    code = "missing_required_parameter"


class WrongType(Invalid):
    """A field of another JSON type."""

    code = "invalid_type"


class WrongValue(Invalid):
    """A field of the right type with a value that cannot be."""

    code = "invalid_value"


class NotSupported(Unsupported):
    """A field of OpenAI's that is understood, but not done here."""

    code = "unsupported_parameter"


def wrong(param: str, what: str, hint: str = "") -> NoReturn:
    """Refuse the value of *param*."""
    raise WrongValue(f"Invalid '{param}': {what}.", hint, param=param)


def mistyped(param: str, wanted: str, value: Any, hint: str = "") -> NoReturn:
    """Refuse the type of *param*."""
    got = "null" if value is None else KINDS.get(type(value), "something else")
    raise WrongType(f"Invalid type for '{param}': expected {wanted}, but got {got} instead.", hint, param=param)


def judged(error: Exception, names: Collection[str], spelt: Mapping[str, str] | None = None) -> Exception:
    """*error*; where a model refuses the value of one of these fields, as the same refusal of a reader of fields.

    *spelt*: what the request calls a field that has several names, by the one that the model knows.
    """
    if not isinstance(error, Fault) or not isinstance(param := error.details.get("param"), str):
        return error
    name, opened, rest = param.partition("[")
    if spelt and name in spelt:
        error.details["param"] = spelt[name] + opened + rest
    if type(error) is not Invalid or name not in names:
        return error
    made = Fault.revive({**error.as_dict(), "code": WrongValue.code})
    made.__cause__ = error.__cause__
    return made


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([+-]?)((?:\d+(?:\.\d*)?(?:ms|s|m|h))+)")


def seconds_of(text: str) -> float | None:
    """`90s`, `1h30m`, `-1m`, or a bare number of seconds, as Go writes durations; None for anything else."""
    try:
        number = float(text)
    except ValueError:
        found = _DURATION.fullmatch(text.strip())
        if found is None:
            return None
        parts = re.findall(r"(\d+(?:\.\d*)?)(ms|s|m|h)", found[2])
        number = sum(float(count) * _UNITS[unit] for count, unit in parts) * (-1 if found[1] == "-" else 1)
    return number if math.isfinite(number) else None


class Fields:
    """One JSON object of a request; `where` is its place in the body (`messages[0].`), for messages."""

    __slots__ = ("data", "where")

    def __init__(self, data: Mapping[str, Any], where: str = "") -> None:
        self.data = data
        self.where = where

    def path(self, name: str) -> str:
        """How a message calls the field."""
        return self.where + name

    def find(self, *names: str) -> tuple[str, Any]:
        """The first of several spellings that is present and not null; else the first name and None."""
        for name in names:
            value = self.data.get(name)
            if value is not None:
                return name, value
        return names[0], None

    def flag(self, *names: str) -> bool | None:
        """A boolean."""
        name, value = self.find(*names)
        if isinstance(value, Written):
            value = TRUTHS.get(value.lower(), value)
        if value is not None and not isinstance(value, bool):
            mistyped(self.path(name), "a boolean", value, "Say true or false.")
        return value

    def integer(self, *names: str, low: float | None = None, high: float | None = None) -> int | None:
        """An integer within low..high, and within what 64 bits hold; 4.0 is one."""
        name, value = self.find(*names)
        if value is None:
            return None
        if isinstance(value, Written):
            value = _number(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            mistyped(self.path(name), "an integer", value)
        self._within(name, value, -LARGEST - 1 if low is None else low, LARGEST if high is None else high)
        return value

    def number(self, *names: str, low: float | None = None, high: float | None = None) -> float | None:
        """A finite number within low..high."""
        name, value = self.find(*names)
        if value is None:
            return None
        if isinstance(value, Written):
            value = _number(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            mistyped(self.path(name), "a number", value)
        self._within(name, value, low, high)
        return _finite(self.path(name), value)

    def _within(self, name: str, value: float, low: float | None, high: float | None) -> None:
        if low is not None and value < low:
            wrong(self.path(name), f"{value} is below the minimum", f"Expected a value >= {low}.")
        if high is not None and value > high:
            wrong(self.path(name), f"{value} is above the maximum", f"Expected a value <= {high}.")

    def text(self, *names: str) -> str | None:
        """A string."""
        name, value = self.find(*names)
        if value is not None and not isinstance(value, str):
            mistyped(self.path(name), "a string", value)
        return value

    def duration(self, name: str) -> float | None:
        """Seconds, as a number or as text (`5m`, `1h30m`); negative: for ever."""
        value = self.data.get(name)
        if value is None:
            return None
        if isinstance(value, str):
            seconds = seconds_of(value)
            if seconds is None:
                wrong(self.path(name), f"'{value}' is no time", "Give seconds, or such as '5m'.")
            return seconds
        if isinstance(value, bool) or not isinstance(value, int | float):
            mistyped(self.path(name), "a number of seconds or a time such as '5m'", value)
        return self.number(name)

    def choice(self, name: str, *allowed: str) -> str | None:
        """One of a few strings."""
        value = self.text(name)
        if value is not None and value not in allowed:
            wrong(self.path(name), f"'{value}'", f"Supported values are: {', '.join(map(repr, allowed))}.")
        return value

    def array(self, name: str) -> list[Any] | None:
        """An array, of anything; in a form, a field that comes once is one of one."""
        value = self.data.get(name)
        if isinstance(value, Written | Upload):
            return [value]
        if value is not None and not isinstance(value, list):
            mistyped(self.path(name), "an array", value)
        return value

    def object(self, name: str) -> dict[str, Any] | None:
        """An object, as it is."""
        value = self.data.get(name)
        if value is not None and not isinstance(value, dict):
            mistyped(self.path(name), "an object", value)
        return value

    def members(self, name: str, hint: str = "") -> Any:
        """What *name* holds; in a form, what its text says as JSON, or a field for each member, as `name[member]`."""
        value = self.data.get(name)
        parts = {
            key[len(name) + 1 : -1]: part
            for key, part in self.data.items()
            if key.startswith(f"{name}[") and key.endswith("]") and part is not None
        }
        if isinstance(value, Written) and value.lstrip().startswith("{"):
            try:
                return json.loads(value)
            except (ValueError, RecursionError) as error:
                wrong(self.path(name), f"it is no JSON: {error}", hint)
        return parts or value

    def inner(self, name: str) -> Fields | None:
        """An object, to be read in turn."""
        value = self.object(name)
        return None if value is None else Fields(value, self.path(name) + ".")

    def items(self, name: str) -> list[Fields] | None:
        """An array of objects."""
        values = self.array(name)
        return None if values is None else [self._item(name, at, value) for at, value in enumerate(values)]

    def _item(self, name: str, at: int, value: Any) -> Fields:
        place = f"{self.path(name)}[{at}]"
        if not isinstance(value, dict):
            mistyped(place, "an object", value)
        return Fields(value, place + ".")

    def strings(self, name: str) -> tuple[str, ...] | None:
        """One string or an array of strings."""
        value = self.data.get(name)
        if value is None:
            return None
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list):
            mistyped(self.path(name), "a string or an array of strings", value)
        for at, item in enumerate(values):
            if not isinstance(item, str):
                mistyped(f"{self.path(name)}[{at}]", "a string", item)
        return tuple(values)

    def refuse(self, name: str, hint: str) -> None:
        """Refuse a field whose being ignored would change what the answer means."""
        if self.data.get(name) not in (None, [], {}, False, ""):
            raise NotSupported(f"Unsupported parameter: '{self.path(name)}'.", hint, param=self.path(name))

    def need_text(self, name: str) -> str:
        """A string that must be there."""
        value = self.text(name)
        return self.missing(name) if value is None else value

    def need_inner(self, name: str) -> Fields:
        """An object that must be there."""
        value = self.inner(name)
        return self.missing(name) if value is None else value

    def missing(self, name: str) -> NoReturn:
        """Refuse a body without *name*."""
        raise Missing(f"Missing required parameter: '{self.path(name)}'.", param=self.path(name))


TRUTHS = {"true": True, "1": True, "false": False, "0": False}


def _number(text: Written) -> int | float | Written:
    """The number that a form's text says, as JSON writes numbers; else the text."""
    if re.fullmatch(r"-?\d{1,20}", text, re.ASCII):
        return int(text)
    return float(text) if re.fullmatch(r"-?\d{1,400}(\.\d{1,400})?([eE][+-]?\d{1,4})?", text, re.ASCII) else text


def _finite(param: str, value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        wrong(param, "not a finite number")
    return number


def tokens(param: str, values: list[Any]) -> tuple[int, ...]:
    """A list of token ids."""
    for at, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int):
            mistyped(f"{param}[{at}]", "an integer", value)
        if not 0 <= value < 2**31:
            wrong(f"{param}[{at}]", f"{value} is no token id")
    return tuple(values)


def is_tokens(value: Any) -> bool:
    """Whether *value* looks like token ids rather than like a list of prompts."""
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)
