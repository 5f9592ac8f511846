"""The tokens that begin and end texts and answers, as a folder's JSON states them: by id, and as they are written."""

from __future__ import annotations

from typing import Any

from anyform.contract.facts import ModelFiles
from anyform.pretrained.layout import at

_NAMES = ("bos_token", "eos_token")


def ids(said: Any) -> list[int]:
    """One id, or a list of them; what can be none is left out."""
    every = said if isinstance(said, list) else [said]
    return [one for one in every if type(one) is int and 0 <= one < 1 << 31]


def written(files: ModelFiles, folder: str) -> dict[str, str]:
    """`bos_token` and `eos_token`: tokenizer_config.json's, else special_tokens_map.json's.

    An empty text: the file says that there is none.
    """
    found: dict[str, str] = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        said = files.json(at(folder, file))
        found |= {name: _content(said[name]) for name in _NAMES if name in said}
    return found


def _content(said: Any) -> str:
    """A token is written as a text, or as an object that also says how it is read."""
    content = said.get("content") if isinstance(said, dict) else said
    return content if isinstance(content, str) else ""
