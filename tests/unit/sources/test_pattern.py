"""Contexts by name: anyform's own file, and a user's over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from anyform.contract.errors import Invalid
from anyform.contract.facts import MemoryEstimate, Settings
from anyform.kernel.context import Sizing, size
from anyform.sources.pattern import contexts


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 131_072),
        ("Meta-Llama-3-8B", 8192),
        ("llama-2-7b-chat", 4096),
        ("Qwen/Qwen3-0.6B", 40_960),
        ("Qwen3-4B-Instruct-2507", 262_144),
        ("Qwen2.5-7B-Instruct-1M", 1_010_000),
        ("gemma-2-2b-it", 8192),
        ("gemma-3-1b-it", 32_768),
        ("gemma-3-4b-it", 131_072),
        ("Phi-3-mini-128k-instruct", 131_072),
        ("something else", 2048),
    ],
)
def test_known_families_are_told_by_name(name: str, tokens: int) -> None:
    said = MemoryEstimate(weights_bytes=1, bytes_per_token=1)
    assert size(Settings(), None, said, said.at, 0, _own(), (name,)).tokens == tokens


def _own() -> Sizing:
    return Sizing(patterns=contexts())


def test_a_users_patterns_go_first_and_replace(tmp_path: Path) -> None:
    file = tmp_path / "contexts.toml"
    file.write_text('[contexts]\n"*Llama-3-8B*" = 7\n"*qwen3*" = 9\n')
    found = contexts(file)
    assert list(found.items())[:2] == [("*llama-3-8b*", 7), ("*qwen3*", 9)]
    assert len(found) == len(contexts()) + 1
    assert contexts(tmp_path / "absent.toml") == contexts()
    under = tmp_path / "under.toml"
    under.write_text('[contexts]\n"*qwen3*" = 11\n"*mine*" = 12\n')
    assert list(contexts(file, under).items())[:3] == [("*llama-3-8b*", 7), ("*qwen3*", 9), ("*mine*", 12)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[contexts]\n"a" = 0', "'a' = 0"),
        ('[contexts]\n"a" = true', "'a' = True"),
        ('[contexts]\n"a" = "many"', "'a' = 'many'"),
        ("contexts = 7", "contexts = 7"),
        ("= what", "cannot be read"),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "contexts.toml"
    file.write_text(text)
    with pytest.raises(Invalid, match=r"contexts\.toml") as caught:
        contexts(file)
    assert said in caught.value.message
