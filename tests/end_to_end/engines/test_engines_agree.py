"""Greedy answers over HTTP are the same from llama.cpp (GGUF, F16), from transformers and from both onnxruntimes.

`python benchmarks/agreement.py` asks all held-out questions; here it is a few of each category, in forms that are
written in a moment; `make test-full` asks all, and what real exporters write.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.engine
BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
WAYS = 4

Agreeing = Callable[..., str]


@pytest.fixture
def agreeing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Agreeing:
    """What `agreement.py` says, called with words; it must find that enough is equal."""
    for module in ("llama_cpp", "anyform_samples"):
        pytest.importorskip(module)
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def call(*words: str) -> str:
        monkeypatch.setattr("sys.argv", ["agreement", *words])
        import agreement

        code = agreement.main()
        told = capsys.readouterr().out
        assert code == 0, told
        return told

    return call


def test_transformers_answers_alike(agreeing: Agreeing) -> None:
    """Alone and among 32 at once, streamed and not."""
    pytest.importorskip("torch")
    told = agreeing("--form", "safetensors", "--per-category", "4")
    assert told.count("100.0%, 36 of 36 equal") == WAYS, told


def test_written_graphs_answer_alike(agreeing: Agreeing) -> None:
    """Those of the two onnxruntimes that are installed, without torch."""
    import forms

    pytest.importorskip("onnxruntime")
    written = [name for name in ("onnx", "onnx_export", "onnx_genai") if not forms.FORMS[name].missing()]
    asked = [word for name in written for word in ("--form", name)]
    told = agreeing(*asked, "--per-category", "3", "--way", "alone", "--way", "32 at once, streamed")
    assert told.count("100.0%, 27 of 27 equal") == 2 * len(written), told


@pytest.mark.full
@pytest.mark.parametrize("form", ["safetensors", "onnx", "onnx_export", "onnx_genai", "builder", "exporter"])
def test_all_held_out_questions_are_answered_alike(agreeing: Agreeing, form: str) -> None:
    """At least 99% of 540, in each way of asking."""
    import forms

    if missing := forms.FORMS[form].missing():
        pytest.skip(f"{', '.join(missing)} not installed")
    assert agreeing("--form", form).count(" of 540 equal") == WAYS


@pytest.mark.full
@pytest.mark.parametrize("form", ["onnx_int8", "int8", "int4"])
def test_smaller_numbers_are_told_of(agreeing: Agreeing, form: str) -> None:
    import forms

    if missing := forms.FORMS[form].missing():
        pytest.skip(f"{', '.join(missing)} not installed")
    assert agreeing("--form", form, "--way", "alone").count(" of 540 equal") == 1
