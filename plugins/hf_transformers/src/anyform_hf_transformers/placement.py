"""Which of several accelerators a model is shared out among, and how much each may take. Pure, no engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from anyform.contract.errors import LoadFailed, Unsupported
from anyform.contract.facts import Device
from anyform_hf_transformers.requirement import require

FEWEST_ACCELERATORS = 2
"""Among how many, where the option accelerators does not say."""
SHARED = "cuda"
_SHARE = 0.9
"""Of what is free: the rest is for what is computed, and for what the allocator rounds up."""


def check(device_map: str, device: str | None) -> None:
    """Raises Unsupported where no model is shared out on *device*, an id or a kind; EngineMissing (accelerate)."""
    if not device_map:
        return
    kind = (device or SHARED).partition(":")[0]
    if kind != SHARED:
        raise Unsupported(
            f"the option device_map={device_map} shares a model out among accelerators of the kind {SHARED}, "
            f"and this one runs on {kind}.",
            "Load it without the option.",
        )
    require("the option device_map", "accelerate")


def max_memory(planned: Sequence[Device], free: Mapping[int, int], count: int | None) -> dict[int, int]:
    """Bytes for weights by accelerator, as accelerate wants it; no key for main memory, so that nothing goes there.

    *planned*: the plan's devices, whose free bytes count more than *free*, index -> bytes as torch says them.
    *count*: how many; None: FEWEST_ACCELERATORS, or fewer where there are fewer. Those of the plan come first, then
    those with the most free. Raises LoadFailed where there are fewer than *count*.
    """
    known = {one.index: one.free_bytes for one in planned if one.kind != "cpu" and one.free_bytes}
    if count is not None and count > len(free):
        raise LoadFailed(
            f"the option accelerators is {count}; torch sees {len(free)} here.", f"Use accelerators={len(free) or 1}."
        )
    order = sorted(free, key=lambda index: (index not in known, -free[index], index))
    chosen = sorted(order[: count or FEWEST_ACCELERATORS])
    return {index: int(_SHARE * min(known.get(index, free[index]), free[index])) for index in chosen}


def spilt(device_map: Mapping[str, object]) -> list[str]:
    """Modules that accelerate did not put on an accelerator."""
    return [module for module, place in device_map.items() if place in ("cpu", "disk")]
