"""A jinja2 environment that renders chat templates as Hugging Face does, with limits on what a template may cost.

Bounded: rounds of loops and calls, together (`STEPS`); processor time, looked at every few steps (`SECONDS`);
all text that is written, captured text included (`LENGTH`); the length of any string or list that an operator or a
method makes; the width of padding; the size of numbers. Not bounded: one filter over a value that is within these
limits (sorting a long list), and the memory of many values that are each within them. A template comes with a model
and runs where that model runs; the limits keep it from stopping everybody else there.
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import Template, nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import do_format, do_join, make_attrgetter
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import pass_context, pass_eval_context

STEPS = 1_000_000
SECONDS = 5.0
LENGTH = 8 * 1024 * 1024
"""Characters of a string, or of all output."""
ITEMS = 1_000_000
"""Items of a list that an operator makes."""
WIDTH = 10_000
"""The largest number that may be given to a filter or method that pads."""
BITS = 4096
SOURCE = 1024 * 1024
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

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        self._spending = threading.local()
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation], finalize=self._written
        )
        for name in _PADDING_FILTERS:
            self.filters[name] = _narrow(self.filters[name])
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
        _replace_concats(tree)
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
        self.step(len(value) if isinstance(value, str) else len(str(value)))
        return value

    @staticmethod
    def concat_bounded(*values: Any) -> str:
        """`a ~ b`."""
        pieces = [str(value) for value in values]
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
        if isinstance(owner, str):
            args = _checked_arguments(owner, obj.__name__, args)
        return super().call(context, obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`str.format`, with widths within the limits."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None

        def formatted(*args: Any, **kwargs: Any) -> str:
            _check_widths(value.__self__)
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


def _replace_concats(node: nodes.Node) -> None:
    """`a ~ b` is the one operator that the sandbox cannot intercept: make it a call."""
    for name, value in node.iter_fields():
        if isinstance(value, nodes.Node):
            setattr(node, name, _without_concat(value))
        elif isinstance(value, list):
            value[:] = [_without_concat(item) if isinstance(item, nodes.Node) else item for item in value]


def _without_concat(node: nodes.Node) -> nodes.Node:
    _replace_concats(node)
    if not isinstance(node, nodes.Concat):
        return node
    function = nodes.EnvironmentAttribute("concat_bounded")
    return nodes.Call(function, list(node.nodes), [], None, None, lineno=node.lineno)


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


def _checked_arguments(owner: str, method: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """*args* for a method of the text *owner*, where it may make a much longer one."""
    if method == "join" and args:
        return (_bounded_pieces(args[0], len(owner)), *args[1:])
    if method == "replace" and len(args) > 1:
        _check_length(len(owner) + owner.count(args[0]) * len(args[1]))
    elif method == "expandtabs":
        _check_length(len(owner) + owner.count("\t") * (args[0] if args else 8))
    elif method == "translate":
        raise OverLimit("it translates text by a table, which is not bounded")
    return args


def _check_sum(left: Any, right: Any) -> None:
    if isinstance(left, str) and isinstance(right, str):
        _check_length(len(left) + len(right))
    elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
        _check_items(len(left) + len(right))


def _check_product(left: Any, right: Any) -> None:
    for value, times in ((left, right), (right, left)):
        if isinstance(value, str) and isinstance(times, int):
            _check_length(len(value) * max(times, 0))
        elif isinstance(value, list | tuple) and isinstance(times, int):
            _check_items(len(value) * max(times, 0))
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())


def _check_power(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() * abs(right))


def _check_modulo(left: Any, right: Any) -> None:
    if isinstance(left, str):
        _check_widths(left)


def _check_bits(bits: int) -> None:
    if bits > BITS:
        raise OverLimit(f"it makes a number of more than {BITS} bits")


_OPERATOR_CHECKS: dict[str, Callable[[Any, Any], None]] = {
    "+": _check_sum,
    "*": _check_product,
    "**": _check_power,
    "%": _check_modulo,
}

_PADDING_FILTERS = ("batch", "center", "format", "indent", "slice", "truncate", "wordwrap")


def _narrow(function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter *function*, refusing widths that make it write without end."""

    def filtered(*args: Any, **kwargs: Any) -> Any:
        _check_numbers(args, kwargs)
        if args and function is do_format:
            _check_widths(str(args[0]))
        texts = [len(value) for value in (*args, *kwargs.values()) if isinstance(value, str)]
        if len(texts) > 1:
            _check_length(math.prod(texts))
        return function(*args, **kwargs)

    # jinja2 reads from the function whether to pass its environment or context first
    filtered.__dict__.update(function.__dict__)
    return filtered


def _bounded_pieces(values: Iterable[Any], separator: int, text: Callable[[Any], str] = str) -> list[Any]:
    """*values*, if joining them by so many characters is within the limits."""
    pieces: list[Any] = []
    length = 0
    for value in values:
        length += len(text(value)) + separator
        _check_length(length)
        pieces.append(value)
    return pieces


@pass_eval_context
def _join(context: Any, values: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    get = make_attrgetter(context.environment, attribute) if attribute is not None else None
    pieces = _bounded_pieces(values, len(d), lambda value: str(get(value) if get else value))
    return str(do_join(context, pieces, d, attribute))


def _replace(text: Any, old: str, new: str, count: int | None = None) -> str:
    text = str(text)
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
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: object) -> NoReturn:
    raise RefusedByTemplate(str(message))
