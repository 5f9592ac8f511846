"""`anyform explain MODEL`: which backend runs a model, and why; with --try, which of them really load it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

from anyform.cli import document
from anyform.cli.arguments import add_inspection, task
from anyform.cli.background import waited
from anyform.cli.complaint import printed
from anyform.cli.opening import opened_for, spelled
from anyform.cli.table import pairs, wrapped
from anyform.cli.terminal import Terminal, errors, output
from anyform.cli.unread import tables
from anyform.contract.errors import Fault
from anyform.contract.facts import Finding, Plan, Severity, fact
from anyform.kernel.units import size

if TYPE_CHECKING:
    from anyform.kernel.router import Decision
    from anyform.kernel.runtime import Runtime

MOST = 3
"""Kinds of damage that are told: a truncated file may lack hundreds of tensors. `anyform show` lists all."""


@fact
class Tried:
    """One backend that was asked to load the model, in a worker of its own."""

    backend: str
    """As the table calls it."""
    loads: bool
    took_s: float
    """Until it was loaded, or given up."""
    reductions: tuple[str, ...] = ()
    """What had to be reduced, in words."""
    failures: tuple[str, ...] = ()
    """What each try before met."""


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    add_inspection(parser)
    parser.add_argument(
        "--task", type=task, metavar="T", help="chat, complete, embed, ... (default: the model's main task)"
    )
    parser.add_argument(
        "--try", action="store_true", dest="attempt", help="have each of them load it, in turn, in a worker of its own"
    )


def execute(args: Namespace) -> int:
    """Print the decision; 1 if no backend passes, or with --try if none loads the model."""
    with opened_for(args, absent="look") as (runtime, name):
        decision = runtime.explain(spelled(runtime, args, name), args.task)
        decision = replace(decision, notes=(*decision.notes, *tables(runtime.plugins)))
        if not args.json:
            _print(output(), decision, () if decision.plan else runtime.findings(runtime.find(name)))
        if not args.attempt:
            if args.json:
                document.show(decision)
            return 0 if decision.plan else 1
        tried = []
        for one in _tries(runtime, decision):
            tried.append(one)
            if not args.json:
                _tell(output(), one, len(tried))
    if args.json:
        document.show({**document.plain(decision), "tried": tried})
    return 0 if any(one.loads for one in tried) else 1


def _tries(runtime: Runtime, decision: Decision) -> Iterator[Tried]:
    """Each plan in turn, reduced step by step as at a load; what was learnt before is left aside."""
    from anyform.kernel.router import called
    from anyform.workers.attempt import attempts

    entry, terminal = runtime.find(decision.model), errors()
    reductions = {(state.plugin, state.backend.name): state.backend.reductions for state in runtime.capabilities(False)}
    asked_context = runtime.rule(entry).settings.context is not None
    for plan, verdict in zip(decision.plans, decision.verdicts, strict=False):
        name, began = called(verdict, decision.verdicts), monotonic()
        failures: list[str] = []
        whys: tuple[str, ...] = ()
        loads = False
        for attempt in attempts(plan, reductions[plan.plugin, plan.backend], {}, "", asked_context):
            whys = attempt.whys
            fault = _fault(runtime, attempt.plan, name, terminal)
            if fault is None:
                loads = True
                break
            failures.append(" ".join([str(fault), *(f"It printed: {line}" for line in printed(fault.details))]))
        took_s = round(monotonic() - began, 3)
        yield Tried(
            backend=name, loads=loads, took_s=took_s, reductions=whys if loads else (), failures=tuple(failures)
        )


def _fault(runtime: Runtime, plan: Plan, name: str, terminal: Terminal) -> Fault | None:
    """Why *plan* cannot be loaded; None if it can."""
    try:
        waited(
            lambda: runtime.loads.at("worker").rehearse(plan),
            lambda seconds: terminal.status(f"{name} loads … {seconds:.0f} s"),
        )
    except Fault as fault:
        return fault
    finally:
        terminal.status("")
    return None


def _tell(terminal: Terminal, tried: Tried, place: int) -> None:
    if place == 1:
        terminal.line()
    less = f", with less: {'; '.join(tried.reductions)}" if tried.reductions else ""
    said = f"loads, in {tried.took_s:.1f} s{less}" if tried.loads else f"does not load, after {tried.took_s:.1f} s"
    first, *more = wrapped(f"{place} {tried.backend}: {said}", terminal.width)
    terminal.line(terminal.paint(first, "green" if tried.loads else "red"))
    for line in (*more, *(part for failure in tried.failures for part in wrapped(failure, terminal.width, 4))):
        terminal.line(f"    {line}")


def _lines(decision: Decision) -> Iterator[str]:
    """The table; where several forms pass, each line says which it is about."""
    several = len({verdict.format for verdict in decision.verdicts if verdict.points is not None}) > 1
    for line, verdict in zip(decision.lines(), decision.verdicts, strict=True):
        yield f"{line} · of {verdict.format}" if several and verdict.points is not None else line


def _print(terminal: Terminal, decision: Decision, findings: Sequence[Finding]) -> None:
    for line in _lines(decision):
        style = "dim" if line.startswith("-") else "green" if line.startswith("1 ") else ""
        for part in wrapped(line, terminal.width):
            terminal.line(terminal.paint(part, style))
    facts = [
        ("model", decision.model),
        ("task", decision.task or ""),
        ("context", f"{decision.context}: {decision.context_why}" if decision.context else ""),
        ("memory", f"{size(decision.estimate_bytes)} estimated" if decision.estimate_bytes else ""),
    ]
    terminal.line()
    pairs(terminal, [(name, value) for name, value in facts if value])
    broken = dict.fromkeys(finding.text for finding in findings if finding.severity is Severity.CRITICAL)
    said = " ".join(verdict.refusal for verdict in decision.verdicts)
    for text in [text for text in broken if text not in said][:MOST]:
        terminal.line(terminal.paint(f"broken: {text}", "red"))
    told = [finding.text for finding in findings if finding.severity is Severity.WARNING]
    for note in (*told, *((decision.context_warning,) if decision.context_warning else ()), *decision.notes):
        terminal.line(terminal.paint(f"note: {note}", "yellow"))
