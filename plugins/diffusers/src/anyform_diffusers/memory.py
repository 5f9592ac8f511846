"""How much memory a pipeline takes: its weights, and what the part of it that takes most holds while it computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from anyform.contract.errors import Invalid
from anyform.contract.facts import Device, MemoryEstimate, Metadata, Saving, Settings
from anyform_diffusers import options as load_options
from anyform_diffusers import working
from anyform_diffusers.options import Options
from anyform_diffusers.shape import DENOISERS
from anyform_diffusers.working import Size

PROCESS_BYTES = 512 << 20
"""Python, torch, diffusers, transformers with a family's code: what the rest of the formula leaves of the VmHWM of
processes that have loaded and run tiny pipelines (torch 2.13 for CPUs, Linux, x86)."""
DEVICE_BYTES = 600 << 20
"""What a CUDA context and its libraries take of an accelerator; a guess, not measured here."""
MAIN = "cpu"
UNIFIED = ("metal",)
"""Kinds whose memory is the main memory."""
DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
STORED_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
UNTOLD_SIDE = 512
LAYER_SHARE = 0.05
"""Of the largest part, what lies on the accelerator where it is moved there layer by layer; a guess."""
UPCAST = ("sdxl",)
"""Families whose VAE overflows in float16, so that diffusers computes it in float32 (`force_upcast`)."""
UNGUIDED = ("flux",)
"""Families whose guidance is a number that the network is given, not a second computation."""
OFFLOADED = {
    "model": "a part lies on the accelerator only while it computes; somewhat slower",
    "sequential": "layers lie there only while they compute; much slower",
}
BFLOAT16_SINCE = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a pipeline is run, as far as memory is concerned."""

    dtype: str = "float32"
    offload: str = "none"
    slicing: bool = False
    tiling: bool = False


def estimate(metadata: Metadata, settings: Settings) -> MemoryEstimate:
    """Memory of a pipeline with these settings, for pictures of the model's own size.

    weights      parameters x the bytes of the numbers computed in: on a CPU 4, whatever the files hold, unless the
                 option dtype says bfloat16; on an accelerator 2 unless it says float32
    working      what takes most of these three, for `batch` pictures (working.py has the numbers and their sources):
                 the encoders of texts; a step of the network, guided ones with twice the rows; decoding, which takes
                 most of all unless it is done in tiles: 4.5 x pixels x channels of the VAE's widest layer there
    process      512 MiB; on an accelerator 600 MiB there, and with the option offload the part that computes beside
                 them: `accelerated` is their share

    Not in it: pages of files whose numbers become others while they are read; they are clean, and given back to
    whoever needs memory. Larger pictures are checked when they are asked for.

    Raises Invalid for an option that the backend does not know, or that the device has not.
    """
    options = load_options.read(settings.options)
    kind = (settings.device or MAIN).partition(":")[0]
    on_cpu = kind == MAIN
    if settings.device:
        check(options, kind)
    way = _way(options, str(metadata.extra.get("dtype", "")), on_cpu)
    facts, size = metadata.extra, own_size(metadata.extra, options.batch)
    weights = weight_bytes(facts, way.dtype) or metadata.weight_bytes or 0
    overhead = max(held for _, held in parts(facts, size, way)) + (PROCESS_BYTES if on_cpu else DEVICE_BYTES)
    return MemoryEstimate(
        weights_bytes=weights,
        overhead_bytes=overhead,
        confidence=0.6 if known(facts) else 0.3,
        why=f"parameters x bytes of a {way.dtype} + decoding {size.pictures} of {size.width}x{size.height}"
        " at once, or what takes more + the process",
        accelerated=_share(facts, size, way, weights + overhead),
        savings=tuple(_savings(facts, options, way, size, weights + overhead, on_cpu)),
    )


def needs_bytes(facts: Mapping[str, Any], size: Size, way: Way) -> int:
    """What pictures of *size* take where they are computed, beyond what lies there already.

    That is all weights, or none where parts are moved there when they compute; then the part is in it.
    *facts*: Metadata.extra.
    """
    moved = {"none": 0.0, "model": 1.0, "sequential": LAYER_SHARE}[way.offload]
    return max(round(weights * moved) + held for weights, held in parts(facts, size, way))


def largest(facts: Mapping[str, Any], size: Size, way: Way, free_bytes: int) -> tuple[int, int]:
    """Width and height of the largest picture of the same shape that *free_bytes* are enough for; 0, 0: none is."""
    unit = whole(facts.get("unit"), 8)

    def scaled(count: int) -> Size:
        """As many units along the longer side."""
        longest = max(size.width, size.height)
        width, height = (max(round(side * count / longest), 1) * unit for side in (size.width, size.height))
        return replace(size, width=width, height=height)

    low, high = 0, max(size.width, size.height) // unit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if needs_bytes(facts, scaled(middle), way) <= free_bytes else (low, middle - 1)
    found = scaled(low)
    return (found.width, found.height) if low else (0, 0)


def weight_bytes(facts: Mapping[str, Any], dtype: str) -> int:
    """Of all parts, as numbers of *dtype*; 0: the metadata know of none."""
    return sum(_part_bytes(facts, name, dtype) for name in facts.get("components", {}))


def parts(facts: Mapping[str, Any], size: Size, way: Way) -> list[tuple[int, int]]:
    """(weights, what is held while it computes) of encoders of texts, the network of the steps, and the VAE."""
    shape, each = facts.get("shape", {}), DTYPE_BYTES[way.dtype]
    names = facts.get("components", {})
    texts = max((_part_bytes(facts, name, way.dtype) for name in names if name.startswith("text_encoder")), default=0)
    network = sum(_part_bytes(facts, name, way.dtype) for name in names if name in DENOISERS)
    precise = 4 if way.dtype == "float16" and facts.get("family") in UPCAST else each
    decoding = working.decode_bytes(shape, size, precise, slicing=way.slicing, tiling=way.tiling)
    return [
        (texts, working.text_bytes(shape, size, each)),
        (network, working.step_bytes(shape, size, each)),
        (_part_bytes(facts, "vae", way.dtype) * precise // each, decoding),
    ]


def own_size(facts: Mapping[str, Any], pictures: int) -> Size:
    """*pictures* of the size that the model was trained for."""
    width, height = (whole(facts.get(name), UNTOLD_SIDE) for name in ("width", "height"))
    return Size(width=width, height=height, pictures=pictures, guided=is_guided(facts, None))


def is_guided(facts: Mapping[str, Any], guidance: float | None) -> bool:
    """Whether each step is computed with the prompt and without it. *guidance*: a request's; None: the model's."""
    scale = facts.get("guidance") if guidance is None else guidance
    return facts.get("family") not in UNGUIDED and (not isinstance(scale, int | float) or scale > 1)


def known(facts: Mapping[str, Any]) -> bool:
    """Whether configurations told the sizes that the formulas need."""
    shape = facts.get("shape", {})
    network = shape.get("denoiser", {})
    return bool(shape.get("vae", {}).get("channels") and (network.get("channels") or network.get("width")))


def is_main(device: Device) -> bool:
    """Whether its memory is the main memory, so that nothing is saved by moving parts there."""
    return device.kind in (MAIN, *UNIFIED) or bool(device.extra.get("unified"))


def check(options: Options, kind: str) -> None:
    """Raises Invalid for options that a device of this *kind* has not."""
    if options.offload in OFFLOADED and kind in (MAIN, *UNIFIED):
        raise Invalid(
            f"load option offload is {options.offload}, and {kind} has no memory but the main memory.",
            "Leave it out; slicing=true, tiling=true and batch=1 take less.",
            option="offload",
        )
    if options.dtype == "float16" and kind == MAIN:
        raise Invalid(
            "load option dtype is float16, which pipelines do not compute on a CPU.",
            "Leave it out, for float32; or use bfloat16, which takes half the memory, and more time on most CPUs.",
            option="dtype",
        )


def usual_dtype(stored: str, device: Device | None) -> str:
    """What numbers are computed in where nobody says: on a CPU float32; on an accelerator 16 bits.

    *stored*: as the files have them, `F16`. float16 stays so; else bfloat16, where the accelerator computes it
    (CUDA from compute capability 8.0 on, https://docs.nvidia.com/cuda/cuda-programming-guide), else float16.
    """
    if device is None or device.kind == MAIN:
        return "float32"
    if stored == "F16" or device.kind == "metal":
        return "float16"
    capability = str(device.extra.get("compute_capability", ""))
    older = capability.partition(".")[0].isdigit() and float(capability) < BFLOAT16_SINCE
    return "float16" if older else "bfloat16"


def _part_bytes(facts: Mapping[str, Any], name: str, dtype: str) -> int:
    part = facts.get("components", {}).get(name, {})
    stored = STORED_BYTES.get(str(facts.get("dtype", "")), 4)
    numbers = whole(part.get("parameters")) or whole(part.get("bytes")) // stored
    return numbers * DTYPE_BYTES[dtype]


def _way(options: Options, stored: str, on_cpu: bool) -> Way:
    """What the user's options say; without any, all on one device, and not in parts."""
    dtype = options.dtype or ("float32" if on_cpu else "bfloat16" if stored != "F16" else "float16")
    offload = "none" if on_cpu else options.offload or "none"
    return Way(dtype=dtype, offload=offload, slicing=bool(options.slicing), tiling=bool(options.tiling))


def _share(facts: Mapping[str, Any], size: Size, way: Way, total: int) -> float:
    if way.offload == "none" or not total:
        return 1.0
    return min((needs_bytes(facts, size, way) + DEVICE_BYTES) / total, 1.0)


def _savings(
    facts: Mapping[str, Any], options: Options, way: Way, size: Size, total: int, on_cpu: bool
) -> Iterator[Saving]:
    """The mildest first; only what the user has not chosen already."""
    held = needs_bytes(facts, size, replace(way, offload="none"))

    def less(other: Way) -> int:
        return held - needs_bytes(facts, size, replace(other, offload="none"))

    if options.slicing is None and less(replace(way, slicing=True)) > 0:
        why = "pictures are decoded one after the other"
        yield Saving(options={"slicing": True}, bytes=less(replace(way, slicing=True)), why=why)
    if options.tiling is None and less(replace(way, tiling=True)) > 0:
        why = "pictures are decoded in tiles, which may leave faint seams"
        yield Saving(options={"tiling": True}, bytes=less(replace(way, tiling=True)), why=why)
    if options.batch > 1:
        one = held - needs_bytes(facts, replace(size, pictures=1), replace(way, offload="none"))
        yield Saving(options={"batch": 1}, bytes=one, why="pictures are made one after the other")
    if not on_cpu and not options.offload:
        for offload, why in OFFLOADED.items():
            there = needs_bytes(facts, size, replace(way, offload=offload)) + DEVICE_BYTES
            yield Saving(options={"offload": offload}, bytes=max(total - there, 0), why=why, moves=True)
    if way.dtype == "float32" and not options.dtype:
        why = "numbers of half the size: hardly another picture, but slow on a CPU that lacks them"
        yield Saving(options={"dtype": "bfloat16"}, bytes=weight_bytes(facts, "float32") // 2 + held // 2, why=why)


def whole(value: Any, otherwise: int = 0) -> int:
    """A fact that is a number above 0."""
    return value if type(value) is int and value > 0 else otherwise
