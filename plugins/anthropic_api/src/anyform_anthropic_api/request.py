"""Reads a request of /v1/messages as a Chat job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anyform.contract.jobs import Chat, Generation
from anyform.dialect import Ask, Fields, Head, Media, Rule, Writer, begun, read_generation, read_template, wrong
from anyform_anthropic_api import conversation, tool
from anyform_anthropic_api.answer import Stream, Whole
from anyform_anthropic_api.form import NoThreads

EFFORTS = ("low", "medium", "high", "xhigh", "max")
THINKING = ("enabled", "adaptive", "disabled")
BUDGET = 1024
"""The least budget of thinking."""
SINGLE = ("n", "best_of", "logprobs", "top_logprobs")
"""What a rule may say that there is no place for in an answer: it is one, and has no logprobs."""
FORMS = ("response_format", "json_schema", "grammar")


def read(body: Mapping[str, Any], media: Media, rule: Rule) -> Ask:
    """A message that is to be answered. Raises Invalid, Unsupported, TooLarge."""
    fields = Fields(body)
    most = fields.integer("max_tokens", low=0)
    if most is None:
        fields.missing("max_tokens")
    fields.refuse("compaction", "Ask for a summary in a message.")
    stream = bool(fields.flag("stream"))
    job, shown = _job(fields, media, rule, _generation(fields, rule, most))

    def writer(head: Head) -> Writer:
        return Stream(head, most, shown) if stream else Whole(head, most, shown)

    return Ask(model=fields.need_text("model"), jobs=(job,), writer=writer, stream=stream, prompt="messages")


def counted(body: Mapping[str, Any], media: Media, rule: Rule) -> Ask:
    """A message whose tokens are to be counted."""
    fields = Fields(body)
    job, _ = _job(fields, media, rule, Generation(schema=_schema(fields)))

    def writer(head: Head) -> Writer:
        return Whole(head, 1, True)

    return Ask(model=fields.need_text("model"), jobs=(job,), writer=writer, prompt="messages")


def _job(fields: Fields, media: Media, rule: Rule, generation: Generation) -> tuple[Chat, bool]:
    """The job, and whether the client wants to see what the model thinks."""
    fields.need_text("model")
    if fields.inner("thread") is not None:
        told = "Send the whole conversation, without it."
        raise NoThreads("Unsupported parameter: 'thread': conversations are not kept here.", told, param="thread")
    fields.refuse("container", "No code runs here, so that there are no containers.")
    fields.refuse("mcp_servers", "This server calls no others. Give what they offer as custom tools.")
    tools = tool.tools(fields)
    choice, parallel = tool.choice(fields, tools)
    thinking, shown, options = _template(fields, rule, generation.max_tokens)
    return Chat(
        messages=begun(conversation.messages(fields, media), rule, media),
        tools=tools,
        tool_choice=choice,
        parallel_calls=parallel,
        thinking=thinking,
        template_options=options,
        generation=generation,
    ), shown


def _template(fields: Fields, rule: Rule, most: int | None) -> tuple[bool | None, bool, dict[str, Any]]:
    """Whether to think, whether to show it, and further variables of the chat template. Who does not ask for thinking
    gets none, as far as the model can be without.
    """
    usual, options = read_template(Fields(rule.request))
    config = fields.inner("output_config")
    effort = config.choice("effort", *EFFORTS) if config else None
    if effort is not None:
        options["reasoning_effort"] = effort
    given = fields.inner("thinking")
    if given is None:
        return bool(usual), True, options
    return *_thinking(given, most), options


def _thinking(given: Fields, most: int | None) -> tuple[bool | None, bool]:
    kind = given.choice("type", *THINKING) or given.missing("type")
    shown = given.choice("display", "summarized", "omitted") != "omitted"
    if kind != "enabled":
        return (None if kind == "adaptive" else False), shown
    budget = given.integer("budget_tokens", low=BUDGET)
    if budget is None:
        given.missing("budget_tokens")
    if most and budget >= most:
        told = f"{budget} is not below max_tokens, which is {most}"
        wrong(given.path("budget_tokens"), told, "What is thought counts toward max_tokens.")
    return True, shown


def _generation(fields: Fields, rule: Rule, most: int) -> Generation:
    schema = _schema(fields)
    left = {*SINGLE, *(FORMS if schema is not None else ())}
    said = {
        "temperature": fields.number("temperature", low=0, high=1),
        "top_p": fields.number("top_p", low=0, high=1),
        "top_k": fields.integer("top_k", low=0),
        "stop": _stops(fields),
        "seed": fields.integer("seed"),
        "json_schema": schema,
    }
    usual = {name: value for name, value in rule.request.items() if name not in left}
    given = {name: value for name, value in said.items() if value is not None}
    return read_generation(Fields({**usual, **given}), max_tokens=most)


def _stops(fields: Fields) -> list[str] | None:
    stops = fields.array("stop_sequences")
    fields.strings("stop_sequences")
    if stops and not all(stops):
        wrong(fields.path(f"stop_sequences[{stops.index('')}]"), "it is empty")
    return stops


def _schema(fields: Fields) -> dict[str, Any] | None:
    """The JSON schema that the answer must follow."""
    config = fields.inner("output_config")
    form = (config.inner("format") if config else None) or fields.inner("output_format")
    if form is None:
        return None
    if form.choice("type", "json_schema") is None:
        form.missing("type")
    schema = form.object("schema")
    return form.missing("schema") if schema is None else schema
