"""How long models stay, how many, and how long anything may take: the settings of the table [lifecycle]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from anyform.contract.facts import fact


@fact
class Lifecycle:
    """Times in seconds, sizes in bytes."""

    idle_s: float = 300.0
    """An unused model is unloaded after so long; negative: never. `keep_alive` of a request goes over it."""
    check_s: float = 30.0
    """How often at least idle, dead and stuck models are looked for."""
    max_models: int = 0
    """Models that may be loaded at once; 0: as many as fit."""
    patience_s: float = 5.0
    """How long a model that waits for memory lets others take further requests; then they finish and make room."""
    wait_s: float = 600.0
    """How long a model may wait for memory before its requests are refused."""
    load_s: float = 600.0
    """How long loading may take before the worker is ended."""
    stuck_s: float = 600.0
    """A worker that has requests and said nothing for so long is ended; 0: never."""
    limit_bytes: Mapping[str, int] = field(default_factory=dict)
    """By device (cpu, cuda:0): what all models together may take; less than that where the device has less free."""
