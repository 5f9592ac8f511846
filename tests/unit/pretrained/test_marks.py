"""The tokens that begin and end a text, as the files of a folder state them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anyform.pretrained import marks
from anyform.pretrained.listing import Listing


@pytest.mark.parametrize(
    ("said", "found"),
    [(2, [2]), ([2, 7], [2, 7]), (None, []), (True, []), ("2", []), ([-1, 3, 1 << 31, 4.0], [3]), ({}, [])],
)
def test_ids(said: Any, found: list[int]) -> None:
    assert marks.ids(said) == found


def test_what_is_written(tmp_path: Path) -> None:
    assert marks.written(Listing(tmp_path), ".") == {}
    added = {"content": "<s>", "lstrip": False}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"bos_token": added, "eos_token": "</s>"}))
    assert marks.written(Listing(tmp_path), ".") == {"bos_token": "<s>", "eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", "bos_token": None}))
    assert marks.written(Listing(tmp_path), ".") == {"bos_token": "", "eos_token": "<|im_end|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": ["odd"]}))
    assert marks.written(Listing(tmp_path), ".") == {"bos_token": "<s>", "eos_token": ""}
    (tmp_path / "tokenizer_config.json").write_text("[")
    assert marks.written(Listing(tmp_path), ".") == {"bos_token": "<s>", "eos_token": "</s>"}
