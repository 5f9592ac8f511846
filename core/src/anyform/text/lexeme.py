"""Which parts of a GBNF grammar may be one lexeme of Lark, and the grammar in Lark.

GBNF knows characters only. llguidance is faster by far over lexemes, but takes the longest one without looking back:
a part whose text may be followed by more of itself must stay in pieces, or answers that the grammar allows are lost.
A part is one lexeme if it is regular (calls no rule recursively) and no character that may follow it may also extend
it. Different lexemes that may begin at one place are not compared; the longest wins there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from anyform.contract.errors import Invalid
from anyform.text.gbnf import Alt, Chars, Literal, Node, Ranges, Ref, Repeat, Seq, Token, normalized, read_gbnf

_POSITIONS = 120
_PAIRS = 200_000
"""A part that is larger, or takes longer to look at, is taken apart."""
_VISITS = 1_000_000
_ANY: Ranges = ((0, 0x10FFFF),)


def gbnf_to_lark(source: str) -> str:
    """The Lark form of a GBNF grammar, for llguidance. Raises `Invalid` where it is no GBNF, or too large."""
    try:
        return _Writer(read_gbnf(source)).lark()
    except RecursionError as error:
        raise _too_large() from error


def _too_large() -> Invalid:
    return Invalid("The grammar is too large: its rules lead through one another too often.", "Send a smaller one.")


@dataclass(slots=True)
class _Automaton:
    """A regular part by the positions of its characters (Glushkov 1961)."""

    sets: list[Ranges] = field(default_factory=list)
    follow: list[set[int]] = field(default_factory=list)

    def build(self, node: Node) -> tuple[bool, set[int], set[int]]:
        """Whether *node* may be empty, the positions that it may begin with, and those that it may end with."""
        if isinstance(node, Chars):
            return self._position(node.ranges)
        if isinstance(node, Literal):
            return self._chain([self._position(((ord(c), ord(c)),)) for c in node.text])
        if isinstance(node, Seq):
            return self._chain([self.build(item) for item in node.items])
        if isinstance(node, Alt):
            parts = [self.build(item) for item in node.items]
            empty = any(part[0] for part in parts)
            return empty, set().union(*(part[1] for part in parts)), set().union(*(part[2] for part in parts))
        assert isinstance(node, Repeat)
        empty, first, last = self.build(node.item)
        if node.most != 1:
            self._join(last, first)
        return empty or node.least == 0, first, last

    def _position(self, ranges: Ranges) -> tuple[bool, set[int], set[int]]:
        self.sets.append(ranges)
        self.follow.append(set())
        return False, {len(self.sets) - 1}, {len(self.sets) - 1}

    def _chain(self, parts: list[tuple[bool, set[int], set[int]]]) -> tuple[bool, set[int], set[int]]:
        empty, first, last = True, set[int](), set[int]()
        for part_empty, part_first, part_last in parts:
            self._join(last, part_first)
            first = first | part_first if empty else first
            last = last | part_last if part_empty else part_last
            empty = empty and part_empty
        return empty, first, last

    def _join(self, before: Iterable[int], after: set[int]) -> None:
        for place in before:
            self.follow[place] |= after


def _extensions(node: Node) -> Ranges:
    """The characters by which some text of *node* goes on to a longer one, or to the beginning of one."""
    automaton = _Automaton()
    _, first, last = automaton.build(node)
    sets, follow = automaton.sets, automaton.follow
    found: list[tuple[int, int]] = []
    pairs = [(a, b) for a in first for b in first if _meet(sets[a], sets[b])]
    seen = set(pairs)
    looked = 0
    while pairs:
        ended, other = pairs.pop()
        looked += len(follow[ended]) * len(follow[other])
        if looked > _PAIRS:
            return _ANY
        if ended in last:
            found.extend(run for place in follow[other] for run in sets[place])
        for pair in ((a, b) for a in follow[ended] for b in follow[other]):
            if pair not in seen and _meet(sets[pair[0]], sets[pair[1]]):
                seen.add(pair)
                pairs.append(pair)
    return normalized(found)


def _meet(left: Ranges, right: Ranges) -> bool:
    return any(a <= d and c <= b for a, b in left for c, d in right)


class _Writer:
    def __init__(self, rules: dict[str, Node]) -> None:
        self._rules = rules
        self._names = {name: "start" if name == "root" else f"r{number}" for number, name in enumerate(rules)}
        self._sizes: dict[str, int | None] = {}
        self._first: dict[str, Ranges] = dict.fromkeys(rules, ())
        self._empty: dict[str, bool] = dict.fromkeys(rules, False)
        self._after: dict[str, Ranges] = dict.fromkeys(rules, ())
        self._terminals: dict[str, str] = {}
        self._safe: dict[tuple[Node, Ranges], bool] = {}
        self._visits = 0
        self._compute_first()
        self._compute_after()

    def lark(self) -> str:
        lines = [f"{self._names[name]}: {self._text(node, self._after[name])}" for name, node in self._rules.items()]
        lines += [f"{name}: /{regex}/" for regex, name in self._terminals.items()]
        return "\n".join(lines) + "\n"

    def _compute_first(self) -> None:
        changed = True
        order = list(self._rules.items())
        while changed:
            changed = False
            order.reverse()  # rules may be given in either order
            for name, node in order:
                known = (self._first[name], self._empty[name])
                self._first[name], self._empty[name] = self._begin(node)
                changed = changed or known != (self._first[name], self._empty[name])

    def _begin(self, node: Node) -> tuple[Ranges, bool]:
        """The characters that *node* may begin with, and whether it may be empty."""
        self._visits += 1
        if self._visits > _VISITS:
            raise _too_large()
        if isinstance(node, Chars):
            return node.ranges, False
        if isinstance(node, Literal):
            return _set_of(node.text[:1]), not node.text
        if isinstance(node, Token):
            return (), False
        if isinstance(node, Ref):
            return self._first[node.name], self._empty[node.name]
        if isinstance(node, Repeat):
            first, empty = self._begin(node.item)
            return first, empty or node.least == 0
        if isinstance(node, Alt):
            parts = [self._begin(item) for item in node.items]
            return _union(*(first for first, _ in parts)), any(empty for _, empty in parts)
        return self._begin_of(node.items)

    def _begin_of(self, items: tuple[Node, ...]) -> tuple[Ranges, bool]:
        found: Ranges = ()
        for item in items:
            first, empty = self._begin(item)
            found = _union(found, first)
            if not empty:
                return found, False
        return found, True

    def _compute_after(self) -> None:
        known: dict[str, Ranges] = {}
        order = list(self._rules.items())
        while known != self._after:
            known = dict(self._after)
            order.reverse()
            for name, node in order:
                self._spread(node, self._after[name])

    def _spread(self, node: Node, after: Ranges) -> None:
        """Tell the rules in *node* what may follow them there."""
        if isinstance(node, Ref):
            self._after[node.name] = _union(self._after[node.name], after)
        for item, behind in self._inside(node, after):
            self._spread(item, behind)

    def _inside(self, node: Node, after: Ranges) -> list[tuple[Node, Ranges]]:
        """The parts of *node*, each with the characters that may follow it."""
        if isinstance(node, Repeat):
            again = self._begin(node.item)[0] if node.most != 1 else ()
            return [(node.item, _union(after, again))]
        if isinstance(node, Alt):
            return [(item, after) for item in node.items]
        if not isinstance(node, Seq):
            return []
        found: list[tuple[Node, Ranges]] = []
        for place, item in enumerate(node.items):
            first, empty = self._begin_of(node.items[place + 1 :])
            found.append((item, _union(first, after) if empty else first))
        return found

    def _size(self, node: Node) -> int | None:
        """How many characters a regular part is written with; None: not regular."""
        if isinstance(node, Ref):
            if node.name not in self._sizes:
                self._sizes[node.name] = None  # while it is being looked at: a rule in itself is not regular
                self._sizes[node.name] = self._size(self._rules[node.name])
            return self._sizes[node.name]
        if isinstance(node, Token):
            return None
        if isinstance(node, Literal):
            return len(node.text)
        if isinstance(node, Chars):
            return 1
        total = 0
        for item in (node.item,) if isinstance(node, Repeat) else node.items:
            size = self._size(item)
            if size is None:
                return None
            total += size
        return total

    def _is_lexeme(self, node: Node, after: Ranges) -> bool:
        if isinstance(node, Literal | Chars):
            return True
        size = self._size(node)
        if size is None or not 0 < size <= _POSITIONS:
            return False
        key = (node, after)
        if key not in self._safe:
            self._safe[key] = not _meet(_extensions(self._expanded(node)), after)
        return self._safe[key]

    def _expanded(self, node: Node) -> Node:
        """A regular part without references."""
        if isinstance(node, Ref):
            return self._expanded(self._rules[node.name])
        if isinstance(node, Repeat):
            return Repeat(self._expanded(node.item), node.least, node.most)
        if isinstance(node, Seq | Alt):
            return type(node)(tuple(map(self._expanded, node.items)))
        return node

    def _text(self, node: Node, after: Ranges) -> str:
        """*node* in Lark, in as few lexemes as may be."""
        if isinstance(node, Token):
            return node.text
        if isinstance(node, Literal):
            return json.dumps(node.text, ensure_ascii=False)
        if self._is_lexeme(node, after):
            return self._terminal(self._expanded(node))
        if isinstance(node, Ref):
            return self._names[node.name]
        parts = [self._text(item, behind) for item, behind in self._inside(node, after)]
        if isinstance(node, Seq):
            return " ".join(parts) or '""'
        if isinstance(node, Alt):
            return f"({' | '.join(parts)})"
        assert isinstance(node, Repeat)
        return f"({parts[0]}){_times(node)}"

    def _terminal(self, node: Node) -> str:
        """A terminal's name; one that may be empty is optional instead, since a lexeme is never empty."""
        name = self._terminals.setdefault(_regex(node), f"T{len(self._terminals)}")
        return f"{name}?" if self._begin(node)[1] else name


def _regex(node: Node) -> str:
    if isinstance(node, Chars):
        runs = [_escaped(a) if a == b else f"{_escaped(a)}-{_escaped(b)}" for a, b in node.ranges]
        return f"[{''.join(runs)}]"
    if isinstance(node, Literal):
        return "".join(_escaped(ord(character)) for character in node.text)
    if isinstance(node, Seq):
        return "".join(map(_regex, node.items))
    if isinstance(node, Alt):
        return f"({'|'.join(map(_regex, node.items))})"
    assert isinstance(node, Repeat)
    return f"({_regex(node.item)}){_times(node)}"


def _escaped(code: int) -> str:
    return chr(code) if chr(code).isascii() and chr(code).isalnum() else f"\\x{{{code:x}}}"


def _times(node: Repeat) -> str:
    if node.most is None:
        return {0: "*", 1: "+"}.get(node.least, f"{{{node.least},}}")
    return f"{{{node.least},{node.most}}}"


def _set_of(text: str) -> Ranges:
    return tuple((ord(character), ord(character)) for character in text)


def _union(*sets: Ranges) -> Ranges:
    return normalized([run for ranges in sets for run in ranges])
