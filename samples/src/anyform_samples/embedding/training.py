"""Contrastive training: a question is drawn to the passage that answers it, and away from other sections' passages."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy

from anyform.contract.errors import Invalid
from anyform_samples.embedding import encoder, questions, sections, vocabulary
from anyform_samples.embedding.questions import Question, Variation
from anyform_samples.embedding.sections import Passage


@dataclass(frozen=True)
class Phase:
    """A stretch of a training run."""

    steps: int
    passages: int
    """Passages in a batch."""
    learning_rate: float
    """The highest; it rises at the phase's beginning and falls to its end."""
    deep: bool
    """Whether the layers are used, or the embeddings alone."""


@dataclass(frozen=True)
class Recipe:
    """What a training run depends on; the same recipe on the same machine gives the same weights.

    Most of what there is to learn is which words belong together. The embeddings alone learn that in a tenth of the
    time; the layers begin near the identity, and go on from there.
    """

    phases: tuple[Phase, ...] = (Phase(900, 64, 3e-3, deep=False), Phase(80, 40, 5e-4, deep=True))
    seed: int = 0
    questions: int = 4
    """Questions for each of them."""
    passage_tokens: int = 192
    question_tokens: int = 40
    warmup: int = 40
    temperature: float = 0.05
    written: float = 0.75
    """The share of written questions where a passage has any; the others are made from its words."""
    reassigned_every: int = 150

    @property
    def steps(self) -> int:
        """Of all phases."""
        return sum(phase.steps for phase in self.phases)

    def at(self, step: int) -> tuple[Phase, int]:
        """The phase that *step* lies in, and its number in it."""
        for phase in self.phases:
            if step < phase.steps:
                return phase, step
            step -= phase.steps
        return self.phases[-1], self.phases[-1].steps


@dataclass
class Run:
    """A training run that can be saved after any step and taken up again."""

    recipe: Recipe
    texts: list[Passage]
    asked: list[Question]
    tokenizer: Tokenizer
    model: Any
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
    """Processor time so far."""
    loss: float = math.nan
    answers: dict[int, list[str]] = field(default_factory=dict)
    """Passage -> the written questions that it answers best within their section."""


def begin(recipe: Recipe) -> Run:
    """A run at step 0: the tokenizer trained, the weights random."""
    texts = [passage for section in sections.sections(sections.DOCUMENTATION) for passage in sections.passages(section)]
    chance = random.Random(recipe.seed)
    asked = [said for each in questions.read(questions.TRAINING) for said in questions.phrasings(each, chance)]
    tokenizer = vocabulary.train([*(passage.embedded for passage in texts), *questions.vocabulary_texts()])
    torch.manual_seed(recipe.seed)
    model = encoder.new(tokenizer.get_vocab_size())
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    run = Run(recipe, texts, asked, tokenizer, model, optimizer)
    run.answers = _assigned(run, _common_words(run))
    return run


def save(run: Run, path: Path) -> None:
    """Write a checkpoint; a crash while writing leaves the one before."""
    state = {name: getattr(run, name) for name in ("step", "seconds", "loss", "answers")}
    state |= {"recipe": repr(run.recipe), "model": run.model.state_dict(), "optimizer": run.optimizer.state_dict()}
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def resume(run: Run, path: Path) -> None:
    """Take *run* to where the checkpoint stands. Raises Invalid where that is of another recipe."""
    state = torch.load(path, weights_only=True)
    if state.pop("recipe") != repr(run.recipe):
        raise Invalid(f"{path} was made by another recipe.", "Train with --restart, or with the options of then.")
    run.model.load_state_dict(state.pop("model"))
    run.optimizer.load_state_dict(state.pop("optimizer"))
    for name, value in state.items():
        setattr(run, name, value)


def advance(run: Run) -> None:
    """One step. What is random in it depends on the seed and the step's number, so that resuming changes nothing."""
    begun = time.process_time()
    recipe = run.recipe
    torch.manual_seed(recipe.seed * 1_000_003 + run.step)
    chance = random.Random(f"{recipe.seed} {run.step}")
    if run.step and run.step % recipe.reassigned_every == 0:
        run.answers = _assigned(run, _closeness(run))
    phase, number = recipe.at(run.step)
    for group in run.optimizer.param_groups:
        group["lr"] = phase.learning_rate * _share(number, phase.steps, recipe.warmup)
    run.model.train()
    chosen = _chosen(run, chance, phase.passages)
    variation = Variation(chance)
    asked = [_question(run, place, variation, chance) for place in chosen for _ in range(recipe.questions)]
    passages = [run.texts[place].embedded for place in chosen]
    with torch.autocast("cpu", torch.bfloat16):
        left = encoder.vectors(run.model, run.tokenizer, asked, recipe.question_tokens, deep=phase.deep)
        right = encoder.vectors(run.model, run.tokenizer, passages, recipe.passage_tokens, deep=phase.deep)
    loss = contrast(left, right, [run.texts[place].section for place in chosen], recipe.temperature)
    run.optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    run.optimizer.step()
    run.loss = loss.item() if math.isnan(run.loss) else 0.95 * run.loss + 0.05 * loss.item()
    run.step += 1
    run.seconds += time.process_time() - begun


def contrast(left: torch.Tensor, right: torch.Tensor, names: Sequence[str], temperature: float) -> torch.Tensor:
    """Symmetric InfoNCE between questions [passages * n, d] and passages [passages, d], n questions for each in order.

    Other passages of a question's own section (*names*, one a passage) count neither for nor against it.
    Oord, Li, Vinyals: Representation learning with contrastive predictive coding, 2018, equation 4.
    """
    each = left.shape[0] // right.shape[0]
    places = torch.arange(right.shape[0])
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    groups = torch.tensor([numbers[name] for name in names])
    own = places.repeat_interleave(each).unsqueeze(1) == places
    same = groups.repeat_interleave(each).unsqueeze(1) == groups
    scores = (left @ right.T / temperature).masked_fill(same & ~own, -torch.inf)
    to_passages = cross_entropy(scores, places.repeat_interleave(each))
    to_questions = -scores.T.log_softmax(dim=1)[own.T].mean()
    return (to_passages + to_questions) / 2


def embedder(run: Run) -> Callable[[Sequence[str]], Any]:
    """The model as it is now, as a function from texts to an array of vectors."""
    deep = run.recipe.at(run.step)[0].deep

    def embed(texts: Sequence[str]) -> Any:
        run.model.eval()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            return encoder.vectors(run.model, run.tokenizer, texts, deep=deep).numpy()

    return embed


def _share(step: int, steps: int, warmup: int) -> float:
    """Of the learning rate: a linear rise, then a cosine's fall to a fiftieth."""
    return min(1.0, (step + 1) / warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _chosen(run: Run, chance: random.Random, count: int) -> list[int]:
    """Different passages for a batch; those of long sections more rarely, so that no section rules."""
    sizes = Counter(passage.section for passage in run.texts)
    keys = [chance.random() ** math.sqrt(sizes[passage.section]) for passage in run.texts]
    return sorted(range(len(keys)), key=keys.__getitem__)[-count:]


def _question(run: Run, place: int, variation: Variation, chance: random.Random) -> str:
    written = run.answers.get(place)
    if written and chance.random() < run.recipe.written:
        return variation.of(chance.choice(written))
    return variation.made_from(run.texts[place])


def _assigned(run: Run, closeness: torch.Tensor) -> dict[int, list[str]]:
    """Each written question to the closest passage of its section; *closeness* is [questions, passages]."""
    answers: dict[int, list[str]] = {}
    for question, row in zip(run.asked, closeness.tolist(), strict=True):
        places = [place for place, passage in enumerate(run.texts) if passage.section == question.section]
        answers.setdefault(max(places, key=row.__getitem__), []).append(question.text)
    return answers


def _closeness(run: Run) -> torch.Tensor:
    """By the model as it is now."""
    embed = embedder(run)
    asked = torch.from_numpy(embed([question.text for question in run.asked]))
    return asked @ torch.from_numpy(embed([passage.embedded for passage in run.texts])).T


def _common_words(run: Run) -> torch.Tensor:
    """By the words that question and passage share, rare ones counting more: for a model that knows nothing yet."""
    words = [set(run.tokenizer.encode(passage.text).ids) for passage in run.texts]
    spread = Counter(word for passage in words for word in passage)
    rarity = {word: math.log(len(words) / count) for word, count in spread.items()}
    asked = [set(run.tokenizer.encode(question.text).ids) for question in run.asked]
    return torch.tensor([[sum(rarity[word] for word in question & passage) for passage in words] for question in asked])
