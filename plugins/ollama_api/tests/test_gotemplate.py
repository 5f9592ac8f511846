"""Ollama's templates as Jinja: prompts as Ollama 0.9.3 made them of the same templates and conversations."""

from __future__ import annotations

import json
import random
import re
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyform.contract.errors import Invalid
from anyform.contract.jobs import Call, Message, Picture, Text, Tool
from anyform_ollama_api.gotemplate import LOOPS, jinja
from anyform_ollama_api.gotree import DEEPEST, LARGEST

FOLDER = Path(__file__).parent / "templates"
RECORDED = json.loads((FOLDER / "prompts.json").read_text(encoding="utf-8"))
PROMPTS = [
    pytest.param(name, case, id=f"{name}-{case['conversation']}-{case['think']}")
    for name, cases in RECORDED["prompts"].items()
    for case in cases
]


def source(name: str) -> str:
    return (FOLDER / f"{name}.gotmpl").read_text(encoding="utf-8")


@cache
def compiled(text: str) -> Any:
    chat = pytest.importorskip("anyform.text.template", exc_type=ImportError)
    return chat.ChatTemplate(jinja(text))


def conversation(name: str) -> tuple[list[Message], list[Tool]]:
    said = RECORDED["conversations"][name]
    messages, waiting, made = [], [], 0
    for one in said["messages"]:
        calls = []
        for call in one.get("tool_calls", ()):
            made += 1
            arguments = json.dumps(call["function"]["arguments"])
            calls.append(Call(id=f"call{made}", name=call["function"]["name"], arguments=arguments))
        waiting += [call.id for call in calls]
        messages.append(
            Message(
                role=one["role"],
                parts=(Text(text=one["content"]),) if one["content"] else (),
                calls=tuple(calls),
                call_id=waiting.pop(0) if one["role"] == "tool" else "",
                reasoning=one.get("thinking", ""),
            )
        )
    return messages, [Tool(**tool["function"]) for tool in said["tools"]]


def rendered(text: str, *messages: Message, tools: Any = (), **more: Any) -> str:
    return str(compiled(text).render(messages or [user("U")], tools, **more))


def user(text: str) -> Message:
    return Message(role="user", parts=(Text(text=text),))


def assistant(text: str, **more: Any) -> Message:
    return Message(role="assistant", parts=(Text(text=text),), **more)


def system(text: str) -> Message:
    return Message(role="system", parts=(Text(text=text),))


@pytest.mark.parametrize(("name", "case"), PROMPTS)
def test_prompts_are_ollamas(name: str, case: dict[str, Any]) -> None:
    messages, tools = conversation(case["conversation"])
    assert rendered(source(name), *messages, tools=tools, thinking=case["think"]) == case["prompt"]


def test_answers_of_tools_stay_apart() -> None:
    """Newer Ollamas do not merge them either; 0.9.3 does."""
    messages, tools = conversation("round2")
    prompt = rendered(source("mistral"), *messages, tools=tools)
    assert '[TOOL_RESULTS] {"content": sunny}[/TOOL_RESULTS][TOOL_RESULTS] {"content": rain}[/TOOL_RESULTS]' in prompt


@pytest.mark.parametrize("name", ["plain", "first"])
def test_a_system_message_is_said_though_the_template_has_no_place_for_it(name: str) -> None:
    """Ollama drops it."""
    assert "Be kind.\n\nHi" in rendered(source(name), system("Be kind."), user("Hi"))


@pytest.mark.parametrize(
    ("name", "features", "family"),
    [
        ("llama3", {"system", "tools"}, "generic"),
        ("mistral", {"system", "tools"}, "mistral"),
        ("qwen2.5", {"system", "tools"}, "hermes"),
        ("deepseek-r1", {"system", "thinking"}, "generic"),
        ("gemma", {"system"}, "generic"),
        ("plain", set(), "generic"),
    ],
)
def test_what_a_template_knows_is_found_out(name: str, features: set[str], family: str) -> None:
    assert compiled(source(name)).features == features
    assert compiled(source(name)).dialect.name == family


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("{{ range .Messages }}{{ .Content }}{{ end }}{# {{ `{%` }} %} {{ `}}` }}", "U{# {% %} }}"),
        ("{{ .Prompt }}{{ `a\"\\n` }}{{ \"\\x41\\u00e9\\t\\\"\" }}", 'Ua"\\nAé\t"'),
        ("{{ .Prompt }}\u2028\uff5c😀\x00\x7f\\", "U\u2028\uff5c😀\x00\x7f\\"),
        ("{{ 'é' }} {{ 0b11 }} {{ 1_000 }} {{ 017 }} {{ -3 }} {{- 3 }} {{ 2.0 }}", "233 3 1000 15 -33 2"),
        ("{{ $a := 1 }}{{ if true }}{{ $a = 2 }}{{ $a := 3 }}{{ $a }}{{ end }}{{ $a }}", "32"),
        ("{{ range $i, $m := .Messages }}{{ $i }}{{ $m.Role }}{{ else }}none{{ end }}", "0user"),
        ("{{ range .Messages }}{{ with .ToolCalls }}calls{{ else with .Role }}{{ . }}{{ $.System }}{{ end }}{{ end }}",
         "user"),
        ("{{ define `a` }}{{ if . }}{{ template `b` .Role }}{{ end }}{{ end }}{{ define `b` }}<{{ . }}>{{ end -}}"
         "{{ range .Messages }}{{ template `a` . }}{{ end }}", "<user>"),
        ("{{ range .Messages }}{{ if or (eq .Role `system` `user`) false }}{{ .Role | printf `%s %q %d%%` | len }}"
         "{{ end }}{{ end }}", None),
        ("{{ printf `%s|%5d|%-5s|%05.1f|%x|%v|%q|%t` .Prompt 7 `a` 2.5 255 nil `q` true }}",
         'U|    7|a    |002.5|ff|<no value>|"q"|true'),
        ("{{ and 1 0 2 }}{{ or 0 `` 3 }}{{ not 1 }}{{ ne 1 2 }}{{ lt 1 2 }}{{ ge 2 2 }}", "03falsetruetruetrue"),
        ("{{ index .Messages 0 | json }}{{ (index .Messages 0).Role }}{{ slice `hello` 1 3 }}{{ slice `abc` 1 }}",
         '{"role":"user","content":"U"}userelbc'),
        ("{{ range $k, $v := .Messages }}{{ if eq $k 0 }}{{ continue }}{{ end }}x{{ end }}{{ print `a` 1 2 `b` }}",
         "a1 2b"),
        ("{{ range 3 }}{{ . }}{{ if eq . 1 }}{{ break }}{{ end }}{{ end }}{{ .Prompt }}", "01U"),
        ("{{ if .Messages }}{{ len .Messages }}{{ end }}{{ .Suffix }}{{ .ThinkLevel }}{{ .IsThinkSet }}", "1false"),
        ("{{ json `<&>` }}{{ json .Tools }}{{ .Prompt }}", '"\\u003c\\u0026\\u003e"nullU'),
        ("{{/* nothing */ -}}   {{ .Prompt }} {{- /* nor this */}} !", "U !"),
        ("", ""),
    ],
)  # fmt: skip
def test_the_language(text: str, prompt: str | None) -> None:
    if prompt is None:
        with pytest.raises(Invalid, match="printf has no value for '%q'"):
            jinja(text)
        return
    assert rendered(text) == prompt


def test_thinking_and_today() -> None:
    text = (
        "{{ range .Messages }}{{ .Content }}{{ end }}{{ .Think }}{{ .IsThinkSet }}{{ .ThinkLevel }} {{ currentDate }}"
    )
    assert re.fullmatch(
        r"Utruetruehigh \d{4}-\d\d-\d\d", rendered(text, thinking=True, options={"reasoning_effort": "high"})
    )
    assert rendered(text, thinking=False).startswith("Ufalsetrue ")
    assert rendered(text).startswith("Ufalsefalse ")


def test_pictures_are_where_their_marker_is() -> None:
    seen = Message(role="user", parts=(Picture(data=b"x"), Text(text="What?")))
    text = "{{ range .Messages }}{{ if .Images }}[img]{{ end }}{{ .Content }}{{ end }}"
    assert rendered(text, seen, options={"media_marker": "<img>"}) == "<img>What?"
    with pytest.raises(Invalid, match="no place for pictures"):
        rendered(text, seen)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a\n{{ .Prompt", 2, "an action is not closed"),
        ("{{ .Prompt }}\n\n{{ if .System }}x", 3, "{{if}} has no {{end}}"),
        ("{{ end }}", 1, "unexpected {{end}}"),
        ("{{ else }}", 1, "unexpected {{else}}"),
        ("{{ if 1 }}{{ else }}{{ else }}{{ end }}", 1, "a second {{else}}"),
        ("{{ if 1 }}{{ else range .Messages }}{{ end }}", 1, "unexpected 'range' behind else"),
        ("{{ break }}", 1, "{{break}} outside of {{range}}"),
        ("\n{{ shout .Prompt }}", 2, "function 'shout' not defined"),
        ("{{ html .Prompt }}", 1, "the function 'html' is not supported"),
        ("{{ .Prompts }}", 1, ".Prompts is nothing that a template is given"),
        ("{{ range .Messages }}{{ .Text }}{{ end }}", 1, ".Text is nothing that a template is given"),
        ("{{ $x }}", 1, "undefined variable '$x'"),
        ("{{ if 1 }}{{ $x := 1 }}{{ end }}{{ $x }}", 1, "undefined variable '$x'"),
        ("{{ $x = 1 }}", 1, "undefined variable '$x'"),
        ("{{ template `a` }}", 1, "template 'a' is not defined"),
        ("{{ define `a` }}{{ end }}{{ define `a` }}{{ end }}", 1, "template 'a' is defined twice"),
        ("{{ if 1 }}{{ define `a` }}{{ end }}{{ end }}", 1, "unexpected {{define}} inside"),
        ("{{ template a }}", 1, "the name of {{template}} must be quoted"),
        ("{{ nil }}", 1, "nil is not a command"),
        ("{{ .Prompt 1 }}", 1, ".Prompt is no function"),
        ("{{ 1 | .Prompt }}", 1, ".Prompt is no function"),
        ("{{ eq 1 }}", 1, "eq takes at least 2 values, not 1"),
        ("{{ len }}", 1, "len takes 1 values, not 0"),
        ("{{ printf .Prompt }}", 1, "printf needs its format as a quoted text"),
        ("{{ printf `%s` }}", 1, "printf has no value for '%s'"),
        ("{{ printf `a` 1 }}", 1, "printf has 1 values more"),
        ("{{ printf `%y` 1 }}", 1, "printf does not know '%y'"),
        ("{{ printf `%` }}", 1, "printf cannot read its format"),
        ("{{ `a }}", 1, "a quoted text is not closed"),
        ('{{ "a\n" }}', 1, "a quoted text is not closed"),
        ('{{ "\\q" }}', 1, "unknown escape '\\\\q'"),
        ("{{ 'ab' }}", 1, "'ab' is not one character"),
        ("{{ 99999999999999999999999 }}", 1, "is too large a number"),
        ("{{ 1e999 }}", 1, "is no number"),
        ("{{ (1 }}", 1, "a parenthesis is not closed"),
        ("{{ 1) }}", 1, "unexpected ')'"),
        ("{{ 1 ; 2 }}", 1, "unexpected ';'"),
        ("{{ }}{{ | }}", 1, "missing value for command"),
        ("{{/* x }}", 1, "a comment does not end"),
        ("{{ ($x := 1) }}", 1, "unexpected ':='"),
        ("{{ range .Messages }}" * (LOOPS + 1) + "{{ end }}" * (LOOPS + 1), 1, "loops are nested deeper"),
        ("{{ if 1 }}" * (DEEPEST + 1) + "{{ end }}" * (DEEPEST + 1), 1, "blocks are nested deeper"),
        ("{{ if 1 }}" + "{{ else if 1 }}" * (DEEPEST + 1) + "{{ end }}", 1, f"deeper than {DEEPEST}"),
        ("{{ " + "(" * (DEEPEST + 1) + "1" + ")" * (DEEPEST + 1) + " }}", 1, "parentheses are nested deeper"),
        ("x" * (LARGEST + 1), 1, "it has"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_its_line(text: str, line: int, what: str) -> None:
    with pytest.raises(Invalid) as caught:
        jinja(text)
    assert caught.value.message.startswith(f"the template cannot be used: line {line}: ")
    assert what in caught.value.message
    assert caught.value.details == {"param": "template", "line": line}


@pytest.mark.parametrize(
    "text",
    [
        "{{ define `a` }}{{ template `a` . }}{{ end }}{{ template `a` . }}",
        "{{ range `text` }}{{ end }}",
        "{{ len 3 }}",
        "{{ lt `a` 1 }}",
        "{{ (index .Messages 0).Role.Content }}",
        "{{ range 99999 }}" + "x" * 1000 + "{{ end }}",
        "{{ range 999999999 }}{{ end }}",
    ],
)
def test_what_fails_while_it_is_rendered_is_a_fault(text: str) -> None:
    with pytest.raises(Invalid):
        rendered(text + "{{ .Prompt }}" if ".Messages" not in text else text)


def test_the_deepest_that_is_taken_can_be_compiled() -> None:
    loops = "{{ range $.Messages }}" * LOOPS + "x" + "{{ end }}" * LOOPS
    assert rendered(loops) == "x"
    blocks = "{{ if 1 }}" * (DEEPEST - LOOPS) + loops + "{{ end }}" * (DEEPEST - LOOPS)
    assert rendered(blocks) == "x"
    chain = "{{ if 0 }}" + "{{ else if 0 }}" * (DEEPEST - 2) + "{{ else }}x{{ end }}{{ .Messages | len }}"
    assert rendered(chain) == "x1"


PIECES = (
    *("{{", "}}", "{{-", "-}}", "if", "else", "end", "range", "with", "define", "template", "block", "break"),
    *("continue", ".Messages", ".Prompt", ".Response", ".Role", ".", "$", "$x", ":=", "=", "|", "(", ")", "eq"),
    *("and", "or", "not", "len", "index", "slice", "printf", "print", "json", "'a'", '"s"', "`r`", "1", "-2"),
    *("1.5", "true", "nil", "$i,$m", ",", "/*", "*/", "text", "\n", "<", '"', "'", "`"),
)
VALUES = (
    *(".", "$", "$.Messages", ".Messages", ".Prompt", ".Response", ".System", ".Role", ".ToolCalls", ".Tools", "$x"),
    *("1", "-2", "1.5", "true", '"s"', "`%d{{`", "(len .)", "(index . 0)", "(index $.Messages 1).Content", "(eq . 1)"),
    *("(printf `%5s` .)", "(slice `abc` 1)", "(json .)", "(and . 1)", "(or . `x`)", "(not .)", "(print . 1)"),
)
SEEDS = st.integers(0, 2**64)
"""Each makes many texts: drawing each of them by itself takes longer than reading it."""


def written(chance: random.Random, depth: int = 0) -> str:
    """A template that can be read, of blocks within each other."""
    value, pieces = chance.choice(VALUES), list[str]()
    for _ in range(chance.randint(1, 3)):
        kind = chance.choice(
            ["text", "value", "value", "set", *([] if depth > 3 else ["if", "with", "range", "range"])]
        )
        if kind in ("if", "with", "range"):
            end = chance.choice(["", "", "{{ else }}b", "{{ break }}" if kind == "range" else ""]) + "{{ end }}"
            pieces.append(f"{{{{ {kind} {value} }}}}{written(chance, depth + 1)}{end}")
        else:
            pieces.append({"text": "a\n", "value": f"{{{{- {value} }}}}", "set": f"{{{{ $x = {value} -}}}}"}[kind])
    return "".join(pieces)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_any_text_is_a_template_or_refused(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(30):
        text = " ".join(chance.choices(PIECES, k=chance.randint(0, 25)))
        other = "".join(chance.choices("{}-.$|()\"'`\\/*: xMP1\n", k=chance.randint(0, 30)))
        for one in (text, other, "{{ " + text + " }}"):
            with suppress(Invalid):
                jinja(one)


@settings(max_examples=12, deadline=None)
@given(SEEDS)
def test_any_template_is_rendered_or_refused(seed: int) -> None:
    chat = pytest.importorskip("anyform.text.template", exc_type=ImportError)
    template = chat.ChatTemplate(jinja("{{ $x := 0 }}" + written(random.Random(seed))))
    with suppress(Invalid):
        template.render([user("U"), assistant("A"), user("V")])


@settings(max_examples=5, deadline=None)
@given(st.text(min_size=150, max_size=300))
def test_text_is_said_as_it_is(text: str) -> None:
    pytest.importorskip("jinja2")
    from anyform.text.template import ChatTemplate

    plain = text.replace("{", "(")
    assert ChatTemplate(jinja(plain + "{{ .Prompt }}")).render([user("U")]) == plain + "U"
