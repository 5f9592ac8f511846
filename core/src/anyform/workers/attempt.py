"""The tries of one load, in order, and what each one means. Pure.

First the settings as planned with what was learnt before; then the same backend with each of its plugin's reductions,
one after the other and cumulatively; then the next backend. Nothing that the user set is ever reduced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from anyform.contract.facts import Plan, Reduction, fact


@fact
class Attempt:
    """One try. options: the reduced options beyond what the user asked for; whys: what they avoid."""

    plan: Plan
    options: Mapping[str, Any]
    whys: tuple[str, ...] = ()


def attempts(
    plan: Plan, reductions: Sequence[Reduction], learned: Mapping[str, Any], learned_why: str, asked_context: bool
) -> Iterator[Attempt]:
    """The tries of one backend. *learned*: options from earlier crashes here, applied from the first try on."""
    user = plan.settings.options
    options = {name: value for name, value in learned.items() if name not in user}
    whys: tuple[str, ...] = (learned_why,) if options and learned_why else ()
    context = plan.settings.context
    yield _attempt(plan, options, context, whys)
    for reduction in reductions:
        fresh = {k: v for k, v in reduction.options.items() if k not in user and options.get(k) != v}
        shrinks = reduction.context_factor != 1.0 and context is not None and not asked_context
        if not fresh and not shrinks:
            continue
        options = {**options, **fresh}
        if shrinks and context is not None:
            context = max(int(context * reduction.context_factor), 1)
        whys = (*whys, reduction.why)
        yield _attempt(plan, options, context, whys)


def _attempt(plan: Plan, options: Mapping[str, Any], context: int | None, whys: tuple[str, ...]) -> Attempt:
    settings = replace(plan.settings, context=context, options={**plan.settings.options, **options})
    return Attempt(plan=replace(plan, settings=settings), options=dict(options), whys=whys)
