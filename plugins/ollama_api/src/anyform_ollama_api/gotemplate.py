"""Ollama's templates as chat templates in Jinja, which every text backend renders (https://docs.ollama.com/modelfile).

A template that reads `.Messages` gets the conversation; an older one, which reads `.Prompt`, is rendered turn by turn,
and the last turn up to `.Response`: the answer is to follow there. `.Images` is empty, since markers stand for pictures
in the text already, and `.First` is false, as in Ollama. Texts are counted and cut by characters, not by bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

from anyform_ollama_api import goprelude
from anyform_ollama_api.golexer import refuse
from anyform_ollama_api.gotree import (
    Branch,
    Constant,
    Dot,
    Field,
    Include,
    Jump,
    Name,
    Node,
    Operand,
    Pipe,
    Tree,
    Variable,
    Write,
    operand_fields,
    parse,
)

__all__ = ["jinja"]

LONGEST = 1024 * 1024
"""Characters of the template made."""
LOOPS = 10
"""Loops within each other; Python takes no more than twenty."""
_REFUSED = frozenset({"call", "html", "js", "urlquery"})
_COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_VERB = re.compile(r"%(?:%|(?P<flags>[-+# 0]*)(?P<width>\d{0,3})(?P<digits>\.\d{0,2})?(?P<verb>[a-zA-Z]))")


@lru_cache(maxsize=16)
def jinja(text: str) -> str:
    """The chat template in Jinja that says what *text*, a TEMPLATE of a Modelfile, says.

    Variables: `messages`, `tools`, `enable_thinking`, `reasoning_effort`, as `anyform.text` gives them. Raises Invalid
    with the line for what Go's language or Ollama's data does not have, and for html, js, urlquery and call.
    """
    tree = parse(text)
    fields = tree.fields()
    whole = any(name.lower() == "messages" for name in fields)
    if not whole and not any(name.lower() == "response" for name in fields):
        tree.root.append(Write(Pipe(((Field(Dot(), "Response", 1),),), 1)))
    return _conversation(tree, fields) if whole else _turns(tree)


def _conversation(tree: Tree, fields: set[str]) -> str:
    main = _Main(tree)
    body = main.template("go_main", tree.root)
    return goprelude.whole(fields) + main.templates() + body + "{{ go_main(go_root) }}"


def _turns(tree: Tree) -> str:
    main = _Main(tree)
    every = main.template("go_turn", tree.root)
    last = main.template("go_last", _cut(tree.root)[0])
    return goprelude.MACROS + main.templates() + every + last + goprelude.TURNS


def _cut(nodes: Sequence[Node]) -> tuple[list[Node], bool]:
    """*nodes* up to the one that writes `.Response`, and whether there is one."""
    kept: list[Node] = []
    for node in nodes:
        cut = False
        if isinstance(node, Branch):
            body, in_body = _cut(node.body)
            otherwise, in_otherwise = _cut(node.otherwise)
            node, cut = Branch(node.kind, node.pipe, body, otherwise), in_body or in_otherwise
        elif isinstance(node, Write) and isinstance(node.said, Pipe):
            cut = "Response" in operand_fields(node.said)
        kept.append(node)
        if cut:
            return kept, True
    return kept, False


class _Main:
    """The templates of one source, each a macro."""

    def __init__(self, tree: Tree) -> None:
        self._defined = tree.defined
        self._macros = {name: f"go_template_{number}" for number, name in enumerate(tree.defined)}
        self._length = 0

    def templates(self) -> str:
        """The macros of those that are defined."""
        return "".join(self.template(self.macro(name, 1), body) for name, body in self._defined.items())

    def macro(self, name: str, line: int) -> str:
        """The macro of the template *name*."""
        return self._macros.get(name) or refuse(line, f"template {name[:40]!r} is not defined")

    def template(self, macro: str, body: Sequence[Node]) -> str:
        """A macro that says *body* of the value it is given."""
        said = _Body(self).said(body)
        return f"{{% macro {macro}(go_dot) %}}{{% set go = namespace() %}}{said}{{% endmacro %}}"

    def spend(self, text: str) -> str:
        """*text*, counted."""
        self._length += len(text)
        if self._length > LONGEST:
            refuse(1, f"it makes more than {LONGEST} characters of Jinja")
        return text


class _Body:
    """One template's body: its variables are attributes of one namespace, each declaration another."""

    def __init__(self, main: _Main) -> None:
        self._main = main
        self._scopes: list[dict[str, str]] = [{"$": "go_dot"}]
        self._dot = "go_dot"
        self._count = 0
        self._loops = 0

    def said(self, nodes: Sequence[Node]) -> str:
        """Statements for *nodes*, in a scope of their own."""
        with self._scope():
            return "".join(self._main.spend(self._node(node)) for node in nodes)

    @contextmanager
    def _scope(self) -> Iterator[None]:
        self._scopes.append({})
        try:
            yield
        finally:
            self._scopes.pop()

    def _new(self) -> str:
        self._count += 1
        return f"go.v{self._count}"

    def _node(self, node: Node) -> str:
        if isinstance(node, Jump):
            return f"{{% {node.kind} %}}"
        if isinstance(node, Include):
            value = "none" if node.pipe is None else self._value(node.pipe)
            return f"{{{{ {self._main.macro(node.name, node.line)}({value}) }}}}"
        if isinstance(node, Branch):
            with self._scope():
                return {"if": self._if, "with": self._with, "range": self._range}[node.kind](node)
        if isinstance(node.said, str):
            return f"{{{{ {_quoted(node.said)} }}}}"
        pipe = node.said
        if pipe.names:
            return self._assignment(pipe)
        return f"{{{{ {self._text(pipe)} }}}}"

    def _assignment(self, pipe: Pipe) -> str:
        value = self._value(pipe)
        return f"{{% set {self._target(pipe, pipe.names[0])} = {value} %}}"

    def _target(self, pipe: Pipe, name: str) -> str:
        """Where the variable *name* is to be kept."""
        if not pipe.declares:
            return self._variable(Variable(name, pipe.line))
        made = self._scopes[-1][name] = self._new()
        return made

    def _variable(self, variable: Variable) -> str:
        for scope in reversed(self._scopes):
            if variable.name in scope:
                return scope[variable.name]
        return refuse(variable.line, f"undefined variable {variable.name!r}")

    def _kept(self, pipe: Pipe) -> tuple[str, str]:
        """(a statement that keeps the value of *pipe*, where)."""
        if pipe.names:
            statement = self._assignment(pipe)
            return statement, self._variable(Variable(pipe.names[0], pipe.line))
        kept = self._new()
        return f"{{% set {kept} = {self._value(pipe)} %}}", kept

    def _if(self, node: Branch) -> str:
        statement, condition = self._kept(node.pipe) if node.pipe.names else ("", self._value(node.pipe))
        return f"{statement}{{% if {condition} %}}{self.said(node.body)}{self._otherwise(node)}{{% endif %}}"

    def _with(self, node: Branch) -> str:
        statement, kept = self._kept(node.pipe)
        otherwise = self._otherwise(node)
        return f"{statement}{{% if {kept} %}}{self._of(kept, node.body)}{otherwise}{{% endif %}}"

    def _otherwise(self, node: Branch) -> str:
        return f"{{% else %}}{self.said(node.otherwise)}" if node.otherwise else ""

    def _of(self, dot: str, nodes: Sequence[Node]) -> str:
        """Statements for *nodes*, with *dot* as the value at hand."""
        before, self._dot = self._dot, dot
        said = self.said(nodes)
        self._dot = before
        return said

    def _range(self, node: Branch) -> str:
        pipe = node.pipe
        self._loops += 1
        if self._loops > LOOPS:
            refuse(pipe.line, f"loops are nested deeper than {LOOPS}")
        value = self._value(pipe)
        otherwise = self._otherwise(node)
        over, element, item = self._new(), self._new(), f"go_item_{self._loops}"
        key = f"({item}[0] if {over} is mapping else loop.index0)"
        kept = [f"{{% set {element} = {item}[1] if {over} is mapping else {item} %}}"]
        targets = [self._target(pipe, name) for name in pipe.names]
        for target, source in zip(targets, [key, element] if len(targets) == 2 else [element], strict=False):
            kept.append(f"{{% set {target} = {source} %}}")
        body = self._of(element, node.body)
        self._loops -= 1
        items = (
            f"({over} | dictsort(true) if {over} is mapping else range({over}) if {over} is integer else {over} or [])"
        )
        check = (
            f"{{% if {over} is string or {over} is boolean %}}{{{{ raise_exception('range over text') }}}}{{% endif %}}"
        )
        loop = f"{{% for {item} in {items} %}}{''.join(kept)}{body}{otherwise}{{% endfor %}}"
        return f"{{% set {over} = {value} %}}{check}{loop}"

    def _text(self, pipe: Pipe) -> str:
        """The value as it is written."""
        value = self._value(pipe)
        return (
            value if value.startswith('"') and value.endswith('"') and '"' not in value[1:-1] else f"go_text({value})"
        )

    def _value(self, pipe: Pipe) -> str:
        given: str | None = None
        for command in pipe.commands:
            given = self._command(command, given, pipe.line)
            if len(given) > LONGEST // 4:
                refuse(pipe.line, "an action is too long")
        assert given is not None
        return given

    def _command(self, command: Sequence[Operand], given: str | None, line: int) -> str:
        first = command[0]
        if isinstance(first, Name):
            arguments = [self._operand(operand) for operand in command[1:]]
            return self._call(first, command[1:], [*arguments, *([] if given is None else [given])])
        if len(command) > 1 or given is not None:
            refuse(line, f"{_said(first)} is no function and takes no arguments")
        if isinstance(first, Constant) and first.value is None:
            refuse(line, "nil is not a command")
        return self._operand(first)

    def _operand(self, operand: Operand) -> str:
        match operand:
            case Constant(value):
                return _constant(value)
            case Variable():
                return self._variable(operand)
            case Dot():
                return self._dot
            case Field(of, name, line):
                _check_field(name, line, of)
                return f"{self._operand(of)}.get({_quoted(name)})"
            case Name(line=line):
                return self._call(operand, (), [])
        if operand.names:
            refuse(operand.line, "a variable cannot be declared in parentheses")
        return f"({self._value(operand)})"

    def _call(self, function: Name, operands: Sequence[Operand], given: list[str]) -> str:
        name, line = function.name, function.line
        if name in _REFUSED:
            refuse(line, f"the function {name!r} is not supported", "Write the text without it.")
        if name == "printf":
            return _printf(operands, given, line)
        if name in ("print", "println"):
            return f"go_{name}([{', '.join(given)}])"
        least, most, made = _FUNCTIONS.get(name) or refuse(line, f"function {name[:40]!r} not defined")
        if not least <= len(given) <= most:
            wanted = str(least) if least == most else f"at least {least}"
            refuse(line, f"{name} takes {wanted} values, not {len(given)}")
        return made(given)


def _compare(sign: str) -> Callable[[list[str]], str]:
    return lambda given: f"({given[0]} {sign} {given[1]})"


def _equal(given: list[str]) -> str:
    return f"({given[0]} == {given[1]})" if len(given) == 2 else f"({given[0]} in ({', '.join(given[1:])}))"


def _slice(given: list[str]) -> str:
    return (
        f"({given[0]})[{':'.join(given[1:]) if len(given) > 2 else ':'.join([*given[1:], ''])}]"
        if given[1:]
        else given[0]
    )


_FUNCTIONS: dict[str, tuple[int, int, Callable[[list[str]], str]]] = {
    "and": (1, 999, lambda given: f"({' and '.join(given)})"),
    "or": (1, 999, lambda given: f"({' or '.join(given)})"),
    "not": (1, 1, lambda given: f"(not {given[0]})"),
    "len": (1, 1, lambda given: f"({given[0]} | length)"),
    "index": (1, 999, lambda given: f"({given[0]}){''.join(f'[{place}]' for place in given[1:])}"),
    "slice": (1, 3, _slice),
    "eq": (2, 999, _equal),
    **{name: (2, 2, _compare(sign)) for name, sign in _COMPARISONS.items() if name != "eq"},
    "json": (1, 1, lambda given: f"go_json({given[0]})"),
    "currentDate": (0, 0, lambda given: "strftime_now('%Y-%m-%d')"),
}
"""How many values each takes, and what it is in Jinja."""


def _printf(operands: Sequence[Operand], given: list[str], line: int) -> str:
    form = operands[0] if operands else None
    if not isinstance(form, Constant) or not isinstance(form.value, str):
        refuse(line, "printf needs its format as a quoted text")
    pieces, values, at = [], list(given[1:]), 0
    for found in _VERB.finditer(form.value):
        if "%" in form.value[at : found.start()]:
            break
        pieces.append(_quoted(form.value[at : found.start()]))
        at = found.end()
        if found["verb"] is None:
            pieces.append('"%"')
        elif not values:
            refuse(line, f"printf has no value for {found.group()!r}")
        else:
            pieces.append(_verb(found, values.pop(0), line))
    if "%" in form.value[at:]:
        refuse(line, f"printf cannot read its format from {form.value[at : at + 20]!r} on")
    if values:
        refuse(line, f"printf has {len(values)} values more than its format")
    return f"({' ~ '.join([*pieces, _quoted(form.value[at:])])})"


def _verb(found: re.Match[str], value: str, line: int) -> str:
    verb, layout = found["verb"], f"{found['flags']}{found['width']}{found['digits'] or ''}"
    if verb in "vst":
        text = f"go_text({value})"
        return f"({_quoted(f'%{layout}s')} | format({text}))" if layout and layout not in "+#" else text
    if verb == "q":
        return f"({value} | string | tojson)"
    if verb not in "dfegxXoc":
        refuse(line, f"printf does not know {found.group()!r}")
    return f"({_quoted(f'%{layout}{verb}')} | format({value}))"


def _check_field(name: str, line: int, of: Operand) -> None:
    """Refuse a field that no value of Ollama's has; keys of a model's own data begin with small letters."""
    if name[0].isupper() and name not in goprelude.FIELDS:
        refuse(line, f"{_said(of) if not isinstance(of, Dot) else ''}.{name[:40]} is nothing that a template is given")


def _said(operand: Operand) -> str:
    match operand:
        case Field(of, name):
            return f"{'' if isinstance(of, Dot) else _said(of)}.{name[:40]}"
        case Variable(name):
            return name[:40]
        case Dot():
            return "."
        case Constant(value):
            return repr(value)[:40]
    return "(...)"


def _constant(value: str | int | float | bool | None) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return repr(value) if value >= 0 else f"({value!r})"


_PLAIN = re.compile(r"[^\\\"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def _quoted(text: str) -> str:
    """A literal of Jinja. Other letters stay as they are: how a model calls tools is told by marks in its template."""
    pieces, at = [], 0
    for found in _PLAIN.finditer(text):
        pieces += [_escaped(text[at : found.start()]), found.group()]
        at = found.end()
    return f'"{"".join(pieces)}{_escaped(text[at:])}"'


def _escaped(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii").replace('"', '\\"')
