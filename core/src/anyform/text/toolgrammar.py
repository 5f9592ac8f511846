"""The grammar of tool calls, forced or beside an answer by a schema, in the form that the model was taught."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from anyform.contract.errors import Invalid
from anyform.contract.jobs import Tool
from anyform.text.dialect import BARE, CallForm, Dialect
from anyform.text.endless import bounded

MOST_CALLS = 8
"""Calls that one constrained answer may make: a weak model would else repeat itself until its context is full."""

SEPARATED: Mapping[str, Any] = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
"""JSON as models write it, with a space after a colon or a comma or with none: made to leave it out, small ones lose
the thread. The names are llguidance's (https://github.com/guidance-ai/llguidance/blob/main/docs/json_schema.md)."""


def tool_grammar(
    tools: Sequence[Tool],
    tool_choice: str,
    dialect: Dialect,
    *,
    parallel_calls: bool = True,
    special: Mapping[str, int] | None = None,
) -> str:
    """A Lark grammar (llguidance's): one call of the tool named by *tool_choice*, or 1 to MOST_CALLS ("required").

    *special*: control tokens by name, so that markers are written with the tokens that the model knows.
    Raises `Invalid` for a name that is no tool's.
    """
    chosen = list(tools) if tool_choice == "required" else [tool for tool in tools if tool.name == tool_choice]
    if not chosen:
        names = ", ".join(tool.name for tool in tools) or "none"
        raise Invalid(f"tool_choice asks for {tool_choice!r}; the tools are: {names}.", "Name one of them.")
    form = _form(dialect)
    many = parallel_calls and tool_choice == "required" and bool(form.opener)
    return _Writer(form, special or {}).grammar(chosen, many)


def answer_or_calls_grammar(
    schema: Mapping[str, Any],
    tools: Sequence[Tool],
    dialect: Dialect,
    *,
    parallel_calls: bool = True,
    special: Mapping[str, int] | None = None,
) -> str:
    """A Lark grammar: JSON that is valid against *schema* ({}: any object), or 1 to MOST_CALLS calls of *tools*.

    After the opener of a form that no grammar here can say, anything goes. Raises `Invalid` for what is no JSON schema.
    """
    form = _form(dialect)
    answer = _compact(dict(schema) or {"type": "object"}, "The schema of the answer is")
    if form is BARE and dialect.calls and dialect.calls[0] is not BARE:
        calls = _Writer(dialect.calls[0], special or {}).opened()
    else:
        calls = _Writer(form, special or {}).grammar(tools, parallel_calls and bool(form.opener), start="calls")
    return f"start: answer | calls\nanswer: %json {answer}\n{calls}"


def _form(dialect: Dialect) -> CallForm:
    """The form that the model was taught, if a grammar can say it; else bare JSON."""
    taught = dialect.calls[0] if dialect.calls else BARE
    return taught if taught.style in ("json", "list", "named") else BARE


class _Writer:
    def __init__(self, form: CallForm, special: Mapping[str, int]) -> None:
        self._form = form
        self._special = {name: number for name, number in special.items() if name}

    def grammar(self, tools: Sequence[Tool], many: bool, start: str = "start") -> str:
        calls = " | ".join(f"call_{number}" for number in range(len(tools)))
        rules = [f"{start}: {self._calls(many)}", f"call: {calls}"]
        for number, tool in enumerate(tools):
            rules.append(f"call_{number}: {self._call(tool, number)}")
            arguments = _compact(tool.parameters or _NO_ARGUMENTS, f"The parameters of tool {tool.name!r} are")
            rules.append(f"arguments_{number}: %json {arguments}")
        return "\n".join(rules) + "\n"

    def opened(self) -> str:
        """Rules for anything at all behind the opener of a call."""
        markers = " | ".join(f"<[{number}]>" for name, number in self._special.items() if name in self._form.markers)
        more = f"(({markers}) TEXT?)*" if markers else ""
        opener = self._text(self._form.section_open or self._form.opener)
        return f"calls: {opener} TEXT? {more}\nTEXT: /(?s:.+)/\n"

    def _calls(self, many: bool) -> str:
        form, text = self._form, self._text
        more = f"{{0,{MOST_CALLS - 1}}}"
        if form.style == "list":
            inside = f"call ({text(', ')} call){more}" if many else "call"
            return f"{text(form.opener + '[')} {inside} {text(']' + form.closer)}"
        if form.style == "named":
            inside = f"call call{more}" if many else "call"
            return f"{text(form.section_open)} {inside} {text(form.section_close)}"
        one = f"{text(form.opener + form.padding)} call {text(form.padding + form.closer)}"
        return f"{one} ({text(form.padding)} {one}){more}" if many else one

    def _call(self, tool: Tool, number: int) -> str:
        form = self._form
        if form.style == "named":
            head = form.opener + tool.name + form.name_end + form.args_open
            return f"{self._text(head)} arguments_{number} {self._text(form.closer)}"
        if not form.opener:
            return self._bare_call(tool, number)
        head = f'{{"{form.name_key}": {json.dumps(tool.name)}, "{form.arguments_key}": '
        return f"{self._text(head)} arguments_{number} {self._text('}')}"

    def _bare_call(self, tool: Tool, number: int) -> str:
        """A call as the very tokens of JSON: where an answer in JSON may come instead, both must lex alike."""
        pieces = ("{", f'"{self._form.name_key}"', ":", " ", json.dumps(tool.name), ",", " ")
        named = " ".join(json.dumps(piece) + ("?" if piece == " " else "") for piece in pieces)
        key = json.dumps(f'"{self._form.arguments_key}"')
        return f'{named} {key} ":" " "? arguments_{number} "}}"'

    def _text(self, text: str) -> str:
        """*text* as literals and control tokens; nothing for no text."""
        names = sorted(self._special, key=len, reverse=True)
        pattern = "|".join(map(re.escape, names))
        pieces = re.split(f"({pattern})", text) if pattern else [text]
        return " ".join(
            f"<[{self._special[piece]}]>" if piece in self._special else json.dumps(piece, ensure_ascii=False)
            for piece in pieces
            if piece
        )


_NO_ARGUMENTS: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}


def _compact(schema: Mapping[str, Any], what: str) -> str:
    """*schema* for `%json`, with SEPARATED's white space alone; *what*: how a message begins, with its verb."""
    try:
        return json.dumps({**bounded(schema), "x-guidance": SEPARATED})
    except (TypeError, ValueError, RecursionError) as error:
        raise Invalid(f"{what} not a JSON schema: {str(error)[:200]}.") from error
