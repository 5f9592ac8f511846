"""Contrastive training: a question is drawn to its section's passages, and away from those of all other sections.

A run may also learn from teachers, runs that ended before, how near a question is to each passage.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from anyform.contract.errors import Invalid
from anyform_samples.embedding import encoder, questions, sections, vocabulary
from anyform_samples.embedding.questions import Question, Variation
from anyform_samples.embedding.sections import Passage
from anyform_samples.embedding.vocabulary import Splitting


@dataclass(frozen=True)
class Phase:
    """A stretch of a training run."""

    steps: int
    questions: int
    """Questions in a batch, each compared with all passages."""
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

    phases: tuple[Phase, ...] = (Phase(450, 256, 3e-3, deep=False), Phase(150, 256, 5e-4, deep=True))
    seed: int = 0
    width: int = 256
    teachers: tuple[Recipe, ...] = ()
    taught: float = 0.5
    """The share of the teachers in the loss, where there are any; the rest is the right answers'."""

    passage_tokens: int = 192
    question_tokens: int = 40
    warmup: int = 40
    temperature: float = 0.05
    written: float = 0.75
    """The share of written questions; the others are made from a passage's words."""
    split: float = 0.3
    """The share of words that are split into smaller pieces than need be; a third of it in passages."""

    averaged: float = 0.98
    """How much of the weights' running average a step keeps."""

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


def shipped(seed: int = 0) -> Recipe:
    """The recipe of the shipped encoder: a student of four wider teachers that know words alone, not their order."""
    words = Recipe().phases[:1]
    teachers = tuple(Recipe(words, seed=100 * seed + number, width=384) for number in range(1, 5))
    return Recipe(seed=seed, teachers=teachers)


@dataclass(frozen=True)
class Teacher:
    """What a run learnt: a model that stays as it is, and the passages' vectors in it, [passages, width]."""

    model: Any
    passages: torch.Tensor
    deep: bool

    def similarities(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """Of questions, as token ids, to the passages: [questions, passages]."""
        with torch.no_grad():
            return encoder.of_tokens(self.model, rows, deep=self.deep) @ self.passages.T


@dataclass
class Run:
    """A training run that can be saved after any step and taken up again."""

    recipe: Recipe
    texts: list[Passage]
    asked: Mapping[str, Sequence[Question]]
    """Section -> its written questions, in all their phrasings."""
    tokenizer: Tokenizer
    splitting: Splitting
    model: Any
    optimizer: torch.optim.Optimizer
    average: dict[str, torch.Tensor]
    """The weights' running average: what is measured and exported."""
    teachers: Sequence[Teacher] = ()
    step: int = 0
    seconds: float = 0.0
    """Processor time so far."""
    loss: float = math.nan


def begin(recipe: Recipe, teachers: Sequence[Run] = ()) -> Run:
    """A run at step 0: the tokenizer trained, the weights random. *teachers* have run to their ends."""
    texts = [passage for section in sections.sections(sections.DOCUMENTATION) for passage in sections.passages(section)]
    chance = random.Random(recipe.seed)
    asked: dict[str, list[Question]] = {passage.section: [] for passage in texts}
    for question in questions.read(questions.TRAINING):
        asked[question.section].extend(questions.phrasings(question, chance))
    tokenizer = vocabulary.train([*(passage.embedded for passage in texts), *questions.vocabulary_texts()])
    torch.manual_seed(recipe.seed)
    model = encoder.new(tokenizer.get_vocab_size(), recipe.width)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    average = {name: weights.clone() for name, weights in model.state_dict().items()}
    learnt = tuple(map(_teacher, teachers))
    return Run(recipe, texts, asked, tokenizer, Splitting(tokenizer), model, optimizer, average, learnt)


def _teacher(run: Run) -> Teacher:
    passages = torch.from_numpy(embedder(run)([passage.embedded for passage in run.texts]))
    return Teacher(averaged(run).eval(), passages, run.recipe.phases[-1].deep)


def save(run: Run, path: Path) -> None:
    """Write a checkpoint; a crash while writing leaves the one before."""
    state = {name: getattr(run, name) for name in ("step", "seconds", "loss", "average")}
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
    phase, number = recipe.at(run.step)
    for group in run.optimizer.param_groups:
        group["lr"] = phase.learning_rate * _share(number, phase.steps, recipe.warmup)
    run.model.train()
    loss = _loss(run, phase, chance)
    run.optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    run.optimizer.step()
    for name, weights in run.model.state_dict().items():
        run.average[name].lerp_(weights, 1 - recipe.averaged)
    run.loss = loss.item() if math.isnan(run.loss) else 0.95 * run.loss + 0.05 * loss.item()
    run.step += 1
    run.seconds += time.process_time() - begun


def contrast(
    asked: torch.Tensor, passages: torch.Tensor, owners: torch.Tensor, answers: torch.Tensor, temperature: float
) -> torch.Tensor:
    """How surely questions [n, d] find their sections *answers* [n], given passages [m, d] and their sections [m].

    InfoNCE (Oord, Li, Vinyals: Representation learning with contrastive predictive coding, 2018, equation 4), where the
    score of a section is the sum of its passages': the nearest one decides, as it does in a search.
    """
    scores = asked @ passages.T / temperature
    scores = (scores - scores.detach().amax(dim=1, keepdim=True)).exp()
    sums = torch.zeros(len(asked), int(owners.max()) + 1).index_add(1, owners, scores)
    return cross_entropy(sums.clamp_min(torch.finfo(sums.dtype).tiny).log(), answers)


def agreement(similar: torch.Tensor, wanted: torch.Tensor, temperature: float) -> torch.Tensor:
    """How far questions' similarities to passages [n, m] are from those that teachers have, as distributions.

    The Kullback-Leibler divergence from the teachers' softmax (Hinton, Vinyals, Dean: Distilling the knowledge in a
    neural network, 2015).
    """
    found, aim = (log_softmax(each / temperature, dim=1) for each in (similar, wanted))
    return kl_div(found, aim, reduction="batchmean", log_target=True)


def embedder(run: Run) -> Callable[[Sequence[str]], Any]:
    """The average of the weights as it is now, as a function from texts to an array of vectors."""
    model = averaged(run).eval()
    deep = run.recipe.at(run.step)[0].deep

    def embed(texts: Sequence[str]) -> Any:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            return encoder.vectors(model, run.tokenizer, texts, deep=deep).numpy()

    return embed


def averaged(run: Run) -> Any:
    """A model of its own with the average of the weights."""
    model = encoder.new(run.tokenizer.get_vocab_size(), run.recipe.width)
    model.load_state_dict(run.average)
    return model


def _share(step: int, steps: int, warmup: int) -> float:
    """Of the learning rate: a linear rise, then a cosine's fall to a fiftieth."""
    return min(1.0, (step + 1) / warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _loss(run: Run, phase: Phase, chance: random.Random) -> torch.Tensor:
    """Of new questions, each section asked for as often as any other, against all passages."""
    recipe = run.recipe
    places = {section: place for place, section in enumerate(run.asked)}
    variation = Variation(chance)
    chosen = chance.choices(list(places), k=phase.questions)
    asked = [_question(run, section, variation, chance) for section in chosen]
    owners = torch.tensor([places[passage.section] for passage in run.texts])
    with torch.autocast("cpu", torch.bfloat16):
        rows = [run.splitting.ids(text, chance, recipe.split, recipe.question_tokens) for text in asked]
        left = encoder.of_tokens(run.model, rows, deep=phase.deep)
        read = [run.splitting.ids(each.embedded, chance, recipe.split / 3, recipe.passage_tokens) for each in run.texts]
        right = encoder.of_tokens(run.model, read, deep=phase.deep)
        wanted = [teacher.similarities(rows) for teacher in run.teachers]
    loss = contrast(left, right, owners, torch.tensor([places[section] for section in chosen]), recipe.temperature)
    if not wanted:
        return loss
    taught = agreement(left @ right.T, torch.stack(wanted).mean(0), recipe.temperature)
    return torch.lerp(loss, taught, recipe.taught)


def _question(run: Run, section: str, variation: Variation, chance: random.Random) -> str:
    if chance.random() < run.recipe.written:
        return variation.of(chance.choice(run.asked[section]).text)
    return variation.made_from(chance.choice([passage for passage in run.texts if passage.section == section]))
