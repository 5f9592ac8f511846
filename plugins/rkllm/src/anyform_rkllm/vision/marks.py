"""The words that stand around a picture and in its place, as the files beside a model name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyform_rkllm.vision.file import nearest_json

_IDS: Mapping[str, tuple[str, ...]] = {
    "start": ("vision_start_token_id", "boi_token_id", "boi_token_index"),
    "end": ("vision_end_token_id", "eoi_token_id", "eoi_token_index"),
    "content": ("image_token_id", "image_token_index", "img_context_token_id"),
}
"""What config.json calls their tokens: Qwen-VL, Gemma 3, InternVL."""
_WORDS: Mapping[str, tuple[str, ...]] = {
    "start": ("vision_bos_token", "start_image_token", "boi_token"),
    "end": ("vision_eos_token", "end_image_token", "eoi_token"),
    "content": ("image_token", "context_image_token"),
}
"""What tokenizer_config.json calls the words themselves, there or in its extra_special_tokens."""
_MOST_BYTES = 1 << 26
"""Of tokenizer.json."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Empty: not known; the library then takes what was put into the model."""

    start: str = ""
    end: str = ""
    content: str = ""


NO_MARKS = Marks()


def read(folders: Sequence[Path]) -> Marks:
    """The marks of a model by the files in *folders*, the nearest first. Raises LoadFailed for a damaged one."""
    config = nearest_json(folders, "config.json")
    said = nearest_json(folders, "tokenizer_config.json")
    extra = said.get("extra_special_tokens")
    tables = (said, extra if isinstance(extra, dict) else {})
    ids = {mark: _first(names, (config,), int) for mark, names in _IDS.items()}
    words = {mark: _first(names, tables, str) or "" for mark, names in _WORDS.items()}
    if any(number is not None and not words[mark] for mark, number in ids.items()):
        tokens = _tokens(said, folders)
        words |= {mark: tokens.get(ids[mark], "") for mark, word in words.items() if not word}
    return Marks(**words)


def _first(names: tuple[str, ...], tables: tuple[Mapping[str, Any], ...], kind: type) -> Any:
    found = (table.get(name) for name in names for table in tables)
    return next((one for one in found if type(one) is kind), None)


def _tokens(said: Mapping[str, Any], folders: Sequence[Path]) -> Mapping[Any, str]:
    """Added tokens by number: of tokenizer_config.json, else, since transformers 5, of tokenizer.json."""
    stated = said.get("added_tokens_decoder")
    if isinstance(stated, dict) and stated:
        return {int(key): _content(one) for key, one in stated.items() if str(key).isdecimal() and len(str(key)) < 10}
    listed = nearest_json(folders, "tokenizer.json", _MOST_BYTES).get("added_tokens")
    many = listed if isinstance(listed, list) else []
    return {one["id"]: _content(one) for one in many if isinstance(one, dict) and type(one.get("id")) is int}


def _content(one: Any) -> str:
    said = one.get("content") if isinstance(one, dict) else one
    return said if isinstance(said, str) else ""
