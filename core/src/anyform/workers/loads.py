"""Loads what was decided: reduces step by step, then falls back to the next backend. Every step is noted and told."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from anyform.contract.errors import Fault, Invalid, LoadFailed, OutOfMemory
from anyform.contract.facts import MemoryEstimate, Plan
from anyform.contract.model import LoadedModel
from anyform.kernel.news import News
from anyform.kernel.residence import Admit, Held, Loader, Order
from anyform.kernel.router import Decision, called
from anyform.kernel.rule import Rule
from anyform.workers.attempt import Attempt, attempts
from anyform.workers.learned import Learned

log = logging.getLogger("anyform")


class Loads:
    """Loads on this machine."""

    def __init__(self, loaders: Mapping[str, Loader], usual: str, learned: Learned, news: News) -> None:
        """*loaders*: by where they load: worker, here. *usual*: where, when nothing else is said."""
        self._loaders, self._usual, self._learned, self._news = loaders, usual, learned, news

    def at(self, where: str = "") -> Loader:
        """The loader of that place. Raises Invalid for a place that there is not."""
        loader = self._loaders.get(where or self._usual)
        if loader is None:
            raise Invalid(f"where is {where!r}.", f"It can be {' or '.join(sorted(self._loaders))}.")
        return loader

    def run(self, order: Order, admit: Admit) -> tuple[LoadedModel, Held]:
        """The first plan that can be loaded; raises the last fault if none can, with what was tried in its details."""
        decision, notes = order.decision, list[str]()
        last: Fault | None = None
        plans = list(zip(decision.plans, decision.estimates, strict=True))
        for plan, estimate in plans if order.rule.fallback else plans[:1]:
            try:
                model, attempt = self._by(plan, estimate, order, admit, notes)
            except (LoadFailed, OutOfMemory) as fault:
                last = fault
                continue
            warned = (decision.context_warning,) if decision.context_warning else ()
            held = Held(
                plan=attempt.plan,
                asked=order.wanted,
                decision=replace(decision, plan=attempt.plan),
                reductions=attempt.whys,
                notes=(*warned, *notes, *getattr(model, "notes", ())),
                needs=_needs(attempt.plan, estimate),
            )
            _say(held, getattr(model, "runs_on", ""))
            return model, held
        assert last is not None
        last.details["tried"] = notes
        raise last

    def _by(
        self, plan: Plan, estimate: MemoryEstimate | None, order: Order, admit: Admit, notes: list[str]
    ) -> tuple[LoadedModel, Attempt]:
        """Load with one backend, reducing step by step. Raises the last fault that tells why when every step fails."""
        info, key = order.known[plan.plugin, plan.backend]
        learned = self._learned.options(key)
        crashed, last, refused = False, None, None
        asked_context = order.wanted.context is not None
        for attempt in attempts(plan, info.reductions, learned or {}, self._learned.why(key), asked_context):
            needs = _needs(attempt.plan, estimate)
            if needs == refused:
                continue  # less of something else makes no room
            try:
                refused = needs
                admit(needs)
                refused = None
                model = self._one(attempt.plan, estimate, order.rule, rehearse=bool(info.engine) and learned is None)
            except (LoadFailed, OutOfMemory) as fault:
                if last is None or isinstance(last, OutOfMemory) or not isinstance(fault, OutOfMemory):
                    last = fault  # what only a reduced try ran out of is not why the model does not load
                crashed = crashed or bool(fault.details.get("crashed"))
                notes.append(f"{_runner(plan, order.decision)} failed{_reduced(attempt)}: {fault.message}")
                output = fault.details.get("output")
                log.warning("%s: %s%s", plan.model, notes[-1], f" It said last: {output}" if output else "")
                continue
            if crashed or learned is None:
                why = "; ".join(attempt.whys) if crashed else ""
                self._learned.remember(key, attempt.options if crashed else {}, why)
            notes.extend(f"loaded with less: {why}" for why in attempt.whys)
            return model, attempt
        assert last is not None
        raise last

    def _one(self, plan: Plan, estimate: MemoryEstimate | None, rule: Rule, rehearse: bool) -> LoadedModel:
        loader = self.at(rule.where)
        total = estimate.at(plan.settings) if estimate else 0
        about = {"plugin": plan.plugin, "backend": plan.backend, "total_bytes": total}
        self._news.tell("loading", plan.model, **about)
        if rehearse and not loader.isolated:
            loader.rehearse(plan)
        return loader.load(
            plan, lambda there: self._news.tell("progress", plan.model, done_bytes=there, total_bytes=total)
        )


def _needs(plan: Plan, estimate: MemoryEstimate | None) -> dict[str, int]:
    """Bytes by device; empty where nothing is known."""
    if estimate is None or not plan.devices:
        return {}
    needs = estimate.spread(plan.settings, plan.devices[0].id)
    first, *spill = plan.devices
    over = needs[first.id] - first.free_bytes
    if spill and over > 0:
        needs[first.id] -= over
        needs[spill[0].id] = needs.get(spill[0].id, 0) + over
    return needs


def _runner(plan: Plan, decision: Decision) -> str:
    """What it runs by, as users know it."""
    own = (verdict for verdict in decision.verdicts if (verdict.plugin, verdict.backend) == (plan.plugin, plan.backend))
    return next((called(verdict, decision.verdicts) for verdict in own), plan.plugin)


def _reduced(attempt: Attempt) -> str:
    return f" with {', '.join(f'{k}={v}' for k, v in attempt.options.items())}" if attempt.options else ""


def _say(held: Held, runs_on: str) -> None:
    plan, context = held.plan, held.plan.settings.context
    where = ", ".join(device.id for device in plan.devices) + (f" ({runs_on})" if runs_on else "")
    sized = f", context {context} ({held.decision.context_why})" if context is not None else ""
    log.info("%s: loaded by %s on %s%s", plan.model, _runner(plan, held.decision), where, sized)
    for note in held.notes:
        log.warning("%s: %s", plan.model, note)
