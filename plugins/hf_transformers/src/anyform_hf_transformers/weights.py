"""A folder's weights in transformers' own class: on which device, in which numbers, and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

from anyform.contract.errors import EngineMissing, Fault, LoadFailed, OutOfMemory, Unsupported
from anyform.contract.facts import Plan
from anyform.pretrained import attention
from anyform.pretrained.layout import CONFIG
from anyform.pretrained.listing import Listing
from anyform_hf_transformers import conversion, placement, quantization, quantizer
from anyform_hf_transformers.backend import torch, transformers
from anyform_hf_transformers.options import Options

_TORCH = {"cpu": "cpu", "cuda": "cuda", "metal": "mps"}
"""torch's names of our kinds of device."""
_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_MAY_LACK = ("pooler.", "position_ids", "rotary_emb.inv_freq")
"""What transformers' classes have and files need not: a head that is not used, and numbers that are computed."""
_NO_MEMORY = ("can't allocate memory", "not enough memory")
"""How torch says it of main memory: by RuntimeErrors, in the words of alloc_cpu.cpp for each system."""

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def folder(plan: Plan) -> Path:
    """Where configuration and weights lie."""
    place = Path(plan.path) / plan.match.entry
    return place if place.is_dir() else place.parent


def device(plan: Plan) -> str:
    """Torch's name of the device that the plan names. Raises LoadFailed where torch cannot use it."""
    wanted = plan.settings.device or next((one.id for one in plan.devices if one.kind != "cpu"), "cpu")
    kind, _, index = wanted.partition(":")
    usable = {"cpu": True, "cuda": torch.cuda.is_available(), "metal": torch.backends.mps.is_available()}
    if not usable.get(kind):
        raise LoadFailed(
            f"the installed torch cannot use {wanted}.", "Install a build for that device, or use --device cpu."
        )
    return f"cuda:{index}" if kind == "cuda" and index else _TORCH[kind]


def dtype(plan: Plan, options: Options, config: Any, place: str) -> Any:
    """What to compute in: see `Options.dtype`."""
    if options.dtype:
        return getattr(torch, options.dtype)
    stored = getattr(config, "dtype", None)
    if conversion.wanted(plan):
        return torch.float32 if place == "cpu" else torch.bfloat16
    if place != "cpu":
        return stored or torch.float32
    flags = {flag for one in plan.devices if one.kind == "cpu" for flag in one.extra.get("flags", ())}
    return torch.bfloat16 if stored == torch.bfloat16 and flags & _BF16_FLAGS else torch.float32


def read_config(plan: Plan, options: Options) -> Any:
    """Transformers' configuration. Raises LoadFailed, Unsupported (it asks for code of its own, or that is fetched)."""
    if plan.metadata.extra.get("remote_code") and not options.trust_remote_code:
        raise Unsupported(
            f"{plan.model} needs Python code that comes with it, which is not run.",
            "Read the code, and then load it with the option trust_remote_code=true.",
        )
    kernel = attention.fetched(Listing(folder(plan)).json(CONFIG), attention.INSTALLED)
    if kernel:
        raise Unsupported(
            f"{plan.model} wants to be computed by {kernel!r}, which transformers would fetch.",
            "Code that is fetched is not run. Delete attn_implementation from its config.json.",
        )
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder(plan), local_files_only=True, trust_remote_code=options.trust_remote_code, **conversion.file(plan)
        )
    except (ValueError, KeyError, OSError) as error:
        raise LoadFailed(f"transformers does not read the configuration of {plan.model}: {_said(error)}") from error
    return conversion.configured(plan, config) if conversion.wanted(plan) else config


def read_tokenizer(plan: Plan, options: Options, place: Path | None = None) -> Any:
    """Transformers' tokenizer. *place*: the folder that has it, where that is another. Raises LoadFailed."""
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            place or folder(plan),
            local_files_only=True,
            trust_remote_code=options.trust_remote_code,
            **({} if place else conversion.file(plan)),
        )
    except (ValueError, KeyError, OSError, ImportError, TypeError) as error:
        raise LoadFailed(f"transformers does not read the tokenizer of {plan.model}: {_said(error)}") from error
    return conversion.marked(plan, tokenizer) if conversion.wanted(plan) else tokenizer


def read_model(
    plan: Plan,
    options: Options,
    config: Any,
    kind: Any,
    place: str,
    brought: Container[str] = (),
    fits: Callable[[Any], None] = lambda model: None,
) -> Any:
    """A model of the auto class *kind* with the plan's weights. *brought*: names of weights that an adapter brings.

    *fits*: is asked where weights are missing, and raises what it knows to be the reason.

    Raises LoadFailed, OutOfMemory, Unsupported, EngineMissing.
    """
    given = placed(plan, options, config, place)
    try:
        model, told = kind.from_pretrained(
            folder(plan),
            local_files_only=True,
            trust_remote_code=options.trust_remote_code,
            weights_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are named below; else transformers prints a table and names none
            **given,
        )
        model = model.eval()
        if "device_map" not in given:
            model = model.to(place)
    except Exception as error:  # transformers and what it calls raise whatever they like
        raise _fault(plan, error) from error
    outside = placement.spilt(getattr(model, "hf_device_map", {})) if options.device_map else []
    if outside:
        raise OutOfMemory(
            f"there is no room for {len(outside)} parts of {plan.model} on the accelerators, such as {outside[0]}.",
            "Share it out among more (accelerators=N), or use the option quantization.",
        )
    lacking = sorted(
        name for name in told["missing_keys"] if name not in brought and not any(part in name for part in _MAY_LACK)
    )
    wrong = sorted(str(one[0]) for one in told.get("mismatched_keys", ()))
    if lacking:
        fits(model)
    for names, what in ((lacking, "are not in the files"), (wrong, "have another shape than config.json says")):
        if names:
            raise LoadFailed(
                f"{len(names)} weights of {plan.model} {what}, such as {names[0]}.", "Get the model again."
            )
    model.lacking = frozenset(told["missing_keys"])  # transformers made those up: not to be used
    return conversion.ended(plan, model) if conversion.wanted(plan) else model


def placed(plan: Plan, options: Options, config: Any, place: str) -> dict[str, Any]:
    """What `from_pretrained` is told of files, numbers and places."""
    quantization.check(plan.metadata, options.quantization, _kind(place))
    placement.check(options.device_map, _kind(place))
    given: dict[str, Any] = {"config": config, "dtype": dtype(plan, options, config, place), **conversion.file(plan)}
    if options.attn_implementation:
        given["attn_implementation"] = options.attn_implementation
    if not conversion.wanted(plan):
        given["use_safetensors"] = plan.match.format != "pytorch"
    if variant := plan.metadata.extra.get("file_variant"):
        given["variant"] = variant
    if options.quantization:
        given["quantization_config"] = quantizer.config(options.quantization, given["dtype"])
    if options.device_map:
        free = {index: torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count())}
        given["device_map"] = options.device_map
        given["max_memory"] = placement.max_memory(plan.devices, free, options.accelerators)
    elif options.quantization or quantization.stored(plan.metadata):
        given["device_map"] = {"": place}
    return given


def _kind(place: str) -> str:
    """Our name of torch's device."""
    return {"mps": "metal"}.get(place, place.partition(":")[0])


def out_of_memory(error: BaseException) -> bool:
    """Whether torch or Python said that there is no memory."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(told in str(error) for told in _NO_MEMORY)


def _fault(plan: Plan, error: Exception) -> Fault:
    if isinstance(error, Fault):
        return error
    if isinstance(error, ImportError):
        return EngineMissing(f"{plan.model} needs a package that is not installed: {_said(error)}")
    if out_of_memory(error):
        return OutOfMemory(
            f"there is no memory for {plan.model}: {_said(error)}",
            "Use a smaller context, fewer parallel requests, or the option dtype=bfloat16.",
        )
    return LoadFailed(f"transformers could not load {plan.model}: {_said(error)}")


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())[:500]
    return f"{type(error).__name__}: {text}"
