"""Vocabularies met before: passed over at once, and told apart from any other by every byte."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Severity
from anyform.kernel.files import FolderFiles
from anyform.testing.gguf import llama, write_gguf
from anyform_gguf_llamacpp import familiar, gguf, plugin

TOKENS = 6000


@pytest.fixture(autouse=True)
def nothing_familiar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(familiar, "_shelf", familiar._Shelf())


def write(path: Path, tokens: list[str] | None = None, name: str = "a name") -> Path:
    """A model with TOKENS tokens more than it has embeddings for."""
    words = [f"word{number}" for number in range(TOKENS)] if tokens is None else tokens
    keys, tensors = llama(tokenizer="bpe")
    keys["tokenizer.ggml.tokens"] = [*keys["tokenizer.ggml.tokens"], *words]
    keys["tokenizer.ggml.token_type"] = [*keys["tokenizer.ggml.token_type"], *[1] * len(words)]
    keys["general.name"] = name
    return write_gguf(path, keys, tensors)


def codes(path: Path) -> set[str]:
    files = FolderFiles(path)
    [match] = plugin.detect_format(files)
    return {one.code for one in plugin.validate(files, match) if one.severity is Severity.CRITICAL}


def parsed(path: Path) -> dict[str, Any]:
    header = gguf.read(path)
    assert header.trouble is None
    return dict(header.keys) | {"end": header.end, "tensors": header.tensors}


def test_a_file_reads_the_same_whether_its_vocabulary_is_familiar_or_not(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gguf")
    first = parsed(path)
    known = sum(len(one) for one in familiar._shelf.known.values())
    assert known == 1
    assert parsed(path) == first
    assert sum(len(one) for one in familiar._shelf.known.values()) == known


def test_a_familiar_vocabulary_in_another_place_is_found(tmp_path: Path) -> None:
    write(tmp_path / "one" / "m.gguf")
    parsed(tmp_path / "one" / "m.gguf")
    moved = write(tmp_path / "two" / "m.gguf", name="a much longer name than the other's")
    header = gguf.read(moved)
    assert header.count("tokenizer.ggml.tokens") == TOKENS + len(llama(tokenizer="bpe")[0]["tokenizer.ggml.tokens"])
    assert header.text("general.name") == "a much longer name than the other's"
    assert [tensor.name for tensor in header.tensors][:1] == ["token_embd.weight"]


def test_one_byte_makes_it_another_vocabulary(tmp_path: Path) -> None:
    sound = [f"word{number}" for number in range(TOKENS)]
    twice = [*sound[:-1], "word1"]
    twins = [*sound[:-1], sound[-2]]
    codes(write(tmp_path / "a" / "m.gguf", sound))
    assert "gguf.duplicate_token" in codes(write(tmp_path / "b" / "m.gguf", twice))
    assert "gguf.duplicate_token" in codes(write(tmp_path / "c" / "m.gguf", twins))
    assert "gguf.duplicate_token" in codes(write(tmp_path / "c" / "m.gguf", twins))  # familiar by now
    assert "gguf.duplicate_token" not in codes(tmp_path / "a" / "m.gguf")


def test_what_two_threads_walked_over_is_kept_once() -> None:
    data = b"".join(struct.pack("<Q", 4) + b"%04d" % number for number in range(familiar.LEAST))
    first = familiar.keep(data, 0, familiar.LEAST, len(data))
    assert first is not None
    assert familiar.keep(data, 0, familiar.LEAST, len(data)) is first
    assert familiar.find(data, 0, familiar.LEAST) is first
    assert sum(map(len, familiar._shelf.known.values())) == len(familiar._shelf.recent) == 1


def test_a_listing_is_parsed_once(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf")
    files = FolderFiles(path)
    headers = []
    for asked in (files, files, FolderFiles(path)):
        with gguf.opened(asked, path.name) as (header, buffer):
            assert len(buffer) == header.size == path.stat().st_size
        headers.append(header)
    assert headers[0] is headers[1] is not headers[2]
    assert headers[0] == headers[2]
    with path.open("ab") as file:
        file.write(b"more")
    assert gguf.header(files, path.name).size == path.stat().st_size


def test_what_is_cut_off_within_a_familiar_vocabulary_is_still_cut_off(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf")
    header = gguf.read(path)
    tokens = header.keys["tokenizer.ggml.tokens"]
    assert isinstance(tokens, gguf.Array)
    data = path.read_bytes()
    for cut in (tokens.offset + 1, tokens.offset + tokens.size // 2, tokens.offset + tokens.size - 1):
        trouble = gguf.parse(data[:cut], cut).trouble
        assert trouble is not None
        assert trouble.code in ("gguf.truncated", "gguf.count_too_large", "gguf.length_too_large")


def test_what_is_kept_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(familiar, "MOST_BYTES", 300_000)
    for number in range(8):
        parsed(write(tmp_path / "m.gguf", [f"{number}word{at}" for at in range(TOKENS)]))
    kept = [one for known in familiar._shelf.known.values() for one in known]
    assert 1 <= len(kept) < 8
    assert sum(len(one.data) for one in kept) <= 300_000
