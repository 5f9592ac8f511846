"""The next token of every answer in a step, from their rows of logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from anyform.contract.errors import Area, Fault
from anyform.text.sampling import Floats, draw, gap, leading, log_softmax_sum, uniform, weigh
from anyform.text.ticket import Answer, Likelihood


class PickFailed(Fault):
    """No token can follow: the rules of the request exclude all, or the model gave no numbers."""

    code = "no_token"
    area = Area.REQUEST


@dataclass(slots=True)
class Picks:
    """The chosen `tokens`, one for each answer; the dicts are keyed by place among them."""

    tokens: NDArray[np.intp]
    likelihoods: dict[int, Likelihood] = field(default_factory=dict)
    failures: dict[int, Fault] = field(default_factory=dict)


def pick(rows: Floats, answers: Sequence[Answer]) -> Picks:
    """Choose from *rows*, one for each of *answers*. Changes the rows."""
    if all(answer.ticket.plain for answer in answers):
        return _pick_likeliest(rows, answers)
    picks = Picks(np.zeros(len(answers), np.intp))
    for place, answer in enumerate(answers):
        try:
            picks.tokens[place], likelihood = _pick_one(rows[place], answer)
        except Fault as fault:
            picks.failures[place] = fault
        except Exception as error:
            picks.failures[place] = PickFailed(f"no token could be chosen: {type(error).__name__}: {error}.")
        else:
            if likelihood is not None:
                picks.likelihoods[place] = likelihood
    return picks


def _pick_likeliest(rows: Floats, answers: Sequence[Answer]) -> Picks:
    """`pick` for answers that just take the most likely token: one look at all rows."""
    for row, answer in zip(rows, answers, strict=True):
        recipe = answer.ticket.recipe
        if recipe.bias_ids.size:
            row[recipe.bias_ids] += recipe.bias
    picks = Picks(rows.argmax(axis=1))
    best = rows[np.arange(len(rows)), picks.tokens]  # nan where a row has any
    for place in np.flatnonzero(~(best > -np.inf)).tolist():
        picks.failures[place] = _nothing_left(rows[place])
    return picks


def _nothing_left(row: Floats) -> PickFailed:
    if np.isnan(row).any():
        return PickFailed(
            "no token can follow: the model computed nan, which is no number.",
            "Try again; if it happens again, load another variant of the model, or with 32 bits.",
        )
    return PickFailed(
        "no token may come next: grammar, logit_bias and ignore_eos together exclude all of them.",
        "Loosen one of them.",
    )


def _pick_one(row: Floats, answer: Answer) -> tuple[int, Likelihood | None]:
    ticket = answer.ticket
    recipe = ticket.recipe
    raw = row.copy() if ticket.top_logprobs >= 0 else None
    if answer.constraint is not None:
        answer.constraint.mask(row)
    weigh(row, recipe, answer.tokens, len(ticket.prompt))
    if recipe.greedy:
        token = int(row.argmax())
        if not row[token] > -np.inf:
            raise _nothing_left(row)
        distance = gap(row, token) if ticket.wants_gap else np.inf
    else:
        chance = uniform(recipe.seed, answer.index, len(answer.tokens) - len(ticket.prompt))
        token, distance = draw(row, recipe, chance)
        if token < 0:
            raise _nothing_left(row)
    if ticket.wants_gap:
        ticket.smallest_gap = min(ticket.smallest_gap, distance)
    if answer.constraint is not None and token not in ticket.ends:
        answer.constraint.accept(token)
    return token, None if raw is None else likelihood(raw, token, ticket.top_logprobs)


def likelihood(row: Floats, token: int, top: int) -> Likelihood:
    """The log-probability of *token* under *row*, the model's own logits, and the *top* likeliest tokens."""
    base = log_softmax_sum(row)
    best = leading(row, top) if top > 0 else ()
    return Likelihood(float(row[token]) - base, tuple((int(id), float(row[id]) - base) for id in best))


def score(rows: Floats, tokens: Sequence[int], top: int) -> tuple[Likelihood, ...]:
    """How likely each of *tokens* was, given its row."""
    return tuple(likelihood(row, token, top) for row, token in zip(rows, tokens, strict=True))
