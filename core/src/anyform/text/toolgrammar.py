"""The grammar of a forced tool call, in the form that the model was taught."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from anyform.contract.errors import Invalid
from anyform.contract.jobs import Tool
from anyform.text.dialect import BARE, CallForm, Dialect


def tool_grammar(
    tools: Sequence[Tool],
    tool_choice: str,
    dialect: Dialect,
    *,
    parallel_calls: bool = True,
    special: Mapping[str, int] | None = None,
) -> str:
    """A Lark grammar (llguidance's): one call of the tool named by *tool_choice*, or one or more ("required").

    *special*: control tokens by name, so that markers are written with the tokens that the model knows.
    Raises `Invalid` for a name that is no tool's.
    """
    chosen = list(tools) if tool_choice == "required" else [tool for tool in tools if tool.name == tool_choice]
    if not chosen:
        names = ", ".join(tool.name for tool in tools) or "none"
        raise Invalid(f"tool_choice asks for {tool_choice!r}; the tools are: {names}.", "Name one of them.")
    form = next((form for form in dialect.calls if form.style in ("json", "list", "named")), BARE)
    if form is not dialect.calls[0]:
        form = BARE
    writer = _Writer(form, special or {})
    many = parallel_calls and tool_choice == "required" and bool(form.opener)
    return writer.grammar(chosen, many)


class _Writer:
    def __init__(self, form: CallForm, special: Mapping[str, int]) -> None:
        self._form = form
        self._special = {name: number for name, number in special.items() if name}

    def grammar(self, tools: Sequence[Tool], many: bool) -> str:
        calls = " | ".join(f"call_{number}" for number in range(len(tools)))
        rules = [self._start(many), f"call: {calls}"]
        for number, tool in enumerate(tools):
            rules.append(f"call_{number}: {self._call(tool, number)}")
            rules.append(f"arguments_{number}: %json {_compact(tool)}")
        return "\n".join(rules) + "\n"

    def _start(self, many: bool) -> str:
        form, text = self._form, self._text
        if form.style == "list":
            inside = f"call ({text(', ')} call)*" if many else "call"
            return f"start: {text(form.opener + '[')} {inside} {text(']' + form.closer)}"
        if form.style == "named":
            inside = "call+" if many else "call"
            return f"start: {text(form.section_open)} {inside} {text(form.section_close)}"
        one = f"{text(form.opener + form.padding)} call {text(form.padding + form.closer)}"
        return f"start: {one} ({text(form.padding)} {one})*" if many else f"start: {one}"

    def _call(self, tool: Tool, number: int) -> str:
        form = self._form
        if form.style == "named":
            head = form.opener + tool.name + form.name_end + form.args_open
            return f"{self._text(head)} arguments_{number} {self._text(form.closer)}"
        head = f'{{"{form.name_key}": {json.dumps(tool.name)}, "{form.arguments_key}": '
        return f"{self._text(head)} arguments_{number} {self._text('}')}"

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


def _compact(tool: Tool) -> str:
    schema = dict(tool.parameters) or {"type": "object", "properties": {}, "additionalProperties": False}
    try:
        return json.dumps({**schema, "x-guidance": {"whitespace_flexible": False}})
    except (TypeError, ValueError, RecursionError) as error:
        raise Invalid(f"The parameters of tool {tool.name!r} are not a JSON schema: {str(error)[:200]}.") from error
