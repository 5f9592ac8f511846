"""What would make a model fit that does not, each with the bytes that it saves. Pure; plugins say what options save."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from anyform.contract.facts import MemoryEstimate, Settings, fact
from anyform.kernel.entry import Entry
from anyform.kernel.units import size


@fact
class Advice:
    """One thing to do."""

    text: str
    """What to type, and what it costs."""
    saves_bytes: int
    enough: bool
    """Whether that alone makes it fit."""

    def __str__(self) -> str:
        return f"{self.text}: {size(self.saves_bytes)} less{'' if self.enough else ', not enough alone'}"


def smaller(entry: Entry, entries: Sequence[Entry]) -> dict[str, int]:
    """Names of *entry*'s variants that are smaller -> how many bytes."""
    others = (one for one in entries if set(one.groups) & set(entry.groups))
    return {one.name: entry.size_bytes - one.size_bytes for one in others if 0 < one.size_bytes < entry.size_bytes}


def advise(
    estimate: MemoryEstimate,
    settings: Settings,
    room_bytes: int,
    largest: int,
    variants: Mapping[str, int],
    alone: bool,
) -> tuple[Advice, ...]:
    """What helps a model that needs more than *room_bytes*, what is enough first.

    *largest*: the largest context that fits; 0 or less: none does. *variants*: names of smaller ones -> bytes less.
    *alone*: whether it lies on an accelerator alone, so that moving a part to main memory helps.
    """
    over = estimate.at(settings) - room_bytes
    found = [*_fewer_tokens(estimate, settings, largest), *_fewer_requests(estimate, settings, over)]
    if variants:
        enough = [name for name in variants if variants[name] >= over]
        name = min(enough, key=variants.__getitem__) if enough else max(variants, key=variants.__getitem__)
        found.append((f"the smaller {name}", variants[name]))
    for saving in estimate.savings:
        if alone or not saving.moves:
            typed = " ".join(f"--option {name}={value}" for name, value in saving.options.items())
            found.append((f"{typed} ({saving.why})", saving.bytes))
    told = [Advice(text=text, saves_bytes=saved, enough=saved >= over) for text, saved in found]
    return tuple(sorted(told, key=lambda one: not one.enough))


def sentence(advice: Sequence[Advice]) -> str:
    """The end of a refusal: what is enough alone, else all of it."""
    if not advice:
        return "Try a smaller quantization"
    return f"Try {'; '.join(map(str, [one for one in advice if one.enough] or advice))}"


def _fewer_tokens(estimate: MemoryEstimate, settings: Settings, largest: int) -> Iterator[tuple[str, int]]:
    if 0 < largest < (settings.context or 0):
        yield f"--context {largest}", estimate.at(settings) - estimate.at(replace(settings, context=largest))


def _fewer_requests(estimate: MemoryEstimate, settings: Settings, over: int) -> Iterator[tuple[str, int]]:
    each, most = estimate.bytes_per_token * (settings.context or 0), settings.parallel or 1
    if each and most > 1:
        fewer = max(most - -(-over // each), 1)
        yield f"--parallel {fewer}", (most - fewer) * each
