"""Greedy answers over HTTP are the same from llama.cpp (GGUF, F16) and from transformers (the folder it is made of)."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.engine
BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


def test_the_engines_answer_alike(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Alone and among 32 at once, streamed and not; `python benchmarks/agreement.py` asks all held-out questions."""
    for module in ("torch", "llama_cpp", "anyform_samples"):
        pytest.importorskip(module)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr("sys.argv", ["agreement", "--per-category", "4"])
    import agreement

    assert agreement.main() == 0, capsys.readouterr().out
    told = capsys.readouterr().out
    assert told.count("100.0% equal") == 4, told
