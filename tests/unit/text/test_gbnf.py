"""GBNF over llguidance, against a plain recognizer of the same grammar."""

from __future__ import annotations

import time
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyform.contract.errors import Invalid
from anyform.text.constraint import Constraint
from anyform.text.gbnf import Alt, Chars, Literal, Node, Ref, Repeat, Seq, normalized, read_gbnf
from anyform.text.lexeme import gbnf_to_lark

from .tokens import BYTES, TOKENS, accepts, sample, vocabulary

BYTEWISE = vocabulary(BYTES)
VOCABULARY = vocabulary(TOKENS)


def ends(rules: dict[str, Node], node: Node, text: str, start: int) -> set[int]:
    """Where *node* may end if it begins at *start*; for grammars without left recursion."""
    if isinstance(node, Chars):
        found = start < len(text) and any(low <= ord(text[start]) <= high for low, high in node.ranges)
        return {start + 1} if found else set()
    if isinstance(node, Literal):
        return {start + len(node.text)} if text.startswith(node.text, start) else set()
    if isinstance(node, Ref):
        return ends(rules, rules[node.name], text, start)
    if isinstance(node, Alt):
        return {end for item in node.items for end in ends(rules, item, text, start)}
    if isinstance(node, Seq):
        places = {start}
        for item in node.items:
            places = {end for place in places for end in ends(rules, item, text, place)}
        return places
    assert isinstance(node, Repeat)
    return repeated(rules, node, text, start)


def repeated(rules: dict[str, Node], node: Repeat, text: str, start: int) -> set[int]:
    found, places, times = set[int](), {start}, 0
    while places and times <= len(text) + node.least:
        if times >= node.least:
            found |= places
        if times == node.most:
            break
        places = {end for place in places for end in ends(rules, node.item, text, place)}
        times += 1
    return found


def matches(grammar: str, text: str) -> bool:
    rules = read_gbnf(grammar)
    return len(text) in ends(rules, rules["root"], text, 0)


def all_texts(alphabet: str, most: int) -> list[str]:
    return ["".join(letters) for length in range(most + 1) for letters in product(alphabet, repeat=length)]


EXACT = [
    'root ::= [a-z]* "b"',
    'root ::= "a"* "ab"',
    'root ::= x y\nx ::= "a" | "ab"\ny ::= "b" | "bb"',
    'root ::= ws "a" ws "b" ws\nws ::= [ ab]*',
    'root ::= (x ",")* x\nx ::= [a,]+',
    'root ::= a{2,3} b? a{0,1}\na ::= "a"\nb ::= "b"',
    'root ::= [^a] . | "\\n" "b"',
    'root ::= "a" |\n "b"',
    'root ::= "a"\n  | "b" # a comment\n\n',
    '# first\nroot ::= ("a"\n | "b" # c\n)+',
    'root ::= ""',
    'root ::= "a" ("" | "b")',
    'root ::= foo-bar fooBar foo_bar\nfoo-bar ::= "a"\nfooBar ::= "b"\nfoo_bar ::= "a"',
    'root ::= t "b"\nt ::= [ab]+',
    'root ::= "(" root ")" | [ab]*',
    'root ::= t "b"\nt ::= "(" t ")" | [ab]+',
    'root ::= x "b"?\nx ::= "a" x "b" | "ab" | ""',
    'root ::= item ("," item)*\nitem ::= [ab]+ | "(" root ")"',
    'root ::= ws x\nx ::= [ab] ws | "(" ws x ")" ws\nws ::= [ ,]*',
    'root ::= start\nstart ::= "a"',
    "root ::= [a-]+ | [-b]",
]


@pytest.mark.parametrize("grammar", EXACT)
def test_exactly_the_texts_of_the_grammar(grammar: str) -> None:
    for text in all_texts("ab,() \n-"[:7], 3) + all_texts("ab(", 5):
        assert accepts(Constraint.from_gbnf(BYTEWISE, grammar), text) == matches(grammar, text), text


LEAVES = st.sampled_from([Literal("a"), Literal("ab"), Literal("ba"), Literal(""), Chars(normalized([(97, 98)]))])
REGULAR = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(lambda items: Seq(tuple(items)))
        | st.lists(inner, min_size=2, max_size=3).map(lambda items: Alt(tuple(items)))
        | st.tuples(inner, st.sampled_from([(0, None), (1, None), (0, 1), (2, 3)])).map(lambda t: Repeat(t[0], *t[1]))
    ),
    max_leaves=6,
)


def written(node: Node) -> str:
    if isinstance(node, Literal):
        return f'"{node.text}"'
    if isinstance(node, Chars):
        return "[ab]"
    if isinstance(node, Seq):
        return "(" + " ".join(map(written, node.items)) + ")"
    if isinstance(node, Alt):
        return "(" + " | ".join(map(written, node.items)) + ")"
    assert isinstance(node, Repeat)
    most = "" if node.most is None else node.most
    return f"{written(node.item)}{{{node.least},{most}}}"


@settings(max_examples=40)
@given(REGULAR)
def test_regular_grammars_are_exact(node: Node) -> None:
    grammar = f"root ::= {written(node)}"
    for text in all_texts("ab", 4):
        assert accepts(Constraint.from_gbnf(BYTEWISE, grammar), text) == matches(grammar, text), (grammar, text)


@settings(max_examples=40)
@given(REGULAR, REGULAR)
def test_nothing_outside_the_grammar_is_allowed(one: Node, two: Node) -> None:
    grammar = f'root ::= {written(one)} x\nx ::= "(" x ")" | {written(two)}'
    for text in all_texts("ab(", 3):
        if accepts(Constraint.from_gbnf(BYTEWISE, grammar), text):
            assert matches(grammar, text), (grammar, text)


@pytest.mark.parametrize(
    ("grammar", "text"),
    [
        ('root ::= "\\u00e9\\x41\\U0001F600"', "éA😀"),
        ('root ::= "\\"\\\\\\n\\t\\r/"', '"\\\n\t\r/'),
        ("root ::= [\\u00e0-\\u00ff]+", "éü"),
        ("root ::= [/\\]\\-\\[^]+", "/]-[^"),
        ("root ::= [^\\x00-\\x1F]+", "fine 😀"),
        ("root ::= .+", "a\nb"),
    ],
)
def test_escapes(grammar: str, text: str) -> None:
    assert accepts(Constraint.from_gbnf(BYTEWISE, grammar), text)


JSON = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws

object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws

array  ::= "[" ws (value ("," ws value)*)? "]" ws
string ::= "\"" ([^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}))* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"""


def test_a_grammar_of_json() -> None:
    for seed in range(10):
        text = sample(Constraint.from_gbnf(VOCABULARY, JSON), seed)
        assert matches(JSON, text)
    assert "T0" in gbnf_to_lark(JSON)
    assert gbnf_to_lark(JSON).count('"\\""') == 0  # whole strings are lexemes, quotes included


def test_a_token_of_the_vocabulary() -> None:
    constraint = Constraint.from_gbnf(VOCABULARY, 'root ::= <[2]> "a" <tool_call>?')
    assert constraint.allowed().tolist() == [2]


@pytest.mark.parametrize(
    ("grammar", "words"),
    [
        ("", "no rule named root"),
        ('x ::= "a"', "no rule named root"),
        ("root ::= x", "'x'"),
        ('root = "a"', "line 1: expected ::="),
        ('root ::= "a', "does not end"),
        ("root ::= [a", "does not end"),
        ('root ::= "a"\nroot2 ::= ("b"', "line 2: expected )"),
        ("root ::= [\\^]", "unknown escape"),
        ('root ::= "\\u12"', "unknown escape"),
        ('root ::= "\\ud800"', "no character"),
        ("root ::= *", "something to repeat"),
        ('root ::= "a"{3,2}', "repetitions"),
        ('root ::= "a"{1,99999}', "repetitions"),
        ('root ::= "a"{,2}', "expected a number"),
        ("root ::= [b-a]", "range"),
        ("root ::= [^\\x00-\\U0010FFFF]", "without characters"),
        ('root ::= "a" )', "end of the rule"),
        ("root ::= " + "(" * 500 + '"a"' + ")" * 500, "nested"),
        ("root ::= !<[1]>", "tokens"),
        ("root ::= x\n" + "".join(f"x{i} ::= x{i + 1}\n" for i in range(5000)) + "x ::= x0\nx5000 ::= x0", "too large"),
    ],
)
def test_what_is_wrong_is_told(grammar: str, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        Constraint.from_gbnf(VOCABULARY, grammar)
    assert words in caught.value.message
    assert len(caught.value.message) < 700


@pytest.mark.parametrize(
    "grammar",
    [
        "root ::= (" + " | ".join(f'"{chr(97 + i % 26)}{i}"' for i in range(3000)) + ")*",
        "root ::= x0\n" + "".join(f"x{i} ::= x{i + 1} x{i + 1}\n" for i in range(60)) + 'x60 ::= "a"',
        "root ::= " + "(" * 90 + '"a"*' + ")*" * 90,
    ],
)
def test_large_grammars_end_soon(grammar: str) -> None:
    began = time.thread_time()
    gbnf_to_lark(grammar)
    assert time.thread_time() - began < 5
