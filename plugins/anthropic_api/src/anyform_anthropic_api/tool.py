"""Reads what the model may call, and whether it must."""

from __future__ import annotations

import re

from anyform.contract.jobs import Tool
from anyform.dialect import Fields, NotSupported, wrong

NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
CHOICES = {"auto": "auto", "any": "required", "none": "none"}
DIRECT = "direct"


def tools(fields: Fields) -> tuple[Tool, ...]:
    """The functions that the model may call. Raises Invalid; Unsupported for those that a server would run."""
    read: dict[str, Tool] = {}
    for item in fields.items("tools") or ():
        tool = _tool(item)
        if tool.name in read:
            wrong(item.path("name"), f"there are two tools '{tool.name}'")
        read[tool.name] = tool
    return tuple(read.values())


def _tool(item: Fields) -> Tool:
    kind = item.text("type") or "custom"
    name = item.text("name") or ""
    if kind != "custom":
        raise NotSupported(
            f"The tool '{name or kind}' of type '{kind[:60]}' is not supported: this server runs no tools, and "
            "models here know none by heart.",
            "Describe it as a custom tool with an input_schema, and run it yourself.",
            param=item.path("type"),
        )
    if not NAME.fullmatch(item.need_text("name")):
        wrong(item.path("name"), f"'{name[:140]}'", "Expected 1 to 128 letters, digits, '_' and '-'.")
    callers = item.strings("allowed_callers")
    if callers is not None and DIRECT not in callers:
        param = item.path("allowed_callers")
        raise NotSupported(f"'{param}' leaves out '{DIRECT}': no code runs here.", "Leave it out.", param=param)
    schema = item.object("input_schema")
    if schema is None:
        item.missing("input_schema")
    if schema.get("type", "object") != "object":
        wrong(item.path("input_schema.type"), f"'{str(schema['type'])[:60]}'", "Supported values are: 'object'.")
    description, strict = item.text("description") or "", bool(item.flag("strict"))
    return Tool(name=name, description=description, parameters=schema, strict=strict)


def choice(fields: Fields, known: tuple[Tool, ...]) -> tuple[str, bool]:
    """none, auto, required, or the name of a tool; and whether there may be several calls at once."""
    given = fields.inner("tool_choice")
    if given is None:
        return "auto", True
    kind = given.choice("type", *CHOICES, "tool") or given.missing("type")
    parallel = not given.flag("disable_parallel_tool_use")
    if kind in ("any", "tool") and not known:
        wrong(given.path("type"), f"'{kind}' is only allowed when 'tools' are specified")
    if kind != "tool":
        return CHOICES[kind], parallel
    name = given.need_text("name")
    if name not in {tool.name for tool in known}:
        wrong(given.path("name"), f"there is no tool '{name[:140]}' in 'tools'")
    return name, parallel
