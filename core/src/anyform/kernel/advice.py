"""What would make a model fit that does not, each with the bytes that it saves. Pure; plugins say what options save."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from anyform.contract.facts import Saving, Settings, fact
from anyform.kernel.context import most
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
    savings: Sequence[Saving],
    settings: Settings,
    needs: Callable[[Settings], int],
    room_bytes: int,
    trained: int | None,
    variants: Mapping[str, int],
    alone: bool,
) -> tuple[Advice, ...]:
    """What helps a model that with *settings* needs more than *room_bytes*, what is enough first.

    *needs*: bytes with other settings. *trained*: tokens, over which no context is advised. *variants*: names of
    smaller ones -> bytes less. *alone*: whether it lies on an accelerator alone, so that moving a part to main memory
    helps.
    """
    total = needs(settings)
    over = total - room_bytes
    less = _less(settings, lambda asked: needs(asked) <= room_bytes, trained)
    found = [(text, total - needs(asked)) for text, asked in less]
    if variants:
        enough = [name for name in variants if variants[name] >= over]
        name = min(enough, key=variants.__getitem__) if enough else max(variants, key=variants.__getitem__)
        found.append((f"the smaller {name}", variants[name]))
    for saving in savings:
        if alone or not saving.moves:
            typed = " ".join(f"--option {name}={value}" for name, value in saving.options.items())
            found.append((f"{typed} ({saving.why})", saving.bytes))
    told = [Advice(text=text, saves_bytes=saved, enough=saved >= over) for text, saved in found if saved > 0]
    return tuple(sorted(told, key=lambda one: not one.enough))


def sentence(advice: Sequence[Advice]) -> str:
    """The end of a refusal: what is enough alone, else all of it."""
    if not advice:
        return "Try a smaller quantization"
    return f"Try {'; '.join(map(str, [one for one in advice if one.enough] or advice))}"


def _less(settings: Settings, fits: Callable[[Settings], bool], trained: int | None) -> Iterator[tuple[str, Settings]]:
    """The largest context and the most requests at once that fit, as they are typed; both, where neither does alone."""
    tokens, at_once = min(settings.context or 0, trained or settings.context or 0), settings.parallel or 1
    context = most(tokens, lambda number: fits(replace(settings, context=number)))
    if context:
        yield f"--context {context}", replace(settings, context=context)
    if at_once > 1:
        fewer = replace(settings, parallel=most(at_once - 1, lambda n: fits(replace(settings, parallel=n))) or 1)
        yield f"--parallel {fewer.parallel}", fewer
        context = 0 if context or fits(fewer) else most(tokens, lambda number: fits(replace(fewer, context=number)))
        if context:
            yield f"--context {context} --parallel 1", replace(fewer, context=context)
