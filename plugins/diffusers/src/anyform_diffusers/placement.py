"""Where a pipeline's parts lie, and what their numbers are: decided by the memory estimate, and said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from anyform.contract.errors import Fault, LoadFailed, OutOfMemory
from anyform.contract.facts import Device, Plan
from anyform_diffusers import memory
from anyform_diffusers.memory import DEVICE_BYTES, MAIN, Way
from anyform_diffusers.options import Options
from anyform_diffusers.working import Size

TORCH_NAMES = {"metal": "mps"}
"""Kinds of devices that torch calls otherwise."""
GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What was decided for a pipeline."""

    device: str = MAIN
    """As torch calls it: cpu, cuda:0, mps."""
    way: Way = field(default_factory=Way)
    sliced_attention: bool = False
    """Where torch's attention holds the scores of all tokens with each other; elsewhere slices hold more than it."""
    notes: tuple[str, ...] = ()
    """What was decided that the user did not say, with figures."""

    @property
    def dtype(self) -> str:
        """As torch calls it."""
        return self.way.dtype


def chosen(plan: Plan, options: Options) -> Placement:
    """What *options* say, and where they are silent the mildest way that fits: all of it on the device; in slices and
    tiles; a part at a time; a layer at a time.

    Raises Invalid for what the device has not, OutOfMemory where it has room for none of these.
    """
    device = next(iter(plan.devices), Device(kind=MAIN))
    facts = plan.metadata.extra
    _check(plan, options, device)
    dtype = options.dtype or memory.usual_dtype(str(facts.get("dtype", "")), device)
    size = memory.own_size(facts, options.batch)
    way, note = _fitting(plan, options, dtype, size, device)
    name = device.kind if device.kind == MAIN else TORCH_NAMES.get(device.kind, f"{device.kind}:{device.index}")
    notes = (note, _cast(facts.get("dtype"), dtype, options, device))
    return Placement(
        device=name, way=way, sliced_attention=way.slicing and name == "mps", notes=tuple(filter(None, notes))
    )


def _check(plan: Plan, options: Options, device: Device) -> None:
    """An offload that a CPU has not is refused by the estimate; here it comes from a load that ran out of memory."""
    if device.kind == MAIN and options.offload in memory.OFFLOADED:
        raise OutOfMemory(
            f"{plan.model} is in main memory as a whole: offload={options.offload} moves nothing out of it.",
            "Free some memory, or load a smaller model.",
            device=device.id,
        )
    memory.check(options, device.kind)


def _fitting(plan: Plan, options: Options, dtype: str, size: Size, device: Device) -> tuple[Way, str]:
    """The first of the ways that fits, and what is to be said of it."""
    facts, free = plan.metadata.extra, device.free_bytes
    ways = list(_ways(options, dtype, device))
    whole = _taken(facts, size, ways[0], device)
    if not free or not memory.weight_bytes(facts, dtype):
        return ways[0], ""
    found = next((way for way in ways if _taken(facts, size, way, device) <= free), None)
    there = f"{device.id} has {free / GIB:.1f} GiB free"
    if found == ways[0]:
        return found, ""
    if found is not None:
        return found, f"{whole / GIB:.1f} GiB needed, {there}: {_said(found, ways[0])}"
    least = min(ways, key=lambda way: _taken(facts, size, way, device))
    needs = _taken(facts, size, least, device)
    if device.kind == MAIN or options.offload:  # the user, or the router, decided already: it is an estimate
        return least, f"{needs / GIB:.1f} GiB needed, {there}: it may run out of memory"
    raise OutOfMemory(
        f"{plan.model} needs {needs / GIB:.1f} GiB of {device.id} even layer by layer, for {size.pictures} of "
        f"{size.width}x{size.height} at once; {there}.",
        "Load it with batch=1 on another device (device=cpu), or a smaller model.",
        device=device.id,
    )


def _ways(options: Options, dtype: str, device: Device) -> Iterator[Way]:
    """What may be, the mildest first; nothing that the user said is changed."""
    offload = options.offload or "none"
    first = Way(dtype=dtype, offload=offload, slicing=bool(options.slicing), tiling=bool(options.tiling))
    yield first
    split = replace(first, slicing=options.slicing is not False, tiling=options.tiling is not False)
    if split != first:
        yield split
    if not options.offload and not memory.is_main(device):
        yield replace(split, offload="model")
        yield replace(split, offload="sequential")


def _taken(facts: Any, size: Size, way: Way, device: Device) -> int:
    """Bytes of *device*."""
    there = memory.weight_bytes(facts, way.dtype) if way.offload == "none" else 0
    engine = memory.PROCESS_BYTES if device.kind == MAIN else DEVICE_BYTES
    return there + engine + memory.needs_bytes(facts, size, way)


def _said(way: Way, first: Way) -> str:
    if way.offload != first.offload:
        lying = {"model": "parts that do not compute lie", "sequential": "layers that do not compute lie"}
        return f"{lying[way.offload]} in main memory"
    return "pictures are decoded one after the other, large ones in tiles, which may leave faint seams"


def _cast(stored: Any, dtype: str, options: Options, device: Device) -> str:
    """That numbers of the files become others with less room for great values."""
    if options.dtype or stored != "BF16" or dtype != "float16":
        return ""
    return f"{device.id} does not compute bfloat16, as the files have it: float16 instead, which may overflow"


def apply(pipe: Any, placement: Placement) -> str:
    """Put *pipe* where it was decided. Returns where it computes and as what, read from its modules.

    Raises OutOfMemory where the device has no room after all, LoadFailed for what the pipeline does not do.
    """
    from anyform_diffusers.backend import torch

    try:
        _split(pipe, placement)
        _move(pipe, placement)
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemory(
            f"there is no room for the model on {placement.device}: {error}.", "Load it with offload=model."
        ) from error
    except Fault:
        raise
    except Exception as error:
        raise LoadFailed(
            f"diffusers could not put the model on {placement.device}: {type(error).__name__}: {error}.",
            "Load it on another device, or with another offload.",
        ) from error
    return runs_on(pipe, placement)


def _split(pipe: Any, placement: Placement) -> None:
    """Slices and tiles of the VAE (the pipelines' own methods for it are gone since diffusers 0.40)."""
    vae = getattr(pipe, "vae", None)
    for wanted, name in ((placement.way.slicing, "enable_slicing"), (placement.way.tiling, "enable_tiling")):
        if wanted and hasattr(vae, name):
            getattr(vae, name)()
    if placement.sliced_attention:
        pipe.enable_attention_slicing()


def _move(pipe: Any, placement: Placement) -> None:
    offload = placement.way.offload
    if offload == "model":
        pipe.enable_model_cpu_offload(device=placement.device)
    elif offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=placement.device)
    else:
        pipe.to(placement.device)


def runs_on(pipe: Any, placement: Placement) -> str:
    """`cuda:0 bfloat16, model offload`, as the network of the steps has it."""
    network = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None) or pipe
    where = pipe._execution_device if placement.way.offload != "none" else network.device
    dtype = str(network.dtype).removeprefix("torch.")
    return f"{where} {dtype}" + (f", {placement.way.offload} offload" if placement.way.offload != "none" else "")
