"""Suggestions of anyform's own, and of the backends that can be used here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from anyform.contract.errors import Invalid
from anyform.contract.facts import BackendInfo
from anyform.kernel.choice import EngineState
from anyform.sources.suggestion import gathered, suggestions, unreadable


def written(file: Path, *models: str) -> Path:
    """A file of suggestions: each *models* is a name and a size in GB."""
    tables = (model.split() for model in models)
    text = "".join(f'[[model]]\nname = "{name}"\ntasks = ["chat"]\nsize_gb = {size}\n' for name, size in tables)
    file.write_text(text or "model = []\n")
    return file


def engine(file: Path | str = "", missing: tuple[str, ...] = (), trouble: str = "") -> EngineState:
    info = BackendInfo(name="npu", reads=("x",), tasks=("chat",), suggestions=str(file))
    return EngineState(plugin="p", backend=info, versions={}, missing=missing, trouble=trouble)


def test_backends_that_can_be_used_add_theirs(tmp_path: Path) -> None:
    own = written(tmp_path / "own.toml", "own/small 1", "both/here 2")
    board = written(tmp_path / "board.toml", "board/middle 1.5", "both/here 2")
    found, troubles = gathered([engine(), engine(board)], own)
    assert [(one.name, one.backend) for one in found] == [
        ("board/middle", "npu"),
        ("both/here", "npu"),
        ("own/small", ""),
    ]
    assert troubles == []


def test_those_of_backends_that_cannot_be_used_are_left_out_and_that_is_said(tmp_path: Path) -> None:
    own, board = written(tmp_path / "own.toml", "own/a 1"), written(tmp_path / "board.toml", "board/b 1", "board/c 3")
    for unusable, why in (
        (engine(board, missing=("numpy", "torch")), "it needs numpy, torch"),
        (engine(board, trouble="the library is missing"), "the library is missing"),
    ):
        said = f"npu would suggest 2 more, but cannot be used here: {why}"
        assert gathered([unusable], own) == (suggestions(own), [said])
        assert gathered([unusable], own, "embed") == ([], [])
    assert gathered([engine(trouble="no NPU was found")], own)[1] == []


def test_without_a_file_they_go_beside_anyforms_own(tmp_path: Path) -> None:
    found, _ = gathered([engine(written(tmp_path / "board.toml", "board/model 1.5"))])
    assert {one.name for one in found} == {"board/model", *(one.name for one in suggestions())}
    assert found[0].name == "board/model"
    formats = [one.format for one in suggestions()]
    assert all(formats)
    assert [one.format for one in found[1:]] == formats  # none of which is read here: the smallest first


def test_what_nothing_here_reads_comes_last_and_is_known(tmp_path: Path) -> None:
    own, board = tmp_path / "own.toml", written(tmp_path / "board.toml", "board/large 9")
    models = (("a/unread", "y", 1), ("b/read", "x", 3), ("c/unsaid", "", 2))
    own.write_text("".join(f'[[model]]\nname = "{n}"\nformat = "{f}"\nsize_gb = {s}\n' for n, f, s in models))
    usable, unusable = engine(board), replace(engine(), trouble="no such NPU")
    found, _ = gathered(iter([usable]), own)
    assert [one.name for one in found] == ["board/large", "c/unsaid", "b/read", "a/unread"]
    assert unreadable([usable], found) == {"a/unread"}
    found, _ = gathered([unusable], own)
    assert [one.name for one in found] == ["c/unsaid", "a/unread", "b/read"]
    assert unreadable([unusable], found) == {"a/unread", "b/read"}


def test_task_and_size_narrow_both(tmp_path: Path) -> None:
    own, board = written(tmp_path / "own.toml", "own/a 1", "own/b 3"), written(tmp_path / "board.toml", "board/c 2")
    assert [one.name for one in gathered([engine(board)], own, "chat", 2 * 10**9)[0]] == ["board/c", "own/a"]
    assert gathered([engine(board)], own, "embed")[0] == []


def test_a_backends_broken_file_costs_only_its_own_and_is_said(tmp_path: Path) -> None:
    own, broken = written(tmp_path / "own.toml", "own/a 1"), tmp_path / "broken.toml"
    broken.write_text("[[model")
    for file in (broken, tmp_path / "absent.toml"):
        found, [trouble] = gathered([engine(file)], own)
        assert found == suggestions(own)
        assert trouble.startswith("the suggestions of npu are left out: ")
        assert file.name in trouble
    with pytest.raises(Invalid, match=r"broken\.toml"):
        gathered([engine()], broken)


def test_a_list_may_be_empty(tmp_path: Path) -> None:
    assert suggestions(written(tmp_path / "none.toml")) == []
