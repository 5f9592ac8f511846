"""POST /v1/responses: reads a request of OpenAI's Responses API into the job of a chat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from anyform.contract.jobs import Chat, Generation, Message, Text, Tool
from anyform.http import chat, generation, opening, responseinput
from anyform.http.default import completed
from anyform.http.fields import Fields, Missing, NotSupported, mistyped, wrong
from anyform.http.media import Media
from anyform.http.reply import Ask, Head, Writer, dumps
from anyform.http.responsereply import Whole, Wish
from anyform.http.responsestore import Link, Store
from anyform.http.responsestream import Stream
from anyform.http.shorten import shortened
from anyform.kernel.rule import Rule

PAIRS, KEY_LETTERS, VALUE_LETTERS = 16, 64, 512
"""Of metadata."""
LOGPROBS = "message.output_text.logprobs"
INCLUDES = (
    LOGPROBS,
    "reasoning.encrypted_content",
    "message.input_image.image_url",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
)
SUMMARIES = ("auto", "concise", "detailed")
LEVELS = ("low", "medium", "high")
REFUSED = {
    "background": "Leave it out, and stream the answer instead.",
    "conversation": "Use previous_response_id, or send the whole conversation as 'input'.",
    "prompt": "Prompt templates are not kept here: send their text as 'instructions' and 'input'.",
    "context_management": "Use 'truncation': 'auto'.",
    "moderation": "Nothing here moderates.",
}
"""Fields whose being ignored would change what an answer is, with what to do instead."""
ASK = "'truncation': 'auto' leaves out the oldest turns; the last one is never cut."
LAST = "The oldest turns are left out, as 'truncation': 'auto' asks; the last one is never cut."


def read(body: Mapping[str, Any], media: Media, rule: Rule, store: Store) -> Ask:
    """The request as a Chat job. *rule*: what the user's settings say of the model. Raises Invalid, Unsupported,
    TooLarge, ResponseNotFound.
    """
    alone = {name: body.get(name) for name in ("n", "best_of")}  # a rule that asks for several means other resources
    fields = Fields({**completed(dict(body), rule), **alone})
    model = fields.need_text("model")
    for name, instead in REFUSED.items():
        fields.refuse(name, instead)
    before = _before(fields, store)
    items = responseinput.given(fields, store)
    job, told = _job(fields), _told(fields)
    job = replace(job, messages=_messages(fields, before, items, media, rule))
    stream, keeps = bool(fields.flag("stream")), fields.flag("store") is not False and store.limit_bytes > 0
    _stream_options(fields, stream)
    wish = Wish(
        told={**told, "store": keeps},
        logprobs=job.generation.logprobs,
        store=store if keeps else None,
        inputs=dumps(items).encode("ascii") if keeps else b"[]",
        before=before,
    )

    def writer(head: Head) -> Writer:
        return Stream(head, wish) if stream else Whole(head, wish)

    ask = Ask(model=model, jobs=(job,), writer=writer, stream=stream, prompt="input", spelt=SPELT)
    return _cut(ask) if told["truncation"] == "auto" else replace(ask, uncut=ASK)


SPELT = {"max_tokens": "max_output_tokens", "messages": "input", "response_format": "text.format"}


def _before(fields: Fields, store: Store) -> Link | None:
    response_id = fields.text("previous_response_id")
    return None if response_id is None else store.previous(response_id)


def _messages(
    fields: Fields, before: Link | None, items: list[dict[str, Any]], media: Media, rule: Rule
) -> tuple[Message, ...]:
    """The conversation; the instructions of earlier responses are no part of it."""
    said = responseinput.conversation(before, items, media)
    instructions = fields.text("instructions")
    if instructions:
        said = (Message(role="system", parts=(Text(text=instructions),)), *said)
    return opening.begun(said, rule, media)


def _cut(ask: Ask) -> Ask:
    """*ask*, whose oldest messages may be left out."""

    def shorter(weight: float = 0) -> Ask | None:
        job = ask.jobs[0]
        messages = shortened(job.messages, weight) if isinstance(job, Chat) else None
        if messages is None or not isinstance(job, Chat):
            return None
        gone = len(job.messages) - len(messages)
        return _cut(replace(ask, jobs=(replace(job, messages=messages),), cut=ask.cut + gone))

    return replace(ask, shorter=shorter, uncut=LAST)


def _job(fields: Fields) -> Chat:
    """All but the messages."""
    tools = _tools(fields)
    choice, tools = _tool_choice(fields, tools)
    thinking, options = _template(fields)
    return Chat(
        messages=(),
        tools=tools,
        tool_choice=choice,
        parallel_calls=fields.flag("parallel_tool_calls") is not False,
        thinking=thinking,
        template_options=options,
        generation=_generation(fields),
    )


def _generation(fields: Fields) -> Generation:
    if (fields.integer("n", low=1) or 1) != 1:
        wrong(fields.path("n"), "a response has one answer", "Send several requests.")
    top = fields.integer("top_logprobs", low=0, high=generation.TOP_LOGPROBS)
    longest = fields.integer("max_output_tokens", "max_completion_tokens", "max_tokens", low=1)
    scored = bool(top) or LOGPROBS in _includes(fields)
    wanted = generation.read(fields, max_tokens=longest, logprobs=scored, top_logprobs=top or 0)
    schema = _schema(fields)
    if schema is not None and wanted.grammar:
        wrong(fields.path("grammar"), "it is given beside a JSON schema", "Give one of them.")
    return wanted if schema is None else replace(wanted, schema=schema)


def _includes(fields: Fields) -> tuple[str, ...]:
    wanted = [] if fields.array("include") is None else list(fields.strings("include") or ())
    for at, name in enumerate(wanted):
        if name not in INCLUDES:
            told = f"Supported values are: {', '.join(map(repr, INCLUDES))}."
            wrong(f"{fields.path('include')}[{at}]", f"'{name[:100]}'", told)
    return tuple(wanted)


def _schema(fields: Fields) -> Mapping[str, Any] | None:
    form = _format(fields)
    kind = "text" if form is None else form.choice("type", "text", "json_object", "json_schema")
    if form is None or kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    if kind is None:
        form.missing("type")
    form.need_text("name")
    form.flag("strict")
    schema = form.object("schema")
    return form.missing("schema") if schema is None else schema


def _format(fields: Fields) -> Fields | None:
    inner = fields.inner("text")
    if inner is None:
        return None
    inner.choice("verbosity", *LEVELS)
    return inner.inner("format")


def _template(fields: Fields) -> tuple[bool | None, dict[str, Any]]:
    """Whether to think, and further variables for the template, as a chat has them."""
    inner = fields.inner("reasoning")
    if inner is not None:
        inner.choice("summary", *SUMMARIES)
        inner.choice("generate_summary", *SUMMARIES)
    effort = inner.choice("effort", *chat.EFFORTS) if inner else None
    return chat.template(fields if effort is None else Fields({**fields.data, "reasoning_effort": effort}))


def _tools(fields: Fields) -> tuple[Tool, ...]:
    return tuple(_tool(item) for item in fields.items("tools") or ())


def _tool(item: Fields) -> Tool:
    kind = item.text("type") or item.missing("type")
    if kind != "function":
        hint = "Only functions, which the client itself runs, can be called here: give a tool of type 'function'."
        raise NotSupported(f"A tool of type '{kind[:100]}' is not supported.", hint, param=item.path("type"))
    if item.data.get("name") is None and item.inner("function") is not None:
        told = "A tool of this API is flat: {type, name, description, parameters}."
        raise Missing(f"Missing required parameter: '{item.path('name')}'.", told, param=item.path("name"))
    name = item.need_text("name") or wrong(item.path("name"), "it is empty")
    return Tool(
        name=name,
        description=item.text("description") or "",
        parameters=item.object("parameters") or {},
        strict=item.flag("strict") is not False,
    )


def _tool_choice(fields: Fields, known: tuple[Tool, ...]) -> tuple[str, tuple[Tool, ...]]:
    """none, auto, required, or the name of one of the tools; and those of them that may be called."""
    value = fields.data.get("tool_choice")
    if value is None or isinstance(value, str):
        choice = fields.choice("tool_choice", "none", "auto", "required") or "auto"
        if choice == "required" and not known:
            wrong(fields.path("tool_choice"), "'required' is only allowed when 'tools' are specified")
        return choice, known
    if not isinstance(value, dict):
        mistyped(fields.path("tool_choice"), "a string or an object", value)
    inner = Fields(value, fields.path("tool_choice") + ".")
    kind = inner.text("type") or inner.missing("type")
    if kind == "function":
        return _named(inner, known), known
    if kind == "allowed_tools":
        mode = inner.choice("mode", "auto", "required") or inner.missing("mode")
        names = {_named(item, known) for item in inner.items("tools") or inner.missing("tools")}
        return mode, tuple(tool for tool in known if tool.name in names)
    told = "Use 'function' or 'allowed_tools'."
    raise NotSupported(f"A tool choice of type '{kind[:100]}' is not supported.", told, param=inner.path("type"))


def _named(choice: Fields, known: tuple[Tool, ...]) -> str:
    name = choice.need_text("name")
    if name not in {tool.name for tool in known}:
        wrong(choice.path("name"), f"there is no tool '{name[:100]}' in 'tools'")
    return name


def _stream_options(fields: Fields, stream: bool) -> None:
    options = fields.inner("stream_options")
    if options is None:
        return
    if not stream:
        wrong(fields.path("stream_options"), "it is only allowed when 'stream' is enabled", "Set stream to true.")
    options.flag("include_obfuscation")


def _told(fields: Fields) -> dict[str, Any]:
    """The fields of the response that repeat the request's, with OpenAI's own defaults for what it left out."""
    reasoning = fields.inner("reasoning")
    return {
        "background": False,
        "instructions": fields.text("instructions"),
        "max_output_tokens": fields.integer("max_output_tokens", "max_completion_tokens", "max_tokens", low=1),
        "max_tool_calls": fields.integer("max_tool_calls", low=0),
        "metadata": _metadata(fields),
        "parallel_tool_calls": fields.flag("parallel_tool_calls") is not False,
        "previous_response_id": fields.text("previous_response_id"),
        "prompt_cache_key": fields.text("prompt_cache_key"),
        "reasoning": {
            "effort": reasoning.text("effort") if reasoning else fields.text("reasoning_effort"),
            "summary": reasoning.text("summary") if reasoning else None,
        },
        "safety_identifier": fields.text("safety_identifier"),
        "service_tier": _tier(fields),
        "temperature": fields.number("temperature"),
        "text": _text(fields),
        "tool_choice": fields.data.get("tool_choice") or "auto",
        "tools": [_tool_told(tool) for tool in _tools(fields)],
        "top_logprobs": fields.integer("top_logprobs") or 0,
        "top_p": fields.number("top_p"),
        "truncation": fields.choice("truncation", "disabled", "auto") or "disabled",
        "user": fields.text("user"),
    }


def _tool_told(tool: Tool) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description or None,
        "parameters": dict(tool.parameters),
        "strict": tool.strict,
    }


def _text(fields: Fields) -> dict[str, Any]:
    inner, form = fields.inner("text"), _format(fields)
    verbosity = inner.text("verbosity") if inner else None
    return {"format": dict(form.data) if form else {"type": "text"}, "verbosity": verbosity or "medium"}


def _metadata(fields: Fields) -> dict[str, str]:
    given = fields.object("metadata") or {}
    param = fields.path("metadata")
    if len(given) > PAIRS:
        wrong(param, f"{len(given)} pairs", f"Expected at most {PAIRS}.")
    inner = Fields(given, f"{param}.")
    for key, value in given.items():
        if len(key) > KEY_LETTERS:
            wrong(inner.path(key[:KEY_LETTERS]), f"a key of {len(key)} letters", f"Expected at most {KEY_LETTERS}.")
        if not isinstance(value, str):
            mistyped(inner.path(key), "a string", value)
        if len(value) > VALUE_LETTERS:
            wrong(inner.path(key), f"a value of {len(value)} letters", f"Expected at most {VALUE_LETTERS}.")
    return dict(given)


def _tier(fields: Fields) -> str:
    """There is one."""
    fields.text("service_tier")
    return "default"
