"""What the user's configuration says about one model: how it is loaded, by what, and what requests to it default to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

from anyform.contract.facts import Settings, fact
from anyform.kernel.entry import Entry


@fact
class Rule:
    """Everything is optional; what is not said is decided by the router, the model, or the backend."""

    settings: Settings = Settings()
    """Load-time settings."""
    format: str = ""
    """The form that must be used, where a folder holds the model in several; empty: the router chooses."""
    backend: str = ""
    """The plugin or backend that must run it; empty: the router chooses."""
    fallback: bool = True
    """Whether another backend may take over when loading with the first fails."""
    where: str = ""
    """worker or here; empty: as the runtime was started."""
    pin: bool = False
    """Whether it stays loaded once it is: never evicted, never unloaded when idle."""
    keep_alive_s: float | None = None
    """Seconds that it stays loaded unused; negative: for ever; None: the runtime's own."""
    system: str = ""
    """The system prompt of conversations that bring none."""
    request: Mapping[str, Any] = field(default_factory=dict)
    """What a request leaves out: temperature, max_tokens, steps, ..., by the names of the HTTP interface."""
    messages: tuple[Mapping[str, Any], ...] = ()
    """What every conversation begins with: {"role", "content"} as in the HTTP interface."""


Rules = Callable[[Entry], Rule]
"""What applies to a model: the rules of its name, of patterns, and of its format, laid over each other."""


def over(base: Settings, given: Settings | None) -> Settings:
    """*given* laid over *base*, field by field."""
    if given is None:
        return base
    return Settings(
        context=given.context if given.context is not None else base.context,
        parallel=given.parallel if given.parallel is not None else base.parallel,
        device=given.device if given.device is not None else base.device,
        options={**base.options, **given.options},
    )
