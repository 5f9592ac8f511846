"""How large a context, and why. Pure.

The rule that decides: what the user says; else what the model was trained for; else a pattern of its name; else a
fallback. What was not asked for is capped by what fits, `(available x share - fixed) / bytes per token`, rounded down
to a power of two; what the user asked for is refused when it does not fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from fnmatch import fnmatchcase

from anyform.contract.facts import MemoryEstimate, fact

FALLBACK = 2048


@fact
class Sizing:
    """How contexts are computed where the user asks for none."""

    share: float = 0.8
    """The part of free memory that a computed context may take."""
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
    largest: int | None = None
    """The largest context that fits, if the estimate knows the cost of a token."""


def size(
    asked: int | None,
    trained: int | None,
    estimate: MemoryEstimate,
    free_bytes: int,
    parallel: int,
    sizing: Sizing | None = None,
    names: Sequence[str] = (),
) -> Context:
    """The context for one request, when *parallel* share the memory. free_bytes 0: unknown, everything fits.

    *names*: what patterns are matched with.
    """
    sizing = sizing or Sizing()
    largest = _largest(estimate, free_bytes, parallel)
    if asked is not None:
        over = trained is not None and asked > trained
        warning = f"context {asked} is over the {trained} that the model was trained for" if over else ""
        return Context(tokens=asked, why="asked for", warning=warning, fits=_holds(asked, largest), largest=largest)
    if trained is None and not estimate.bytes_per_token:
        return Context(tokens=None, why="this model has no context", fits=_holds(0, largest), largest=largest)
    tokens, why = _wanted(trained, sizing, names)
    capped = _computed(estimate, free_bytes, parallel, sizing)
    if capped is None or tokens <= capped:
        return Context(tokens=tokens, why=why, fits=_holds(tokens, largest), largest=largest)
    return Context(
        tokens=capped,
        why=f"what fits in {sizing.share:.0%} of the free memory, of {tokens}: {why}",
        warning=f"context {capped} of {tokens}: more does not fit beside the weights for {parallel} requests at once",
        fits=_holds(capped, largest),
        largest=largest,
    )


def _wanted(trained: int | None, sizing: Sizing, names: Sequence[str]) -> tuple[int, str]:
    """(tokens, why), whatever the memory."""
    if trained is not None:
        return trained, "what the model was trained for"
    for pattern, tokens in sizing.patterns.items():
        if any(fnmatchcase(name.lower(), pattern) for name in names):
            return tokens, f"the model does not say; by its name, {pattern}"
    return sizing.fallback, "the model does not say; the default"


def _holds(tokens: int, largest: int | None) -> bool:
    return largest is None or tokens <= largest


def _largest(estimate: MemoryEstimate, free_bytes: int, parallel: int) -> int | None:
    """Tokens that fit in all of the free memory; -1 if not even the weights do; None if unknown."""
    if free_bytes <= 0:
        return None
    left = free_bytes - estimate.weights_bytes - estimate.overhead_bytes
    if left < 0:
        return -1
    return left // (estimate.bytes_per_token * parallel) if estimate.bytes_per_token else None


def _computed(estimate: MemoryEstimate, free_bytes: int, parallel: int, sizing: Sizing) -> int | None:
    if free_bytes <= 0 or not estimate.bytes_per_token:
        return None
    left = int(free_bytes * sizing.share) - estimate.weights_bytes - estimate.overhead_bytes
    tokens = max(left // (estimate.bytes_per_token * parallel), sizing.least)
    return 1 << (tokens.bit_length() - 1)
