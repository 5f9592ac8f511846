"""How large a context, and why. Pure.

The rule that decides: what the user says; else what the model was trained for; capped by what fits,
`(available * SHARE - fixed) / bytes per token`, rounded down to a power of two; else FALLBACK.
Only a computed context is capped; one that the user asked for is refused when it does not fit.
"""

from __future__ import annotations

from anyform.contract.facts import MemoryEstimate, fact

FALLBACK = 2048
SHARE = 0.8
"""The part of free memory that a computed context may take."""
LEAST = 256


@fact
class Context:
    """tokens: None for a model that has no context; why: the rule in words; fits: whether it does."""

    tokens: int | None
    why: str
    warning: str = ""
    fits: bool = True
    largest: int | None = None
    """The largest context that fits, if the estimate knows the cost of a token."""


def size(asked: int | None, trained: int | None, estimate: MemoryEstimate, free_bytes: int, parallel: int) -> Context:
    """The context for one request, when *parallel* share the memory. free_bytes 0: unknown, everything fits."""
    largest = _largest(estimate, free_bytes, parallel)
    if asked is not None:
        fits = largest is None or asked <= largest
        warning = (
            f"context {asked} is over the {trained} that the model was trained for"
            if trained and asked > trained
            else ""
        )
        return Context(tokens=asked, why="asked for", warning=warning, fits=fits, largest=largest)
    if trained is None:
        if not estimate.bytes_per_token:
            return Context(
                tokens=None, why="this model has no context", fits=largest is None or largest >= 0, largest=largest
            )
        return Context(
            tokens=FALLBACK, why="the model does not say; the default", fits=_holds(FALLBACK, largest), largest=largest
        )
    capped = _computed(estimate, free_bytes, parallel)
    if capped is None or trained <= capped:
        return Context(tokens=trained, why="what the model was trained for", largest=largest)
    return Context(
        tokens=capped,
        why=f"what fits in {SHARE:.0%} of the free memory, of the {trained} that the model was trained for",
        warning=f"context {capped} of {trained}: more does not fit beside the weights for {parallel} requests at once",
        fits=_holds(capped, largest),
        largest=largest,
    )


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


def _computed(estimate: MemoryEstimate, free_bytes: int, parallel: int) -> int | None:
    if free_bytes <= 0 or not estimate.bytes_per_token:
        return None
    left = int(free_bytes * SHARE) - estimate.weights_bytes - estimate.overhead_bytes
    tokens = max(left // (estimate.bytes_per_token * parallel), LEAST)
    return 1 << (tokens.bit_length() - 1)
