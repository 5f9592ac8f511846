"""Tool calls in texts that can only be read as a whole: JSON in its several shapes, marked parameters, Python."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from anyform.contract.jobs import Tool
from anyform.text.dialect import Style

Calls: TypeAlias = list[tuple[str, str]]
"""Names and arguments (JSON text)."""

ARGUMENT_KEYS = ("arguments", "parameters", "args")
NAME_KEYS = ("name", "tool_name", "function")


def calls_in(style: Style, body: str, tools: Mapping[str, Tool]) -> Calls | None:
    """The calls of *body*, written in *style*; None if it holds anything but calls of known tools."""
    return _READERS[style](body, tools) or None


def call_of(value: Any, tools: Mapping[str, Tool]) -> tuple[str, str] | None:
    """Name and arguments (JSON text) of a call in any of its JSON shapes; None if it calls no known tool."""
    if not isinstance(value, dict):
        return None
    inner = value.get("function")
    if isinstance(inner, dict):
        return call_of(inner, tools)
    name = next((value[key] for key in NAME_KEYS if isinstance(value.get(key), str)), None)
    if name not in tools:
        return None
    arguments = next((value[key] for key in ARGUMENT_KEYS if key in value), None)
    text = arguments_text(arguments)
    return None if name is None or text is None else (name, text)


def arguments_text(arguments: Any) -> str | None:
    """JSON text of an object, whether it comes as an object or as text; None if it is neither."""
    if arguments is None:
        return "{}"
    if isinstance(arguments, str):
        try:
            inner = json.loads(arguments)
        except (ValueError, RecursionError):
            return None
        return arguments if isinstance(inner, dict) else None
    return json.dumps(arguments, ensure_ascii=False) if isinstance(arguments, dict) else None


_FUNCTION = re.compile(r"<function=([^>\n]+)>(.*?)(?:</function>|\Z)", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^>\n]+)>\n?(.*?)\n?(?:</parameter>|(?=<parameter=)|\Z)", re.DOTALL)
_PAIR = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)
_INVOKE = re.compile(r"<invoke name=\"?([^\">\n]+)\"?>(.*?)(?:</invoke>|\Z)", re.DOTALL)
_INVOKED = re.compile(r"<parameter name=\"?([^\">\n]+)\"?>(.*?)</parameter>", re.DOTALL)


def _parameters(body: str, tools: Mapping[str, Tool]) -> Calls | None:
    return _marked(_FUNCTION.findall(body), _PARAMETER, tools)


def _invoke(body: str, tools: Mapping[str, Tool]) -> Calls | None:
    return _marked(_INVOKE.findall(body), _INVOKED, tools)


def _pairs(body: str, tools: Mapping[str, Tool]) -> Calls | None:
    name, _, rest = body.partition("<arg_key>")
    return _marked([(name, f"<arg_key>{rest}")], _PAIR, tools)


def _marked(found: Sequence[tuple[str, str]], form: re.Pattern[str], tools: Mapping[str, Tool]) -> Calls | None:
    calls: Calls = []
    for name, inside in found:
        tool = tools.get(name.strip())
        if tool is None:
            return None
        values = {key.strip(): _typed(text, _type_of(tool, key.strip())) for key, text in form.findall(inside)}
        calls.append((tool.name, json.dumps(values, ensure_ascii=False)))
    return calls


def _type_of(tool: Tool, key: str) -> Mapping[str, Any]:
    properties = tool.parameters.get("properties")
    found = properties.get(key) if isinstance(properties, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _typed(text: str, schema: Mapping[str, Any]) -> Any:
    """Text between markers as the schema's type: text stays text, all else is JSON where it is valid."""
    kinds = schema.get("type")
    if kinds == "string" or (isinstance(kinds, list) and "string" in kinds and text.strip() != "null"):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _python(body: str, tools: Mapping[str, Tool]) -> Calls | None:
    try:
        tree = ast.parse(body if body.startswith("[") else f"[{body}]", mode="eval").body
        nodes = tree.elts if isinstance(tree, ast.List) else [tree]
        return [_python_call(node, tools) for node in nodes]
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None


def _python_call(node: ast.expr, tools: Mapping[str, Tool]) -> tuple[str, str]:
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("not a call with keywords")
    name = ast.unparse(node.func)
    if name not in tools:
        raise ValueError(name)
    values = {str(keyword.arg): _python_value(keyword.value) for keyword in node.keywords if keyword.arg}
    return name, json.dumps(values, ensure_ascii=False)


def _python_value(node: ast.expr) -> Any:
    words = {"true": True, "false": False, "null": None}
    if isinstance(node, ast.Name) and node.id in words:
        return words[node.id]
    return ast.literal_eval(node)


def _mapping(body: str, tools: Mapping[str, Tool]) -> Calls | None:
    try:
        items = json.loads(body)
    except (ValueError, RecursionError):
        return None
    calls: Calls = []
    for item in items if isinstance(items, list) else [items]:
        for name, arguments in item.items() if isinstance(item, dict) else [("", None)]:
            text = arguments_text(arguments)
            if name not in tools or text is None:
                return None
            calls.append((name, text))
    return calls


_BRACED = re.compile(r"call:([^{\s]+)\s*(\{.*\})", re.DOTALL)
_BARE_KEY = re.compile(r"([{,]\s*)([A-Za-z_][\w.-]*)(\s*:)")
_QUOTE = '<|"|>'


def _braces(body: str, tools: Mapping[str, Tool]) -> Calls | None:
    """Texts lie between marks of their own, and keys are bare: with both quoted it is JSON."""
    found = _BRACED.fullmatch(body)
    if found is None or found[1] not in tools:
        return None
    parts = found[2].split(_QUOTE)
    parts[::2] = [_BARE_KEY.sub(r'\1"\2"\3', part) for part in parts[::2]]
    parts[1::2] = [json.dumps(part, ensure_ascii=False) for part in parts[1::2]]
    try:
        text = arguments_text(json.loads("".join(parts)))
    except (ValueError, RecursionError):
        return None
    return None if text is None else [(found[1], text)]


_READERS: dict[str, Callable[[str, Mapping[str, Tool]], Calls | None]] = {
    "parameters": _parameters,
    "pairs": _pairs,
    "invoke": _invoke,
    "python": _python,
    "mapping": _mapping,
    "braces": _braces,
}
