"""What Ollama gives a template, made in Jinja of what a chat template is given; and how Go writes values.

A value of Ollama's is a mapping of its fields. Under the empty name, which no field has, is its JSON as Go writes it.
"""

from __future__ import annotations

ROOT = frozenset(
    {"First", "IsThinkSet", "Messages", "Prompt", "Response", "Suffix", "System", "Think", "ThinkLevel", "Tools"}
)
FIELDS = ROOT | {
    "Arguments", "Content", "Description", "Enum", "Function", "ID", "Images", "Index", "Items", "Name", "Parameters",
    "Properties", "Required", "Role", "Thinking", "ToolCallID", "ToolCalls", "ToolName", "Type",
}  # fmt: skip
"""All names of fields that a template may read."""

_TEXT = """\
{% macro go_text(value) %}
{%- if value is string %}{{ value }}
{%- elif value is undefined or value is none %}<no value>
{%- elif value is boolean %}{{ "true" if value else "false" }}
{%- elif value is mapping %}{{ go_json(value) }}
{%- elif value is float %}{{ value | int if value == value | int else value }}
{%- elif value is sequence and value and value[0] is mapping %}{{ go_json(value) }}
{%- elif value is sequence -%}
[{% for item in value %}{{ "" if loop.first else " " }}{{ "<nil>" if item is none else go_text(item) }}{% endfor %}]
{%- else %}{{ value }}
{%- endif %}
{%- endmacro %}"""

_JSON = """\
{% macro go_written(value) %}{{ go_escaped(value | tojson(separators=(",", ":"))) }}{% endmacro %}
{% macro go_escaped(json) -%}
{{ json | replace("&", "\\\\u0026") | replace("<", "\\\\u003c") | replace(">", "\\\\u003e") }}
{%- endmacro %}
{% macro go_json(value) %}
{%- if value is mapping and "" in value %}{{ value[""] }}
{%- elif value is sequence and value is not string and value and value[0] is mapping -%}
[{% for item in value %}{{ "" if loop.first else "," }}{{ go_json(item) }}{% endfor %}]
{%- elif value is undefined %}null
{%- elif value is mapping or (value is sequence and value is not string) -%}
{{ go_escaped(value | tojson(separators=(",", ":"), sort_keys=true)) }}
{%- else %}{{ go_escaped(value | tojson) }}
{%- endif %}
{%- endmacro %}"""

_PRINT = """\
{% macro go_print(values) %}
{%- for value in values -%}
{{ " " if not loop.first and value is not string and loop.previtem is not string else "" }}{{ go_text(value) }}
{%- endfor %}
{%- endmacro %}
{% macro go_println(values) %}
{%- for value in values %}{{ "" if loop.first else " " }}{{ go_text(value) }}{% endfor %}{{ "\\n" }}
{%- endmacro %}"""

_THINK = """\
{% set go_think = enable_thinking is defined and enable_thinking is not none %}
{% set go_common = [enable_thinking if go_think else false, \
reasoning_effort if reasoning_effort is defined else ""] %}"""

_CONTENT = """\
{% macro go_content(said) %}
{%- if said is none or said is undefined %}
{%- elif said is string %}{{ said }}
{%- else %}{{ raise_exception("this template reads text only") }}
{%- endif %}
{%- endmacro %}"""

_MERGED = """\
{% set go_messages = [] %}
{% set go_said = namespace(role=none, content="", calls=[], thinking="", name="", id="", system=none) %}
{% macro go_flush() %}
{%- if go_said.role is not none %}
{%- set _ = go_messages.append({"Role": go_said.role, "Content": go_said.content, "Thinking": go_said.thinking, \
"Images": [], "ToolCalls": go_said.calls, "ToolName": go_said.name, "ToolCallID": go_said.id, \
"": '{"role":' ~ go_json(go_said.role) ~ ',"content":' ~ go_json(go_said.content) ~ \
(',"tool_calls":' ~ go_json(go_said.calls) if go_said.calls else "") ~ "}"}) %}
{%- endif %}
{%- endmacro %}
{% for message in messages %}
{% set content = go_content(message.content) %}
{% set calls = [] %}
{% for call in message.tool_calls or [] %}
{% set function = call.function %}
{% set json = '{"name":' ~ go_json(function.name) ~ ',"arguments":' ~ go_json(function.arguments) ~ "}" %}
{% set _ = calls.append({"ID": call.id, "Function": {"Name": function.name, "Arguments": function.arguments, \
"Index": loop.index0, "": json}, "": '{"function":' ~ json ~ "}"}) %}
{% endfor %}
{% if message.role == "system" %}
{% set go_said.system = content if go_said.system is none else go_said.system ~ "\\n\\n" ~ content %}
{% endif %}
{% if go_said.role == message.role and message.role != "tool" %}
{% set go_said.content = go_said.content ~ "\\n\\n" ~ content %}
{% set go_said.calls = go_said.calls + calls %}
{% else %}
{% set _ = go_flush() %}
{% set go_said.role = message.role %}
{% set go_said.content = content %}
{% set go_said.calls = calls %}
{% set go_said.thinking = message.reasoning_content or "" %}
{% set go_said.name = (message.name or "") if message.role == "tool" else "" %}
{% set go_said.id = message.tool_call_id or "" %}
{% endif %}
{% endfor %}
{% set _ = go_flush() %}"""

_TOOLS = """\
{% set go_tools = [] %}
{% for tool in tools or [] %}
{% set schema = tool.function.parameters or {} %}
{% set properties = [] %}
{% set shown = [] %}
{% for name, property in (schema.get("properties") or {}) | dictsort(true) %}
{% set property = property if property is mapping else {} %}
{% set json = [] %}
{% for key, value in [["type", property.get("type")], ["items", property.get("items")], \
["description", property.get("description") or ""], ["enum", property.get("enum")]] %}
{% if value is not none %}{% set _ = json.append([key, value]) %}{% endif %}
{% endfor %}
{% for key, value in property | dictsort(true) %}
{% if key not in ("type", "items", "description", "enum") %}{% set _ = json.append([key, value]) %}{% endif %}
{% endfor %}
{% set _ = shown.append([name, dict(json)]) %}
{% set _ = properties.append([name, {"Type": property.get("type") or "", \
"Description": property.get("description") or "", "Enum": property.get("enum") or [], \
"Items": property.get("items"), "": go_written(dict(json))}]) %}
{% endfor %}
{% set json = [["type", schema.get("type") or ""]] %}
{% for key, value in schema | dictsort(true) %}
{% if key not in ("type", "required", "properties") %}{% set _ = json.append([key, value]) %}{% endif %}
{% endfor %}
{% set _ = json.append(["required", schema.get("required")]) %}
{% set _ = json.append(["properties", dict(shown)]) %}
{% set parameters = {"Type": schema.get("type") or "", "Required": schema.get("required") or [], \
"Properties": dict(properties), "": go_written(dict(json))} %}
{% set function = {"name": tool.function.name, "description": tool.function.description or "", \
"parameters": dict(json)} %}
{% set _ = go_tools.append({"Type": tool.type, "Function": {"Name": function.name, \
"Description": function.description, "Parameters": parameters, "": go_written(function)}, \
"": go_written({"type": tool.type, "function": function})}) %}
{% endfor %}"""

_ROOT = """\
{% set go_root = {"System": go_said.system or "", "Messages": go_messages, "Tools": go_tools, "Prompt": "", \
"Response": "", "Suffix": "", "First": false, "Think": go_common[0], "ThinkLevel": go_common[1], \
"IsThinkSet": go_think} %}"""

_TURNS = """\
{% set go_turns = [] %}
{% set go_part = namespace(system="", prompt="", response="") %}
{% macro go_end() %}
{%- set _ = go_turns.append({"System": go_part.system, "Prompt": go_part.prompt, "Response": go_part.response, \
"Messages": none, "Tools": none, "Suffix": "", "First": false, "Think": go_common[0], "ThinkLevel": go_common[1], \
"IsThinkSet": go_think}) %}
{%- set go_part.system = "" %}{%- set go_part.prompt = "" %}{%- set go_part.response = "" %}
{%- endmacro %}
{% for message in go_messages %}
{% if message.Role == "system" %}
{% if go_part.prompt or go_part.response %}{% set _ = go_end() %}{% endif %}
{% set go_part.system = message.Content %}
{% elif message.Role == "user" %}
{% if go_part.response %}{% set _ = go_end() %}{% endif %}
{% set go_part.prompt = message.Content %}
{% elif message.Role == "assistant" %}
{% set go_part.response = message.Content %}
{% endif %}
{% endfor %}
{% for turn in go_turns %}{{ go_turn(turn) }}{% endfor %}
{% set _ = go_end() %}
{{ go_last(go_turns[-1]) }}"""


def _packed(text: str) -> str:
    """Jinja without the line breaks between its tags, so that none of them is said."""
    return text.replace("\n", "")


MACROS = "".join(map(_packed, (_TEXT, _JSON, _PRINT, _THINK, _CONTENT, _MERGED)))
"""Before an older template's own macros."""
TURNS = _packed(_TURNS)
"""Behind them: says the turns."""


def whole(fields: set[str]) -> str:
    """Before a template that reads the conversation. *fields*: the names of all fields that it reads."""
    tools = _TOOLS if "Tools" in fields else "{% set go_tools = [] %}"
    return MACROS + _packed(tools) + _packed(_ROOT)
