"""What `anyform ps` prints of a loaded model."""

from __future__ import annotations

import io
from typing import Any

from anyform.cli.ps import _print
from anyform.cli.terminal import Terminal

LOADED: dict[str, Any] = {"model": "m", "status": "ready", "plugin": "audio", "device": "cpu", "parallel": 4}


def printed(**more: Any) -> list[str]:
    stream = io.StringIO()
    _print(Terminal(stream), [{**LOADED, **more}])
    return stream.getvalue().splitlines()


def test_a_model_with_a_context_says_how_many_and_why() -> None:
    _, row, why = printed(context=448, context_why="as trained")
    assert "448 x 4" in row
    assert why == "m: context 448: as trained"


def test_a_model_without_a_context_says_nothing_of_one() -> None:
    [_, row] = printed(context=None, context_why="this model has no context")
    assert row.split() == ["m", "ready", "audio", "cpu", "-", "-", "-", "-", "-", "never"]


def test_what_an_engine_really_runs_on_is_told() -> None:
    assert printed(runs_on="CUDA (812 of 840 operators), CPU (28 of 840 operators)")[-1] == (
        "m: runs on CUDA (812 of 840 operators), CPU (28 of 840 operators)"
    )
