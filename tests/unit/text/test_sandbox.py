"""Hostile templates: each is refused, soon and small."""

from __future__ import annotations

import time

import pytest
from jinja2.exceptions import SecurityError

from anyform.text.sandbox import LONGEST_WORD, SECONDS, OverLimit, RefusedByTemplate, Sandbox

DOUBLING = "{%% set n = namespace(v=%s) %%}{%% for i in range(60) %%}%s{%% endfor %%}{{ n.v | length }}"


def render(source: str) -> str:
    sandbox = Sandbox()
    return sandbox.render_bounded(sandbox.compile_bounded(source), {"messages": ["hi"]})


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% set step = 1 %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% set l = [] %}{% for a in range(9**5) %}{% for b in range(9**5) %}{{ l.append(1) }}{% endfor %}{% endfor %}",
    ],
)
def test_loops_and_recursion_end(source: str) -> None:
    began = time.thread_time()
    with pytest.raises(OverLimit):
        render(source)
    assert time.thread_time() - began < 2 * SECONDS


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 10 ** 9 }}",
        "{{ [1] * 10 ** 9 }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '%*d' % (999999999, 1) }}",
        "{{ '{:999999999}'.format(1) }}",
        "{{ '{:{}}'.format(1, 999999999) }}",
        "{{ '{0[a]:{0[b]}}'.format({'a': 1, 'b': 999999999}) }}",
        "{{ '%999999999d' | format(1) }}",
        "{{ 'a' | center(10 ** 9) }}",
        "{{ 'a'.ljust(10 ** 9) }}",
        "{{ (1).to_bytes(10 ** 9, 'big') }}",
        "{{ ('a' * 10 ** 6).replace('a', 'b' * 10 ** 6) }}",
        "{{ ('a' * 10 ** 6) | replace('a', 'b' * 10 ** 6) }}",
        "{{ ('a' * 10 ** 6).join(range(99999) | map('string')) }}",
        "{{ range(99999) | join('a' * 10 ** 6) }}",
        "{{ ('\\t' * 10 ** 6).expandtabs(9999) }}",
        "{{ 'aaaa'.translate({97: 'b' * 10 ** 6}) }}",
        "{{ ('a ' * 10 ** 6) | wordwrap(1, wrapstring='b' * 10 ** 4) }}",
        "{{ [1] | batch(10 ** 9, 'x') | list }}",
        "{{ [1] | tojson(indent=10 ** 9) }}",
        "{{ range(99999) | map('center', 9999) | join }}",
        "{{ ('{0}' * 9999).format('a' * 10 ** 6) }}",
        "{{ ('%(a)s' * 9999) % {'a': 'b' * 10 ** 6} }}",
        "{{ ('%(a)s' * 9999) | format(a='b' * 10 ** 6) }}",
        "{{ ('%s' * 99) | format(*[['a' * 10 ** 6]] * 99) }}",
        "{{ 'a'.encode() * 10 ** 9 }}",
        "{{ ('a' * 10 ** 6).encode().replace('a'.encode(), ('b' * 10 ** 6).encode()) }}",
        "{{ 1 | round(-10 ** 9) }}",
        "{{ 1.5 | round(10 ** 9, 'ceil') }}",
        "{{ ('f' * 10 ** 6) | int(base=16) % 7 }}",
        "{{ (1).from_bytes(('a' * 10 ** 6).encode(), 'big') % 7 }}",
        "{{ 0x" + "f" * 3000 + " % 7 }}",
        "{{ 7 // 0x" + "f" * 3000 + " }}",
        "{{ 7 is divisibleby(0x" + "f" * 3000 + ") }}",
        "{{ ([[1] * 99999] * 99) | sum(start=[]) }}",
        "{{ ([{'a': [1] * 99999}] * 99) | sum('a', []) }}",
        "{{ ('a' * 10 ** 6).rfind('ab' ~ 'a' * 10 ** 5) }}",
        "{{ [['a' * 10 ** 6] * 99] }}",
        "{{ [['a' * 10 ** 6] * 99] ~ '' }}",
        "{{ [['a' * 10 ** 6] * 99] | tojson }}",
        "{{ {'a': ['a' * 10 ** 6] * 99}.values() | upper }}",
        "{{ raise_exception([['a' * 10 ** 6] * 99]) }}",
        "{{ [['a' * 10 ** 6] * 99] | map('string') | first }}",
        DOUBLING % ("3", "{% set n.v = n.v + n.v %}{% set n.v = n.v * n.v %}"),
        "{% set n = namespace(v=1) %}{% for i in range(4200) %}{% set n.v = n.v + n.v %}{% endfor %}",
        "{% set n = namespace(v=1) %}{% for i in range(4200) %}{% set n.v = n.v - -n.v %}{% endfor %}",
        DOUBLING % ("[1]", "{% set n.v = [n.v, n.v] %}") + "{{ n }}",
        DOUBLING % ("[1]", "{% set n.v = {1: n.v, 2: n.v} %}") + "{{ n.v | tojson }}",
        "{% set a = namespace(v=[1]) %}{% set b = namespace(v=[1]) %}{% for i in range(60) %}"
        "{% set a.v = [a.v, a.v] %}{% set b.v = [b.v, b.v] %}{% endfor %}{{ a.v == b.v }}",
        DOUBLING % ("'aaaa'", "{% set n.v = n.v ~ n.v %}"),
        DOUBLING % ("'aaaa'", "{% set n.v = n.v + n.v %}"),
        DOUBLING % ("[1]", "{% set n.v = n.v + n.v %}"),
        DOUBLING % ("'aaaa'", "{% set x %}{{ n.v }}{{ n.v }}{% endset %}{% set n.v = x %}"),
        "{% set n = namespace(v=3) %}{% for i in range(60) %}{% set n.v = n.v * n.v %}{% endfor %}{{ n.v }}",
        "{% set n = namespace(v=3) %}{% for i in range(60) %}{% set n.v = n.v ** n.v %}{% endfor %}{{ n.v }}",
        "{% for a in range(99999) %}" + "a" * 1000 + "{% endfor %}",
        "{% set x %}{% for a in range(99999) %}" + "a" * 1000 + "{% endfor %}{% endset %}{{ x | length }}",
        "{% for a in range(99999) %}{{ '" + "a" * 1000 + "' }}{% endfor %}",
        "{% for a in range(99999) %}{% if a %}{{ '" + "a" * 1000 + "' ~ 'b' }}{% endif %}{% endfor %}",
        "{% macro m() %}"
        + "a" * 1000
        + "{% endmacro %}{% set x %}{% for a in range(99999) %}{{ m() }}{% endfor %}{% endset %}",
    ],
)
def test_growth_is_refused(source: str) -> None:
    with pytest.raises(OverLimit):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ raise_exception.__globals__.keys() }}",
        "{{ strftime_now.__code__.co_consts }}",
        "{{ messages.clear() }}",
        "{{ {}.update({1: 2}) }}",
        "{{ '{0.__class__.__mro__}'.format(1) }}",
    ],
)
def test_nothing_outside_is_reached(source: str) -> None:
    with pytest.raises(SecurityError):
        render(source)


def test_what_chat_templates_use_works() -> None:
    assert render("{% for a in [1, 2, 3] %}{% if a == 2 %}{% continue %}{% endif %}{{ a }}{% endfor %}") == "13"
    assert render("{% generation %}{{ 'a' ~ 1 ~ 'b' }}{% endgeneration %}") == "a1b"
    assert render("{{ {'b': 'é<', 'a': 1} | tojson }}") == '{"b": "é<", "a": 1}'
    assert render("{{ [1] | tojson(indent=4) }}") == "[\n    1\n]"
    assert render("{{ ['a', 'b'] | join(', ') }} {{ 'x-y'.split('-') | join }} {{ 'a{}'.format(1) }}") == "a, b xy a1"
    assert (
        render("{{ '%05.1f' | format(2) }} {{ 'ab'.replace('a', 'b') }} {{ ' x ' | trim | indent(2) }}") == "002.0 bb x"
    )
    assert render("{% set l = [1] %}{% set _ = l.append(2) %}{{ l.pop() + l | length }}") == "3"
    assert render("{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f(1) }}{{ f('a') }}") == "<1><a>"
    assert render("  {% if true %}\n  x\n  {% endif %}\n") == "  x\n"
    assert (
        render("{{ '0x1f' | int(base=16) }} {{ 2.45 | round(1) }} {{ [[1], [2]] | sum(start=[]) }}") == "31 2.5 [1, 2]"
    )
    assert render("{{ [{'a': 1}, {'a': 2}] | sum('a') }} {{ 9 is divisibleby 3 }} {{ 7 // 2 - 1 }}") == "3 True 2"
    assert (
        render("{{ 'a b c'.rsplit(' ', 1) }} {{ '{} {b}'.format(1, b=2) }} {{ [1] == [1] }}") == "['a b', 'c'] 1 2 True"
    )
    assert render("{{ '%s-%s' % (1, 'x') }} {{ '%(a)s' % {'a': 1} }} {{ 1 < 2 < 3 }} {{ 'h' in messages[0] }}") == (
        "1-x 1 True True"
    )


def test_a_long_refusal_is_cut() -> None:
    with pytest.raises(RefusedByTemplate) as caught:
        render("{{ raise_exception('a' * 10 ** 6) }}")
    assert len(str(caught.value)) == LONGEST_WORD


def test_a_large_conversation_is_no_attack() -> None:
    sandbox = Sandbox()
    loop = sandbox.compile_bounded("{% for m in messages %}{{ '<' + m + '>' }}{% endfor %}")
    assert len(sandbox.render_bounded(loop, {"messages": ["x" * 200] * 20_000})) == 202 * 20_000
