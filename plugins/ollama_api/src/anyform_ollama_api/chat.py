"""POST /api/chat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from anyform.contract.jobs import Chat, Message
from anyform.dialect import Ask, Fields, Head, Media, Rule, Writer, begun, read_tool_choice, read_tools
from anyform_ollama_api import conversation, line, options, request
from anyform_ollama_api.cut import Cut


def read(values: Mapping[str, Any], media: Media, rule: Rule) -> Ask:
    """The request as a Chat job. Raises Invalid, TooLarge."""
    body = Fields(values)
    model, use = request.model(body), request.use(body)
    stream = body.flag("stream") is not False
    thinking, variables = request.manner(body, rule)
    tools = read_tools(body)
    job = Chat(
        messages=(),
        tools=tools,
        tool_choice=read_tool_choice(Fields(rule.request), tools) if tools else "auto",
        parallel_calls=rule.request.get("parallel_tool_calls") is not False,
        thinking=thinking,
        template_options=variables,
        generation=options.generation(body, rule),
    )

    def writer(head: Head) -> Writer:
        return line.Stream(head, line.message) if stream else line.Whole(head, line.message)

    def made(messages: tuple[Message, ...]) -> Ask:
        jobs = (replace(job, messages=begun(messages, rule, media)),)
        return Ask(model=model, jobs=jobs, writer=writer, stream=stream, prompt="messages", use=use)

    return Cut(made, request.truncates(body, rule)).ask(conversation.messages(body, media))
