"""How large a context, and why. Pure.

The rule that decides: what the user says; else what the model was trained for; else a pattern of its name; else a
fallback. What was not asked for is capped by what fits in a share of the memory, rounded down to a power of two; what
the user asked for is refused when it does not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from fnmatch import fnmatchcase

from anyform.contract.facts import MemoryEstimate, Settings, fact

FALLBACK = 2048


@fact
class Sizing:
    """How contexts are computed where the user asks for none."""

    share: float = 0.8
    """The part of what a model may take that its computed context, with all else, may fill."""
    fallback: int = FALLBACK
    """Tokens for a model of which nothing is known."""
    least: int = 256
    """Tokens below which a context is never capped."""
    patterns: Mapping[str, int] = field(default_factory=dict)
    """fnmatch pattern of a model's name, in lower case -> tokens; the first that matches counts."""


@fact
class Context:
    """tokens: None for a model that has no context; why: the rule in words; fits: whether it does."""

    tokens: int | None
    why: str
    warning: str = ""
    fits: bool = True


def size(
    settings: Settings,
    trained: int | None,
    estimate: MemoryEstimate,
    needs: Callable[[Settings], int],
    free_bytes: int,
    sizing: Sizing | None = None,
    names: Sequence[str] = (),
) -> Context:
    """The context for one request, with *settings* otherwise. free_bytes 0: unknown, everything fits.

    *estimate*: with *settings* as they are. *needs*: bytes with others. *names*: what patterns are matched with.
    """
    sizing, asked, at_once = sizing or Sizing(), settings.context, settings.parallel or 1

    def holds(tokens: int | None, part: float = 1.0) -> bool:
        return free_bytes <= 0 or needs(replace(settings, context=tokens)) <= free_bytes * part

    if asked is not None:
        over = trained is not None and asked > trained
        warning = f"context {asked} is over the {trained} that the model was trained for" if over else ""
        return Context(tokens=asked, why="asked for", warning=warning, fits=holds(asked))
    if trained is None and not estimate.bytes_per_token:
        return Context(tokens=None, why="this model has no context", fits=holds(None))
    tokens, why = _wanted(trained, sizing, names)
    if not estimate.bytes_per_token or holds(tokens, sizing.share):
        return Context(tokens=tokens, why=why, fits=holds(tokens))
    capped = 1 << (max(most(tokens, lambda number: holds(number, sizing.share)), sizing.least).bit_length() - 1)
    if tokens <= capped:
        return Context(tokens=tokens, why=why, fits=holds(tokens))
    why = f"what fits in {sizing.share:.0%} of the memory that it may take, of {tokens}: {why}"
    warning = f"context {capped} of {tokens}: more does not fit beside the weights for {at_once} requests at once"
    return Context(tokens=capped, why=why, warning=warning, fits=holds(capped))


def most(end: int, holds: Callable[[int], bool]) -> int:
    """The largest number up to *end* that *holds*, as then all smaller ones do; 0: none from 1 up."""
    least = 0
    while least < end:
        middle = (least + end + 1) // 2
        least, end = (middle, end) if holds(middle) else (least, middle - 1)
    return least


def _wanted(trained: int | None, sizing: Sizing, names: Sequence[str]) -> tuple[int, str]:
    """(tokens, why), whatever the memory."""
    if trained is not None:
        return trained, "what the model was trained for"
    for pattern, tokens in sizing.patterns.items():
        if any(fnmatchcase(name.lower(), pattern) for name in names):
            return tokens, f"the model does not say; by its name, {pattern}"
    return sizing.fallback, "the model does not say; the default"
