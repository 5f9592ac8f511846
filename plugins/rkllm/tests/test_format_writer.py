"""The writer of tiny .rkllm files: what others' tests lean on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anyform.testing import rkllm


def test_the_stand_in_finds_what_it_is_told(tmp_path: Path) -> None:
    content = rkllm.write(tmp_path / "a.rkllm", stand_in={"context": 512}).read_bytes()
    line = content[content.index(b"STANDIN {") :].split(b"\n")[0]
    assert json.loads(line.removeprefix(b"STANDIN ")) == {**rkllm.STAND_IN, "context": 512}
    assert b"STANDIN" not in rkllm.write(tmp_path / "b.rkllm", stand_in=None).read_bytes()


def test_texts_are_masked(tmp_path: Path) -> None:
    content = rkllm.write(tmp_path / "a.rkllm").read_bytes()
    for text in (b"general", b"llama", b"token", b"Tiny", b"weight"):
        assert text not in content
    assert content.endswith(b"rkllm-toolkit version: 1.2.3")


def test_a_token_is_its_byte(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    rkllm.write_byte_tokenizer(tmp_path)
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    text = "äöü 日本語 \t\n" + "".join(map(chr, range(300)))
    assert tokenizer.encode(text).ids == list(text.encode())
    assert tokenizer.decode(list(text.encode())) == text
    for number, mark in enumerate(rkllm.MARKERS):
        assert tokenizer.encode(mark).ids == [rkllm.BYTES + number]
