"""What the model wrote, as a message of OpenAI's shape."""

from __future__ import annotations

import json
import re
from typing import Any

_CALL = re.compile(r"<tool_call>\n(.*?)\n</tool_call>", re.DOTALL)


def message_of(text: str) -> dict[str, Any]:
    """*text* parted into content and tool calls. A call that is no JSON object with a name stays in the content."""
    calls = []
    for found in _CALL.finditer(text):
        try:
            call = json.loads(found[1])
            calls.append({"function": {"name": call["name"], "arguments": call["arguments"]}})
        except (ValueError, KeyError, TypeError):
            return {"role": "assistant", "content": text}
    return {"role": "assistant", "content": _CALL.sub("", text).strip(), "tool_calls": calls}
