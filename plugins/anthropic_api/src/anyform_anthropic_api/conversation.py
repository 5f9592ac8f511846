"""Reads a conversation: Anthropic's messages as the contract's. What one side says in several messages is one turn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from anyform.contract.jobs import Call, Message, Part, Picture, Text
from anyform.dialect import Fields, Media, NotSupported, wrong
from anyform_anthropic_api import content

ROLES = ("user", "assistant", "system")
ANSWERED = ("text", "thinking", "redacted_thinking", "tool_use")
ASKED = (*content.SAID, "tool_result")
SEEN = Text(text="(See the picture below.)")
BREAK = Text(text="\n\n")


@dataclass
class Turn:
    """What one side says without a break: the blocks of each of its messages."""

    role: str
    where: str
    said: list[list[Fields]]


def messages(fields: Fields, media: Media) -> tuple[Message, ...]:
    """The system prompt, if there is one, and the conversation. Raises Invalid, Unsupported."""
    read: list[Message] = []
    if fields.data.get("system") is not None and (text := content.texts(fields, "system")):
        read.append(Message(role="system", parts=(Text(text=text),)))
    called: tuple[Call, ...] = ()
    for turn in _turns(fields):
        if turn.role == "user":
            read += _user(turn, media, called)
            called = ()
            continue
        _answered(turn, called, ())
        if turn.role == "system":
            read.append(_system(turn))
        else:
            read.append(_assistant(turn))
            called = read[-1].calls
    return tuple(read)


def _turns(fields: Fields) -> list[Turn]:
    items = fields.items("messages")
    if items is None:
        fields.missing("messages")
    turns: list[Turn] = []
    for item in items:
        role = item.choice("role", *ROLES) or item.missing("role")
        if not turns or turns[-1].role != role:
            turns.append(Turn(role, item.where.removesuffix("."), []))
        turns[-1].said.append(content.blocks(item))
    if not turns:
        wrong(fields.path("messages"), "empty array", "Expected at least one message.")
    if turns[-1].role == "assistant":
        raise NotSupported(
            "This server does not support assistant message prefill: the conversation must end with a user message.",
            "Leave the last message out; ask for a form of the answer by output_config.format or in the prompt.",
            param=turns[-1].where,
        )
    return turns


def _system(turn: Turn) -> Message:
    found = (block for blocks in turn.said for block in blocks)
    said = [block.need_text("text") for block in found if content.kind(block, ("text",))]
    return Message(role="system", parts=(Text(text="\n\n".join(said)),))


def _user(turn: Turn, media: Media, called: tuple[Call, ...]) -> Iterator[Message]:
    """The results of tools, each as a message; then all else. Templates have no place for pictures in a result: they
    come behind.
    """
    results: list[Message] = []
    shown: list[Part] = []
    said: list[list[Part]] = []
    for blocks in turn.said:
        said.append([])
        for block in blocks:
            if content.kind(block, ASKED) != "tool_result":
                said[-1].append(content.part(block, media))
                continue
            if any(said):
                wrong(block.path("type"), "a 'tool_result' comes after other content", "Put the results first.")
            message, pictures = _result(block, media, called)
            results.append(message)
            shown += pictures
    _answered(turn, called, results)
    parts = (*shown, *_joined(said))
    yield from results
    if parts or not results:
        yield Message(role="user", parts=parts)


def _result(block: Fields, media: Media, called: tuple[Call, ...]) -> tuple[Message, list[Part]]:
    """The message of a result, and the pictures in it."""
    wanted = block.need_text("tool_use_id")
    if wanted not in {call.id for call in called}:
        told = f"there is no 'tool_use' with the id '{wanted[:100]}' in the message before"
        wrong(block.path("tool_use_id"), told, "Send the assistant's message with the call before its result.")
    failed = block.flag("is_error")
    inner = content.blocks(block) if block.data.get("content") is not None else []
    parts = [content.part(one, media) for one in inner]
    pictures = [one for one in parts if isinstance(one, Picture)]
    said = [one for one in parts if isinstance(one, Text) and one.text] or ([SEEN] if pictures else [])
    said = [Text(text="Error: "), *said] if failed else said
    return Message(role="tool", parts=tuple(said), call_id=wanted), [*pictures]


def _answered(turn: Turn, called: tuple[Call, ...], results: list[Message] | tuple[()]) -> None:
    """Refuse calls without a result right behind them: templates and models take them for unfinished."""
    missing = [call.id for call in called if call.id not in {one.call_id for one in results}]
    if missing:
        told = f"the calls {', '.join(missing)[:200]} have no 'tool_result' here"
        wrong(turn.where, told, "Each 'tool_use' needs its 'tool_result' at the beginning of the next message.")


def _assistant(turn: Turn) -> Message:
    thoughts: list[str] = []
    calls: list[Call] = []
    said: list[list[Part]] = []
    for blocks in turn.said:
        said.append([])
        for block in blocks:
            match content.kind(block, ANSWERED):
                case "text":
                    said[-1].append(Text(text=block.need_text("text")))
                case "thinking":
                    thoughts.append(block.need_text("thinking"))
                case "tool_use":
                    calls.append(_call(block))
    parts, reasoning = tuple(_joined(said)), "\n\n".join(filter(None, thoughts))
    return Message(role="assistant", parts=parts, calls=tuple(calls), reasoning=reasoning)


def _call(block: Fields) -> Call:
    given = block.object("input")
    if given is None:
        block.missing("input")
    arguments = json.dumps(given, ensure_ascii=False)
    return Call(id=block.need_text("id"), name=block.need_text("name"), arguments=arguments)


def _joined(said: list[list[Part]]) -> list[Part]:
    """The parts of all messages of a turn, with an empty line between those of two."""
    joined: list[Part] = []
    for parts in said:
        kept = [one for one in parts if not isinstance(one, Text) or one.text]
        joined += [BREAK, *kept] if joined and kept else kept
    return joined
