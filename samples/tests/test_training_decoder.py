"""Training: loss falls, a checkpoint holds all that a run needs to go on, and the rate follows the budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tokenizers")


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    from anyform_samples import train

    monkeypatch.setattr(train, "TOKENIZER_EXAMPLES", 1500)
    return lambda: train.Trainer(tmp_path, seed=1, batch_tokens=512, shares={}, compiled=False)


def test_a_run_goes_on_from_its_checkpoint(begun: Any) -> None:
    from anyform_samples.train import Budget

    first = begun()
    first.run(Budget(tokens=1500), check_s=1e9)
    second = begun()
    second.resume()
    assert second.progress.tokens == first.progress.tokens >= 1500
    assert second.progress.chunk == first.progress.chunk + 1
    for mine, theirs in zip(second.decoder.parameters(), first.decoder.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    second.run(Budget(tokens=8000), check_s=1e9)
    assert second.progress.loss < first.progress.loss


def test_a_budget_ends_by_what_runs_out_first() -> None:
    from anyform_samples.train import Budget

    budget = Budget(seconds=100, tokens=1000)
    assert budget.used(10, 500) == 0.5
    assert budget.used(90, 500) == 0.9
    assert budget.used(1, 2000) == 1


def test_a_corpus_leaves_out_what_it_is_told_to(begun: Any) -> None:
    from dataclasses import replace

    from anyform_samples.batches import chunk_of

    corpus = begun().corpus
    everything = chunk_of(corpus, 0)
    without = chunk_of(replace(corpus, shares={"tools": 0.0, "json": 0.0}), 0)
    assert sum(len(batch.tokens) for batch in without) < 0.9 * sum(len(batch.tokens) for batch in everything)


def test_a_run_begins_from_an_exported_model(begun: Any, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    from anyform_samples import export

    first = begun()
    export.write(first.decoder.state_dict(), first.decoder.shape, first.tokenizer, tmp_path / "sample")
    second = begun()
    with torch.no_grad():
        second.decoder.norm.weight.add_(1)
    second.begin_from(tmp_path / "sample")
    for mine, theirs in zip(second.decoder.parameters(), first.decoder.parameters(), strict=True):
        assert torch.equal(mine, theirs.half().float())
    assert second.progress.tokens == 0
