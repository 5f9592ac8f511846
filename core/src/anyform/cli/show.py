"""`anyform show MODEL`: what a model says of itself, and whether it is sound."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from shlex import quote
from typing import TYPE_CHECKING, Any

from anyform.cli import document
from anyform.cli.arguments import add_inspection
from anyform.cli.opening import opened_for, spelled
from anyform.cli.suiting import states_context
from anyform.cli.table import Cell, amount, pairs
from anyform.cli.terminal import Terminal, output
from anyform.contract.facts import Finding, Metadata, Severity
from anyform.kernel.units import size
from anyform.sources.derived import SOURCE

if TYPE_CHECKING:
    from anyform.kernel.entry import Entry
    from anyform.kernel.router import Decision, Memory

STYLES = {Severity.INFO: "dim", Severity.WARNING: "yellow", Severity.CRITICAL: "red"}
LONG = 200
FEW = 8
"""Languages and voices that are told of many."""
OWN = (
    "languages", "voices", "sample_rate", "speeds",
    "width", "height", "unit", "steps", "scheduler", "schedulers", "scheduler_names",
)  # fmt: skip
"""What models that hear, speak or paint say of themselves beyond the others; told in rows of its own."""


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    add_inspection(parser)
    parser.add_argument("--long", action="store_true", help="print long values, such as chat templates, whole")


def execute(args: Namespace) -> int:
    """Print the model's metadata, files, findings and memory; 1 if it is not sound."""
    with opened_for(args, absent="look") as (runtime, name):
        entry = runtime.find(name)
        metadata, findings = runtime.metadata(entry), runtime.findings(entry)
        decision = runtime.explain(spelled(runtime, args, name))
        memory = [verdict.memory for verdict in runtime.estimate(entry) if verdict.memory]
    if args.json:
        document.show(_document(entry, metadata, findings, decision, memory))
    else:
        own = (*_sound_rows(args.model, metadata.extra), *_picture_rows(metadata.extra))
        _print(output(), entry, metadata, findings, [*_rows(entry, metadata, decision, memory), *own], args.long)
    return 1 if any(finding.severity is Severity.CRITICAL for finding in findings) else 0


def _document(
    entry: Entry, metadata: Metadata, findings: Sequence[Finding], decision: Decision, memory: Sequence[Memory]
) -> dict[str, Any]:
    return {
        "name": entry.name,
        "aliases": entry.aliases,
        "plugin": entry.plugin,
        "here": entry.here,
        "path": entry.path if entry.here else entry.places[0].path,
        "places": entry.places,
        "about": entry.about,
        "size_bytes": entry.size_bytes,
        "match": entry.match,
        "metadata": metadata,
        "findings": findings,
        "backend": decision.plan.backend if decision.plan else None,
        "context": decision.context,
        "context_why": decision.context_why,
        "estimate_bytes": decision.estimate_bytes,
        "memory_bytes": {one.context: one.total_bytes for one in memory if one.context},
    }


def _print(
    terminal: Terminal,
    entry: Entry,
    metadata: Metadata,
    findings: Sequence[Finding],
    rows: Sequence[tuple[str, Cell]],
    long: bool,
) -> None:
    terminal.line(terminal.paint(entry.name, "cyan"))
    pairs(terminal, [(name, value) for name, value in rows if value])
    _section(terminal, "files", [(name, "") for name in entry.match.files])
    more = {name: value for name, value in metadata.extra.items() if name not in OWN}
    _section(terminal, "more", [(name, _short(value, long)) for name, value in _flat(more)])
    store = {name: value for name, value in entry.about.items() if name != SOURCE}
    _section(terminal, "its recipe says", [(name, _short(value, long)) for name, value in _flat(_recipe(entry))])
    _section(terminal, "its store says", [(name, _short(value, long)) for name, value in _flat(store)])
    _section(terminal, "findings", [(one.severity.name.lower(), (one.text, STYLES[one.severity])) for one in findings])


def _rows(entry: Entry, metadata: Metadata, decision: Decision, memory: Sequence[Memory]) -> list[tuple[str, Cell]]:
    loaded = f"{decision.context} tokens ({decision.context_why})" if decision.context else ""
    runs = (
        f"{decision.plan.backend} (plugin {decision.plan.plugin})"
        if decision.plan
        else ("no backend: see explain", "red")
    )
    return [
        ("title", metadata.name),
        ("made from", _origin(entry)),
        ("format", f"{entry.match.format} {metadata.version}".rstrip()),
        ("recognised by", f"{entry.match.why} ({entry.match.evidence.name.lower()})"),
        ("architecture", metadata.architecture),
        ("tasks", " ".join(metadata.tasks)),
        ("features", " ".join(metadata.features)),
        ("parameters", amount(metadata.parameters) if metadata.parameters else ""),
        ("quantization", metadata.quantization),
        _context(metadata),
        ("vocabulary", str(metadata.vocab_size or "")),
        ("tokenizer", metadata.tokenizer),
        ("tensors", str(metadata.tensors or "")),
        ("license", metadata.license),
        ("size", size(entry.size_bytes)),
        ("other forms", "\n".join(f"{match.format}: {match.entry}" for _, match in entry.others)),
        ("also called", ", ".join(entry.aliases)),
        ("folder", entry.path if entry.here else ""),
        ("not here yet", "" if entry.here else f"{entry.places[0].path}: `anyform pull {entry.name}` fetches it"),
        ("also lies in", "\n".join(f"{spot.path} ({spot.source})" for spot in entry.places[1:])),
        ("runs on", runs),
        ("loads with", loaded),
        ("memory", f"{size(decision.estimate_bytes)} estimated" if decision.estimate_bytes else ""),
        ("memory by context", " · ".join(_at(one) for one in memory if one.context)),
        ("what makes it fit", "\n".join(_helps(memory))),
    ]


def _origin(entry: Entry) -> str:
    """What a created model was made from."""
    said = _recipe(entry)
    return str(said.get("base") or "files of its own") if said else ""


def _recipe(entry: Entry) -> Mapping[str, Any]:
    found: Mapping[str, Any] = entry.about[SOURCE] if entry.source == SOURCE else {}
    return found


def _sound_rows(typed: str, extra: Mapping[str, Any]) -> list[tuple[str, Cell]]:
    """What a model hears or how it speaks."""
    voices, speeds = [str(voice.get("id", "")) for voice in extra.get("voices", ())], extra.get("speeds", ())
    listed = f"; `anyform voices --model {quote(typed)}` lists them" if voices else ""
    return [
        ("languages", _few(extra.get("languages"))),
        ("voices", _few(voices) + listed),
        ("sample rate", f"{extra['sample_rate']} a second" if extra.get("sample_rate") else ""),
        ("speeds", f"{speeds[0]:g} to {speeds[1]:g}" if len(speeds) == 2 else ""),
    ]


def _context(metadata: Metadata) -> tuple[str, str]:
    if states_context(metadata):
        return "trained context", str(metadata.context or "")
    return "context", f"{metadata.context}, assumed: the file does not say"


def _picture_rows(extra: Mapping[str, Any]) -> list[tuple[str, Cell]]:
    """How large a model paints, in how many steps, and how."""
    told = (
        f"{extra['width']} x {extra['height']}" if "width" in extra and "height" in extra else "",
        f"sides in multiples of {extra['unit']}" if "unit" in extra else "",
        f"{extra['steps']} steps" if "steps" in extra else "",
    )
    return [
        ("pictures", ", ".join(one for one in told if one)),
        ("scheduler", str(extra.get("scheduler", ""))),
        ("schedulers", _every(extra.get("schedulers"))),
        ("by short names", _every(extra.get("scheduler_names"))),
    ]


def _every(names: Any) -> str:
    """All of them: requests may name each, and nothing else tells them. A plugin may say anything."""
    return " ".join(map(str, names)) if isinstance(names, (list, tuple)) else str(names or "")


def _few(names: Any) -> str:
    """How many there are, and the first of them; a plugin may say anything."""
    if not isinstance(names, (list, tuple)) or not names:
        return str(names or "")
    rest = " …" if len(names) > FEW else ""
    return f"{len(names)}: {' '.join(map(str, names[:FEW]))}{rest}"


def _helps(memory: Sequence[Memory]) -> list[str]:
    """Advice for the smallest context that does not fit."""
    first = next((one for one in memory if one.advice), None)
    return [f"{first.context}: {one}" if first.context else str(one) for one in first.advice] if first else []


def _at(memory: Memory) -> str:
    return f"{memory.context}: {size(memory.total_bytes)}{' (does not fit)' if memory.fits is False else ''}"


def _section(terminal: Terminal, title: str, rows: Sequence[tuple[str, Cell]]) -> None:
    if rows:
        terminal.line()
        terminal.line(terminal.paint(title, "bold"))
        pairs(terminal, [(f"  {name}", value) for name, value in rows])


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested names joined by dots; empty values left out."""
    flat: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat += _flat(value, f"{prefix}{name}.")
        elif value is not None and value != "" and value != () and value != []:
            flat.append((prefix + name, value))
    return flat


def _short(value: Any, long: bool) -> str:
    text = value if isinstance(value, str) else document.text(value)
    if long or len(text) <= LONG:
        return text if long else " ".join(text.split())
    return f"{' '.join(text[:LONG].split())} … ({len(text)} characters; --long shows all)"
