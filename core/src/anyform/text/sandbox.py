"""A jinja2 environment that renders chat templates as Hugging Face does, with limits on what a template may cost.

Bounded: rounds of loops and calls, together (`STEPS`); processor time, looked at every few steps (`SECONDS`);
all text that is written, captured text included (`LENGTH`); the length of any string or list that an operator or a
method makes, and of what a value that holds others is as text; the width of padding; the size of numbers. Not bounded:
one filter over a value that is within these limits (sorting a long list), and the memory of many values that are each
within them. A template comes with a model, or with a request, and runs where that model runs; the limits keep it from
stopping everybody else there.
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import Template, nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import do_format, do_int, do_join, do_round, do_sum, make_attrgetter
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.tests import test_divisibleby
from jinja2.utils import Namespace, pass_context, pass_environment, pass_eval_context

STEPS = 1_000_000
SECONDS = 5.0
LENGTH = 8 * 1024 * 1024
"""Characters of a string, or of all output."""
ITEMS = 1_000_000
"""Items of a list that an operator makes."""
WIDTH = 10_000
"""The largest number that may be given to a filter or method that pads."""
BITS = 4096
DIGITS = 4096
"""Of a text that is read as a number."""
LETTERS = 10**9
"""Comparisons of letters that one search from the end may take."""
SOURCE = 1024 * 1024
LONGEST_WORD = 2000
"""Characters of a template's refusal that are told."""
_CHECK_EVERY = 256


class RefusedByTemplate(TemplateError):  # noqa: N818 - named like the faults
    """The template itself refused the conversation, by `raise_exception`."""


class OverLimit(TemplateError):  # noqa: N818
    """The template costs more than it may."""


class Budget:
    """What one rendering may still spend."""

    def __init__(self) -> None:
        self._steps = 0
        self._written = 0
        self._deadline = time.thread_time() + SECONDS

    def step(self) -> None:
        """One round, call or piece of output."""
        self._steps += 1
        if self._steps % _CHECK_EVERY:
            return
        if self._steps > STEPS:
            raise OverLimit(f"it takes more than {STEPS} steps")
        if time.thread_time() > self._deadline:
            raise OverLimit(f"it takes more than {SECONDS:g} s of processor time")

    def write(self, length: int) -> None:
        """*length* characters, whether they reach the output or are captured."""
        self._written += length
        if self._written > LENGTH:
            raise OverLimit(f"it writes more than {LENGTH} characters")


class Sandbox(ImmutableSandboxedEnvironment):
    """Renders templates that a stranger wrote."""

    intercepted_binops = frozenset({"+", "-", "*", "//", "**", "%"})

    def __init__(self) -> None:
        self._spending = threading.local()
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation], finalize=self._written
        )
        for name in _PADDING_FILTERS:
            self.filters[name] = _narrow(self.filters[name])
        for name in _TEXT_FILTERS:
            self.filters[name] = _small(self.filters[name])
        self.filters[_COMPARABLE] = _comparable
        self.filters["int"] = _int
        self.filters["round"] = _round
        self.filters["sum"] = _sum
        self.tests["divisibleby"] = _is_divisible
        self.filters["tojson"] = _tojson
        self.filters["join"] = _join
        self.filters["replace"] = _replace
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        del self.globals["lipsum"]

    def compile_bounded(self, source: str) -> Template:
        """A template that counts what it does. Raises TemplateError, or what Python's compiler raises."""
        if len(source) > SOURCE:
            raise OverLimit(f"its source has {len(source)} characters; {SOURCE} are read")
        tree = self.parse(source)
        _count_rounds(tree)
        _bound_operators(tree)
        tree.set_environment(self)
        return self.from_string(tree)

    def render_bounded(self, template: Template, variables: Mapping[str, Any]) -> str:
        """The text of *template*. Raises TemplateError, or whatever the template's own mistake raises."""
        self._spending.budget = Budget()
        try:
            return template.render(variables)
        finally:
            self._spending.budget = None

    def step(self, written: int = 0) -> None:
        """Count one round or call, and the *written* characters of plain text in it."""
        budget: Budget | None = getattr(self._spending, "budget", None)
        if budget is not None:
            budget.step()
            budget.write(written)

    @pass_context
    def _written(self, context: Context, value: Any) -> Any:
        """Jinja2 asks before each value that is written; a constant too, since the context is known only then."""
        self.step(len(_text(value)))
        return value

    @staticmethod
    def concat_bounded(*values: Any) -> str:
        """`a ~ b`."""
        pieces = [_text(value) for value in values]
        _check_length(sum(map(len, pieces)))
        return "".join(pieces)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """As jinja2 says; but lists may change: every conversation is a copy, and templates (Kimi's) keep queues."""
        return (isinstance(obj, list) and attr in ("append", "pop")) or super().is_safe_attribute(obj, attr, value)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call *obj* for the template, if what it makes is within the limits."""
        self.step()
        owner = getattr(obj, "__self__", None)
        if isinstance(owner, str | bytes | int | list | tuple) and not isinstance(owner, bool):
            _check_numbers(args, kwargs)
        if isinstance(owner, str | bytes):
            args = _checked_arguments(owner, obj.__name__, args)
        made = super().call(context, obj, *args, **kwargs)
        if isinstance(made, int):
            _check_bits(made.bit_length())
        return made

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`str.format`, with widths within the limits."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None

        def formatted(*args: Any, **kwargs: Any) -> str:
            form = value.__self__
            _check_widths(form)
            again = form.count("{") if re.search(r"\{[^{}:!]", form) else 1
            _check_length(len(form) + again * _size((args, kwargs)))
            return str(wrapped(*args, **kwargs))

        return formatted

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """An operator, if its result is within the limits."""
        _OPERATOR_CHECKS[operator](left, right)
        return super().call_binop(context, operator, left, right)


class _Generation(Extension):
    """`{% generation %}` marks what the assistant said, for training; here it is just its content."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it as an instance attribute

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _count_rounds(tree: nodes.Template) -> None:
    """Let each round of a loop and each call of a macro count itself and the plain text in it."""
    for block in tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock)):
        assert isinstance(block, nodes.For | nodes.Macro | nodes.CallBlock)
        written = sum(len(data.data) for data in block.find_all(nodes.TemplateData))
        count = nodes.Call(
            nodes.EnvironmentAttribute("step"), [nodes.Const(written)], [], None, None, lineno=block.lineno
        )
        block.body.insert(0, nodes.ExprStmt(count, lineno=block.lineno))


def _bound_operators(node: nodes.Node) -> None:
    """The sandbox cannot intercept `a ~ b`: make it a call; nor comparisons: filter what is on their left."""
    for name, value in node.iter_fields():
        if isinstance(value, nodes.Node):
            setattr(node, name, _bounded(value))
        elif isinstance(value, list):
            value[:] = [_bounded(item) if isinstance(item, nodes.Node) else item for item in value]


def _bounded(node: nodes.Node) -> nodes.Node:
    _bound_operators(node)
    if isinstance(node, nodes.Concat):
        function = nodes.EnvironmentAttribute("concat_bounded")
        return nodes.Call(function, list(node.nodes), [], None, None, lineno=node.lineno)
    if isinstance(node, nodes.Compare) and not isinstance(node.expr, nodes.Const):
        node.expr = nodes.Filter(node.expr, _COMPARABLE, [], [], None, None, lineno=node.lineno)
    return node


_COMPARABLE = "_comparable"
"""A filter, which costs much less than a call."""


def _comparable(value: Any) -> Any:
    """*value*, if comparing what it holds comes to an end."""
    if isinstance(value, list | tuple | dict):
        _size(value)
    return value


def _size(value: Any) -> int:
    """About how many characters *value* has as text. Raises OverLimit, and before it is one."""
    waiting, size, items = [value], 0, 0
    while waiting:
        one = waiting.pop()
        if isinstance(one, Namespace):
            one = object.__getattribute__(one, "_Namespace__attrs")
        if isinstance(one, str | bytes):
            size += len(one)
        elif isinstance(one, Collection) and not isinstance(one, range):
            size, items = size + 2 * len(one), items + len(one)
            _check_items(items)
            waiting.extend(one)
            waiting.extend(one.values() if isinstance(one, Mapping) else ())
        else:
            size += 1
        _check_length(size)
    return size


def _text(value: Any) -> str:
    if not isinstance(value, str | int | float):
        _size(value)
    return str(value)


def _check_length(length: int) -> None:
    if length > LENGTH:
        raise OverLimit(f"it makes a value of length {length}; the limit is {LENGTH}")


def _check_items(count: int) -> None:
    if count > ITEMS:
        raise OverLimit(f"it makes a list of {count} items; the limit is {ITEMS}")


def _check_numbers(args: Iterable[Any], kwargs: Mapping[str, Any]) -> None:
    for value in (*args, *kwargs.values()):
        if isinstance(value, int) and abs(value) > WIDTH:
            raise OverLimit(f"it gives a number over {WIDTH} to a filter or method that pads")


def _check_widths(form: str) -> None:
    """Widths in a format, given as digits (five of them) or taken from an argument."""
    if re.search(r"\d{5}|\*|:[^{}]*\{", form):
        raise OverLimit(f"it formats with a width that may be over {WIDTH}")


def _checked_arguments(owner: str | bytes, method: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """*args* for a method of the text *owner*, where it may make a much longer one, or search it too long."""
    if method == "join" and args:
        return (_bounded_pieces(args[0], len(owner)), *args[1:])
    if method == "replace" and len(args) > 1:
        _check_length(len(owner) + owner.count(args[0]) * len(args[1]))
    elif method == "expandtabs":
        tabs = owner.count("\t") if isinstance(owner, str) else owner.count(b"\t")
        _check_length(len(owner) + tabs * (args[0] if args else 8))
    elif method == "translate":
        raise OverLimit("it translates text by a table, which is not bounded")
    elif method in _FROM_THE_END and args and isinstance(args[0], str | bytes):
        _check_search(len(owner), len(args[0]))
    return args


def _check_search(length: int, sought: int) -> None:
    if length * sought > LETTERS:
        raise OverLimit(f"it searches {length} characters for {sought} from the end")


_FROM_THE_END = frozenset({"rfind", "rindex", "rpartition", "rsplit"})
"""Unlike searches from the beginning these take both lengths multiplied, at the worst."""


def _check_sum(left: Any, right: Any) -> None:
    if isinstance(left, str | bytes) and isinstance(right, str | bytes):
        _check_length(len(left) + len(right))
    elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
        _check_items(len(left) + len(right))
    else:
        _check_integers(left, right)


def _check_integers(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(max(left.bit_length(), right.bit_length()))


def _check_product(left: Any, right: Any) -> None:
    for value, times in ((left, right), (right, left)):
        if isinstance(value, str | bytes) and isinstance(times, int):
            _check_length(len(value) * max(times, 0))
        elif isinstance(value, list | tuple) and isinstance(times, int):
            _check_items(len(value) * max(times, 0))
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())


def _check_power(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() * abs(right))


def _check_modulo(left: Any, right: Any) -> None:
    if isinstance(left, bytes):
        left = left.decode("latin-1")
    if isinstance(left, str):
        _check_widths(left)
        again = left.count("%(") if isinstance(right, Mapping) else 1
        _check_length(len(left) + again * _size(right))
    else:
        _check_integers(left, right)


def _check_bits(bits: int) -> None:
    if bits > BITS:
        raise OverLimit(f"it makes a number of more than {BITS} bits")


_OPERATOR_CHECKS: dict[str, Callable[[Any, Any], None]] = {
    "+": _check_sum,
    "-": _check_integers,
    "//": _check_integers,
    "*": _check_product,
    "**": _check_power,
    "%": _check_modulo,
}

_PADDING_FILTERS = ("batch", "center", "format", "indent", "slice", "truncate", "wordwrap")
_TEXT_FILTERS = (
    *("capitalize", "center", "e", "escape", "forceescape", "indent", "lower", "pprint", "string", "striptags"),
    *("title", "trim", "truncate", "upper", "urlencode", "urlize", "wordcount", "wordwrap", "xmlattr"),
)
"""They make a text of any value."""


def _narrow(function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter *function*, refusing widths that make it write without end."""

    def filtered(*args: Any, **kwargs: Any) -> Any:
        _check_numbers(args, kwargs)
        if args and function is do_format:
            _check_modulo(_text(args[0]), kwargs or args[1:])
        texts = [len(value) for value in (*args, *kwargs.values()) if isinstance(value, str)]
        if len(texts) > 1:
            _check_length(math.prod(texts))
        return function(*args, **kwargs)

    # jinja2 reads from the function whether to pass its environment or context first
    filtered.__dict__.update(function.__dict__)
    return filtered


def _small(function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter *function*, refusing values that are too long as text."""

    def filtered(*args: Any, **kwargs: Any) -> Any:
        for value in (*args, *kwargs.values()):
            if isinstance(value, Collection | Namespace) and not isinstance(value, str):
                _size(value)
        return function(*args, **kwargs)

    filtered.__dict__.update(function.__dict__)
    return filtered


def _int(value: Any, default: int = 0, base: int = 10) -> int:
    if isinstance(value, str | bytes) and len(value) > DIGITS:
        raise OverLimit(f"it reads a number of {len(value)} digits; the limit is {DIGITS}")
    return do_int(value, default, base)


def _round(value: Any, precision: int = 0, method: Any = "common") -> Any:
    _check_numbers((precision,), {})
    return do_round(value, precision, method)


@pass_environment
def _sum(environment: Any, values: Iterable[Any], attribute: str | int | None = None, start: Any = 0) -> Any:
    if not isinstance(start, int | float):
        values = list(values)
        get = make_attrgetter(environment, attribute) if attribute is not None else None
        parts = [get(value) if get else value for value in values]
        _check_items(sum(len(part) for part in (start, *parts) if isinstance(part, Collection)))
    return do_sum(environment, values, attribute, start)


def _is_divisible(value: int, num: int) -> bool:
    _check_integers(value, num)
    return test_divisibleby(value, num)


def _bounded_pieces(values: Iterable[Any], separator: int, text: Callable[[Any], str] | None = None) -> list[Any]:
    """*values*, if joining them by so many characters is within the limits."""
    pieces: list[Any] = []
    length = 0
    for value in values:
        length += len((text or _text)(value)) + separator
        _check_length(length)
        pieces.append(value)
    return pieces


@pass_eval_context
def _join(context: Any, values: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    get = make_attrgetter(context.environment, attribute) if attribute is not None else None
    pieces = _bounded_pieces(values, len(d), lambda value: _text(get(value) if get else value))
    return str(do_join(context, pieces, d, attribute))


def _replace(text: Any, old: str, new: str, count: int | None = None) -> str:
    text = _text(text)
    _check_length(len(text) + text.count(old) * len(new))
    return str(text.replace(old, new, -1 if count is None else count))


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    if indent is not None and not (isinstance(indent, int) and indent <= 16):
        raise OverLimit(f"it indents JSON by {str(indent)[:20]!r}; the limit is 16")
    _size(value)
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: object) -> NoReturn:
    raise RefusedByTemplate(_text(message)[:LONGEST_WORD])
