"""A Go text/template as a tree: what its actions mean, before anything is known of the values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

from anyform_ollama_api.golexer import Action, Word, number, refuse, split, unquoted

DEEPEST = 40
"""Blocks or parentheses within each other."""
LARGEST = 256 * 1024
"""Characters of a template."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A text, number or truth; None is nil."""

    value: str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Name:
    """A function."""

    name: str
    line: int


@dataclass(frozen=True, slots=True)
class Variable:
    """`$` or `$name`."""

    name: str
    line: int


@dataclass(frozen=True, slots=True)
class Dot:
    """The value at hand."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of another value."""

    of: Operand
    name: str
    line: int


@dataclass(frozen=True, slots=True)
class Pipe:
    """Commands, each given what the one before it made; *names*: the variables that get the result."""

    commands: tuple[tuple[Operand, ...], ...]
    line: int
    names: tuple[str, ...] = ()
    declares: bool = False


Operand = Constant | Name | Variable | Dot | Field | Pipe


@dataclass(slots=True)
class Write:
    """Text, or the value of a pipe."""

    said: str | Pipe


@dataclass(slots=True)
class Branch:
    """if, with or range."""

    kind: str
    pipe: Pipe
    body: list[Node]
    otherwise: list[Node]


@dataclass(slots=True)
class Jump:
    """break or continue."""

    kind: str


@dataclass(slots=True)
class Include:
    """Another template, given a value."""

    name: str
    pipe: Pipe | None
    line: int


Node = Write | Branch | Jump | Include


@dataclass(slots=True)
class Tree:
    """A template and the ones that it defines."""

    root: list[Node] = field(default_factory=list)
    defined: dict[str, list[Node]] = field(default_factory=dict)

    def fields(self) -> set[str]:
        """The names of all fields that are read anywhere."""
        bodies = [self.root, *self.defined.values()]
        return {name for body in bodies for node in body for name in _fields(node)}


def parse(source: str) -> Tree:
    """The tree of *source*. Raises Invalid, with the line."""
    if len(source) > LARGEST:
        refuse(1, f"it has {len(source)} characters; {LARGEST} are read")
    return _Parser(source).tree()


class _Parser:
    """Reads actions one after the other; each block by its own call."""

    def __init__(self, source: str) -> None:
        self._pieces = split(source)
        self._tree = Tree()
        self._depth = 0
        self._loops = 0

    def tree(self) -> Tree:
        self._tree.root, ended = self._list()
        if ended is not None:
            refuse(ended.line, f"unexpected {{{{{ended.text}}}}}")
        return self._tree

    def _list(self) -> tuple[list[Node], Word | None]:
        """Nodes up to `end` or `else` of this list, and that word with what follows it in `self._rest`."""
        nodes: list[Node] = []
        for piece in self._pieces:
            if isinstance(piece, str):
                nodes.append(Write(piece))
                continue
            if not piece.words:
                continue
            first = piece.words[0]
            if first.kind == "keyword" and first.text in ("end", "else"):
                self._rest = _Words(piece, 1)
                if first.text == "end":
                    self._rest.done()
                return nodes, first
            node = self._node(piece)
            if node is not None:
                nodes.append(node)
        return nodes, None

    def _node(self, action: Action) -> Node | None:
        first, words = action.words[0], _Words(action, 1)
        if first.kind != "keyword" or first.text == "nil":
            pipe = _Words(action, 0).pipe()
            return Write(pipe)
        if first.text in ("if", "with", "range"):
            return self._branch(first, words)
        if first.text in ("break", "continue"):
            words.done()
            if not self._loops:
                refuse(first.line, f"{{{{{first.text}}}}} outside of {{{{range}}}}")
            return Jump(first.text)
        if first.text == "template":
            name = words.quoted("template")
            return Include(name, words.pipe() if words.more else None, first.line)
        return self._definition(first, words)

    def _definition(self, first: Word, words: _Words) -> Node | None:
        name = words.quoted(first.text)
        pipe = words.pipe() if first.text == "block" else None
        words.done()
        if first.text == "define" and self._depth:
            refuse(first.line, "unexpected {{define}} inside of another block")
        loops, self._loops = self._loops, 0
        body = self._block(first)
        self._loops = loops
        if name in self._tree.defined:
            refuse(first.line, f"template {name!r} is defined twice")
        self._tree.defined[name] = body
        return None if pipe is None else Include(name, pipe, first.line)

    def _block(self, first: Word) -> list[Node]:
        """A block without else, up to its end."""
        body, ended = self._nested(first)
        if ended.text != "end":
            refuse(ended.line, f"unexpected {{{{else}}}} in {{{{{first.text}}}}}")
        return body

    def _nested(self, first: Word) -> tuple[list[Node], Word]:
        if self._depth >= DEEPEST:
            refuse(first.line, f"blocks are nested deeper than {DEEPEST}")
        self._depth += 1
        body, ended = self._list()
        self._depth -= 1
        if ended is None:
            refuse(first.line, f"{{{{{first.text}}}}} has no {{{{end}}}}")
        return body, ended

    def _branch(self, first: Word, words: _Words) -> Branch:
        pipe = words.pipe(ranging=first.text == "range")
        self._loops += first.text == "range"
        body, ended = self._nested(first)
        self._loops -= first.text == "range"
        otherwise: list[Node] = []
        if ended.text == "else":
            otherwise = self._otherwise(first)
        return Branch(first.text, pipe, body, otherwise)

    def _otherwise(self, first: Word) -> list[Node]:
        """What follows `else`: a list up to `end`, or the same kind of branch again, which takes the end."""
        rest = self._rest
        if not rest.more:
            body, ended = self._nested(first)
            if ended.text != "end":
                refuse(ended.line, "a second {{else}}")
            return body
        again = rest.take()
        if again.text != first.text or first.text == "range":
            refuse(again.line, f"unexpected {again.text!r} behind else")
        if self._depth >= DEEPEST:
            refuse(first.line, f"blocks are nested deeper than {DEEPEST}")
        self._depth += 1
        branch = self._branch(again, rest)
        self._depth -= 1
        return [branch]


class _Words:
    """The words of one action, read from left to right."""

    def __init__(self, action: Action, at: int) -> None:
        self._words = action.words
        self._line = action.line
        self._at = at
        self._depth = 0

    @property
    def more(self) -> bool:
        return self._at < len(self._words)

    def take(self) -> Word:
        word = self._words[self._at]
        self._at += 1
        return word

    def done(self) -> None:
        if self.more:
            self._unexpected(self.take())

    def quoted(self, what: str) -> str:
        """A quoted name."""
        if not self.more:
            refuse(self._line, f"{{{{{what}}}}} has no name")
        word = self.take()
        if word.kind not in ("text", "raw"):
            refuse(word.line, f"the name of {{{{{what}}}}} must be quoted, not {word.text!r}")
        return unquoted(word)

    def pipe(self, *, ranging: bool = False) -> Pipe:
        """All words that are left, as one pipe."""
        names, declares = self._names(ranging)
        made = self._commands(names, declares)
        self.done()
        return made

    def _names(self, ranging: bool) -> tuple[tuple[str, ...], bool]:
        """`$x :=`, `$x =`, and in range `$i, $x :=`."""
        texts = [(word.kind, word.text) for word in self._words[self._at : self._at + 4]]
        kinds = [kind if kind in ("variable", "declare") else text for kind, text in texts]
        if kinds[:1] == ["variable"] and kinds[1:2] in (["declare"], ["="]):
            count = 1
        elif ranging and kinds[:3] == ["variable", ",", "variable"] and kinds[3:] in (["declare"], ["="]):
            count = 2
        else:
            return (), False
        names = tuple(self._words[self._at + 2 * number].text for number in range(count))
        self._at += 2 * count
        if "$" in names:
            refuse(self._line, "$ cannot be assigned to")
        return names, kinds[2 * count - 1] == "declare"

    def _commands(self, names: tuple[str, ...] = (), declares: bool = False) -> Pipe:
        commands = [self._command()]
        while self.more and self._words[self._at].text == "|":
            self.take()
            commands.append(self._command())
        return Pipe(tuple(commands), self._line, names, declares)

    def _command(self) -> tuple[Operand, ...]:
        operands: list[Operand] = []
        while self.more and (word := self._words[self._at]).text not in ("|", ")"):
            if operands and not word.apart:
                self._unexpected(word)
            operands.append(self._operand())
        if not operands:
            refuse(self._line, "missing value for command")
        return tuple(operands)

    def _operand(self) -> Operand:
        operand = self._term()
        while self.more and (word := self._words[self._at]).kind == "field" and not word.apart:
            if isinstance(operand, Constant | Name | Dot):
                self._unexpected(word)
            operand = Field(operand, self.take().text[1:], word.line)
        return operand

    def _term(self) -> Operand:
        word = self.take()
        match word.kind:
            case "field":
                return Field(Dot(), word.text[1:], word.line)
            case "dot":
                return Dot()
            case "variable":
                return Variable(word.text, word.line)
            case "text" | "raw":
                return Constant(unquoted(word))
            case "number" | "rune":
                return Constant(number(word))
            case "name":
                return Constant(word.text == "true") if word.text in ("true", "false") else Name(word.text, word.line)
        if word.text == "nil":
            return Constant(None)
        return self._parenthesis(word) if word.text == "(" else self._unexpected(word)

    def _parenthesis(self, opened: Word) -> Pipe:
        self._depth += 1
        if self._depth > DEEPEST:
            refuse(opened.line, f"parentheses are nested deeper than {DEEPEST}")
        inner = self._commands()
        self._depth -= 1
        if not self.more:
            refuse(opened.line, "a parenthesis is not closed")
        self.take()
        return inner

    def _unexpected(self, word: Word) -> NoReturn:
        refuse(word.line, f"unexpected {word.text[:40]!r} in an action")


def _fields(node: Node) -> Iterator[str]:
    if isinstance(node, Write) and isinstance(node.said, Pipe):
        yield from operand_fields(node.said)
    elif isinstance(node, Branch):
        yield from operand_fields(node.pipe)
        for inner in (*node.body, *node.otherwise):
            yield from _fields(inner)
    elif isinstance(node, Include) and node.pipe is not None:
        yield from operand_fields(node.pipe)


def operand_fields(operand: Operand) -> Iterator[str]:
    """The names of the fields in *operand*."""
    if isinstance(operand, Field):
        yield operand.name
        yield from operand_fields(operand.of)
    elif isinstance(operand, Pipe):
        for command in operand.commands:
            for inner in command:
                yield from operand_fields(inner)
