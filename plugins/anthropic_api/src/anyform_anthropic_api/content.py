"""Reads content blocks: text, pictures, documents and search results as the contract's parts."""

from __future__ import annotations

from anyform.contract.jobs import Part, Picture, Text
from anyform.dialect import Fields, Media, NotSupported, mistyped

PICTURES = ("image/jpeg", "image/png", "image/gif", "image/webp")
SAID = ("text", "image", "document", "search_result")
"""What a user and the result of a tool may hold."""


def blocks(item: Fields, name: str = "content") -> list[Fields]:
    """The blocks that *name* holds; a string is a block of text. Raises Invalid."""
    content = item.data.get(name)
    if content is None:
        item.missing(name)
    if isinstance(content, str):
        return [Fields({"type": "text", "text": content}, item.path(f"{name}."))]
    if not isinstance(content, list):
        mistyped(item.path(name), "a string or an array of content blocks", content)
    return item.items(name) or []


def kind(block: Fields, allowed: tuple[str, ...]) -> str:
    """A block's type, which is one of these. Raises Invalid, Unsupported."""
    found = block.need_text("type")
    if found not in allowed:
        hint = f"Here there are {', '.join(map(repr, allowed))}."
        raise NotSupported(f"A content block of type '{found[:60]}' is not supported.", hint, param=block.path("type"))
    return found


def texts(item: Fields, name: str) -> str:
    """Text that is a string, or blocks of text with an empty line between them."""
    found = blocks(item, name)
    for block in found:
        kind(block, ("text",))
    return "\n\n".join(filter(None, (block.need_text("text") for block in found)))


def part(block: Fields, media: Media) -> Part:
    """One of SAID."""
    match kind(block, SAID):
        case "image":
            return _picture(block, media)
        case "document":
            return _document(block)
        case "search_result":
            return _search_result(block)
    _uncited(block)
    return Text(text=block.need_text("text"))


def _picture(block: Fields, media: Media) -> Picture:
    source = block.need_inner("source")
    match source.choice("type", "base64", "url", "file") or source.missing("type"):
        case "base64":
            media_type = source.choice("media_type", *PICTURES) or source.missing("media_type")
            data = source.need_text("data")
            return media.written(f"data:{media_type};base64,{data}", source.path("data"), bare=False)
        case "url":
            return media.written(source.need_text("url"), source.path("url"), bare=False)
    hint = "Send what it holds: a picture as base64, a document as text."
    raise NotSupported("Files are not kept here, so that none can be named.", hint, param=source.path("type"))


def _document(block: Fields) -> Text:
    _uncited(block)
    source = block.need_inner("source")
    form = source.need_text("type")
    if form == "text":
        text = source.need_text("data")
    elif form == "content":
        text = texts(source, "content")
    else:
        hint = "Send its text: a source of type 'text', or 'content' with blocks of text."
        told = f"A document whose source is of type '{form[:60]}' is not supported: only text is read."
        raise NotSupported(told, hint, param=source.path("type"))
    return _marked("document", block.text("title"), block.text("context"), text)


def _search_result(block: Fields) -> Text:
    _uncited(block)
    title, source = block.need_text("title"), block.need_text("source")
    return _marked("search_result", title, source, texts(block, "content"))


def _marked(name: str, *lines: str | None) -> Text:
    return Text(text="\n".join((f"<{name}>", *(line for line in lines if line), f"</{name}>\n")))


def _uncited(block: Fields) -> None:
    """Citations that are asked for cannot be given; those of an earlier answer are no matter."""
    asked = block.data.get("citations")
    if isinstance(asked, dict) and asked.get("enabled"):
        param = block.path("citations.enabled")
        raise NotSupported(f"Unsupported parameter: '{param}'.", "No model here cites. Leave it out.", param=param)
