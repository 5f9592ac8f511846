"""Chat templates as they lie in a folder, and what can be told from their text without running them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from anyform.contract.facts import ModelFiles
from anyform.pretrained.layout import at

MOST_BYTES = 1 << 20
THINKING = re.compile(r"enable_thinking|reasoning_content|think>|\[THINK\]|_THINKING\||\bthinking\b|<\|channel\|>")
TOOLS = re.compile(r"\btools\b|\bavailable_tools\b|\bfunctions\b")
FOLDER = "additional_chat_templates"


def templates(files: ModelFiles, folder: str, tokenizer: Mapping[str, Any]) -> dict[str, str]:
    """Name -> Jinja source; the one for all is called default. A file of its own comes before what *tokenizer* says.

    *tokenizer*: tokenizer_config.json.
    """
    found = _stated(tokenizer.get("chat_template"))
    found |= _stated(files.json(at(folder, "chat_template.json")).get("chat_template"))
    own = _read(files, at(folder, "chat_template.jinja"))
    prefix = at(folder, f"{FOLDER}/")
    named = [name for name in files.files if name.startswith(prefix) and name.endswith(".jinja")]
    found |= {name.removeprefix(prefix).removesuffix(".jinja"): _read(files, name) for name in named[:16]}
    return {name: text for name, text in (found | {"default": own} if own else found).items() if text}


def _stated(said: Any) -> dict[str, str]:
    """One template, or a list of {name, template}."""
    if isinstance(said, str):
        return {"default": said}
    pairs = [(one.get("name"), one.get("template")) for one in said if isinstance(one, dict)] if _is_list(said) else []
    return {name: text for name, text in pairs if isinstance(name, str) and isinstance(text, str)}


def _is_list(said: Any) -> bool:
    return isinstance(said, list)


def _read(files: ModelFiles, name: str) -> str:
    if not 0 < files.files.get(name, 0) <= MOST_BYTES:
        return ""
    return files.head(name, MOST_BYTES).decode("utf-8", "replace")


def uses_tools(template: str) -> bool:
    """Whether it mentions tools."""
    return bool(TOOLS.search(template))


def thinks(template: str) -> bool:
    """Whether it mentions reasoning."""
    return bool(THINKING.search(template))
