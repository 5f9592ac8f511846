"""A GGUF that lies elsewhere is described and checked by the beginnings of its files alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Severity
from anyform.kernel.files import FolderFiles
from anyform.testing.gguf import write_llama, write_mmproj, write_split
from anyform_gguf_llamacpp import plugin


class Elsewhere:
    """The files of a folder, of which only beginnings can be had, *limit* bytes at the most."""

    path = Path("/nowhere/at/all")

    def __init__(self, folder: Path, limit: int = 1 << 24) -> None:
        self._folder, self._limit = FolderFiles(folder), limit

    @property
    def files(self) -> Mapping[str, int]:
        return self._folder.files

    def head(self, name: str, size: int = 4096) -> bytes:
        return self._folder.head(name, min(size, self._limit))

    def json(self, name: str) -> Mapping[str, Any]:
        return {}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_split(tmp_path, "big-Q8_0", 2, quantization="Q8_0")
    write_mmproj(tmp_path / "mmproj-F16.gguf")
    return tmp_path


def test_elsewhere_and_here_say_the_same(folder: Path) -> None:
    here, there = FolderFiles(folder), Elsewhere(folder)
    [match] = plugin.detect_format(there)
    assert plugin.detect_format(here) == [match]
    assert plugin.extract_metadata(there, match) == plugin.extract_metadata(here, match)
    assert plugin.validate(there, match) == plugin.validate(here, match) == []


def test_damage_is_found_from_afar(folder: Path) -> None:
    write_llama(folder / "odd.gguf", extra={"llama.attention.head_count": 0})
    there = Elsewhere(folder)
    match = next(one for one in plugin.detect_format(there) if one.entry == "odd.gguf")
    assert any(finding.severity is Severity.CRITICAL for finding in plugin.validate(there, match))


def test_a_header_that_is_not_seen_whole_is_no_damage(tmp_path: Path) -> None:
    write_llama(tmp_path / "a.gguf")
    there = Elsewhere(tmp_path, limit=4096)
    [match] = plugin.detect_format(there)
    [finding] = plugin.validate(there, match)
    assert (finding.code, finding.severity) == ("gguf.header_unseen", Severity.WARNING)
    metadata = plugin.extract_metadata(there, match)
    assert metadata.architecture == "llama"
    assert metadata.weight_bytes == there.files["a.gguf"]
