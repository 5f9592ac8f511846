"""Contrastive training: its losses by hand, teachers and their student, and that a resumed run is the same run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from anyform.contract.errors import Invalid

torch = pytest.importorskip("torch")
pytest.importorskip("tokenizers")
pytest.importorskip("transformers")

from anyform_samples.embedding import export, gguf, training  # noqa: E402

PHASES = (training.Phase(2, 6, 1e-3, deep=False), training.Phase(2, 6, 1e-3, deep=True))
WORDS = "embeddings.word_embeddings.weight"
TINY = training.Recipe(phases=PHASES, passage_tokens=24, question_tokens=8)


Rows = list[list[float]]


def loss(asked: Rows, passages: Rows, owners: list[int], answers: list[int], temperature: float = 0.5) -> float:
    rows = torch.tensor(asked), torch.tensor(passages)
    return training.contrast(*rows, torch.tensor(owners), torch.tensor(answers), temperature).item()


def test_the_loss_is_info_nce_over_sections() -> None:
    by_hand = -math.log(math.exp(2) / (math.exp(2) + 1))
    assert loss([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]], [0, 1], [0, 1]) == pytest.approx(by_hand, abs=1e-6)


def test_a_section_is_scored_by_the_sum_of_its_passages() -> None:
    passages = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]
    by_hand = -math.log((math.exp(2) + 1) / (math.exp(2) + 1 + math.exp(-2)))
    assert loss([[1.0, 0.0]], passages, [0, 0, 1], [0]) == pytest.approx(by_hand, abs=1e-6)


def test_a_question_far_from_its_section_has_a_finite_loss() -> None:
    assert 50 < loss([[1.0, 0.0]], [[1.0, 0.0], [-1.0, 0.0]], [0, 1], [1], temperature=0.01) < math.inf


def test_agreement_is_the_divergence_from_the_teachers() -> None:
    wanted = torch.tensor([[0.0, 0.5 * math.log(3)]])
    by_hand = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert training.agreement(torch.zeros(1, 2), wanted, 0.5).item() == pytest.approx(by_hand, abs=1e-6)
    assert training.agreement(wanted, wanted, 0.5).item() == pytest.approx(0, abs=1e-6)


def finished(recipe: training.Recipe) -> training.Run:
    run = training.begin(recipe)
    while run.step < recipe.steps:
        training.advance(run)
    return run


def test_a_student_learns_from_its_teachers_and_leaves_them_as_they_are() -> None:
    teachers = [finished(training.Recipe(PHASES[:1], seed=seed, width=128)) for seed in (1, 2)]
    known = [torch.cat([weights.flatten() for weights in run.model.state_dict().values()]) for run in teachers]
    alone, taught = training.begin(TINY), training.begin(TINY, teachers)
    for run in (alone, taught):
        training.advance(run)
    assert not torch.equal(alone.model.state_dict()[WORDS], taught.model.state_dict()[WORDS])
    after = [torch.cat([weights.flatten() for weights in run.model.state_dict().values()]) for run in teachers]
    assert all(map(torch.equal, known, after))


@pytest.mark.parametrize("seed", range(3))
def test_no_two_runs_of_the_shipped_recipe_share_a_seed(seed: int) -> None:
    recipe = training.shipped(seed)
    seeds = [recipe.seed, *(teacher.seed for teacher in recipe.teachers)]
    assert len(set(seeds)) == len(seeds) == 5


@pytest.mark.full
def test_a_resumed_run_gives_the_same_weights(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    teachers = [finished(training.Recipe(PHASES[:1], seed=1, width=128))]
    whole, first, second = (training.begin(TINY, teachers) for _ in range(3))
    for _ in range(TINY.steps):
        training.advance(whole)
    for _ in range(3):
        training.advance(first)
    training.save(first, tmp_path / "checkpoint.pt")
    training.resume(second, tmp_path / "checkpoint.pt")
    training.advance(second)
    assert second.step == TINY.steps
    mine, other = whole.model.state_dict(), second.model.state_dict()
    assert all(torch.equal(mine[name], other[name]) for name in mine)


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    training.save(training.begin(TINY), tmp_path / "checkpoint.pt")
    with pytest.raises(Invalid, match="another recipe"):
        training.resume(training.begin(training.Recipe(seed=5)), tmp_path / "checkpoint.pt")


def test_the_export_holds_all_that_its_readers_look_for(tmp_path: Path) -> None:
    run = training.begin(TINY)
    export.write(run.model, run.tokenizer, tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "modules.json",
        "sentence_bert_config.json", "1_Pooling/config.json", export.GGUF,
    }  # fmt: skip
    assert gguf.write(tmp_path, tmp_path / "half.gguf", "F16").stat().st_size > 1_000_000
