"""LoRAs: add-ons of a few megabytes that change what a model paints. Loaded with it, chosen by each request.

Between requests none is active, and a picture without any is the model's own, bit for bit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from anyform.contract.errors import Invalid, LoadFailed, Unsupported
from anyform_diffusers.backend import safetensors

MOST_WEIGHT = 10.0
_FIRST = re.compile(r"(lora_A|lora_down|lora\.down|_lora\.down|lora_linear_layer\.down|lokr_w1|lokr_w1_a)(\.weight)?$")
"""The first factor of a layer's change, as PEFT, kohya's scripts and diffusers call it."""
_WORDS = re.compile(r"^(text_encoder|lora_te|te\d?[._])|text_model")
"""What is told by the name of a layer that it is a text encoder's; all others are of the network that paints."""
_MARK = "addon_"


class Layers(NamedTuple):
    """How many layers an add-on changes."""

    network: int
    """Of the UNet or transformer, which is run at each step."""
    words: int
    """Of text encoders."""

    @property
    def all(self) -> int:
        return self.network + self.words


def load(pipe: Any, files: Mapping[str, str | Path]) -> tuple[str, ...]:
    """Load *files*, by the names that requests choose them by, into the modules of *pipe*; none is active afterwards.

    Returns notes for the user. Raises Invalid for a file that is none, LoadFailed for one of another model,
    Unsupported where the pipeline takes none. Only safetensors are read.
    """
    if not files:
        return ()
    if not hasattr(pipe, "load_lora_weights"):
        raise Unsupported(f"{type(pipe).__name__} takes no LoRAs.", "Load the model without the option loras.")
    notes = []
    for name, place in files.items():
        path = _file(name, Path(place).expanduser())
        there = _layers(name, path)
        _loaded(pipe, name, path)
        found = _fitting(pipe, name)
        if 2 * found.network < there.network or not found.all:
            told = f"{found.network} of its {there.network} layers for the network that paints are in this model"
            raise _foreign(pipe, name, path, told if there.network else "none of its layers is in this model")
        if found.all < there.all:
            notes.append(f"LoRA {name}: {there.all - found.all} of its {there.all} layers fit nothing here: left out")
    pipe.disable_lora()
    return tuple(notes)


def loaded(pipe: Any) -> tuple[str, ...]:
    """Names that requests may choose."""
    if not hasattr(pipe, "get_list_adapters"):
        return ()
    inner = {one for names in pipe.get_list_adapters().values() for one in names if one.startswith(_MARK)}
    return tuple(sorted(unquote(one.removeprefix(_MARK)) for one in inner))


def check(pipe: Any, loras: Sequence[tuple[str, float]]) -> None:
    """Raise Invalid for a name that is not loaded, or a weight that is none."""
    known = loaded(pipe)
    for name, weight in loras:
        if name not in known:
            raise Invalid(
                f"this model has no LoRA {name!r}.",
                f"It was loaded with {', '.join(known)}." if known else "It was loaded without any: see option loras.",
                param="loras",
            )
        if not math.isfinite(weight) or abs(weight) > MOST_WEIGHT:
            raise Invalid(
                f"the weight of LoRA {name!r} is {weight}.",
                f"It must be a number from -{MOST_WEIGHT:g} to {MOST_WEIGHT:g}; 1 is usual.",
                param="loras",
            )


@contextmanager
def chosen(pipe: Any, loras: Sequence[tuple[str, float]]) -> Iterator[None]:
    """While inside, just *loras* (name, weight) are active in the modules of *pipe*. Raises Invalid."""
    check(pipe, loras)
    weights = {name: weight for name, weight in loras if weight}
    if not weights:  # what is disabled is skipped: nothing is added, not even zero
        yield
        return
    try:
        pipe.set_adapters([_inner(name) for name in weights], list(weights.values()))
        pipe.enable_lora()
        yield
    finally:
        pipe.disable_lora()


def _inner(name: str) -> str:
    """The name in PEFT, where it is part of a module's: without dots, and like no part of a layer's."""
    return _MARK + quote(name, safe="").replace(".", "%2E")


def _file(name: str, path: Path) -> Path:
    """The safetensors file at *path*, which may be the folder of one."""
    found = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not name:
        raise Invalid(
            f"the LoRA {path} has an empty name.", "Give it one, by which requests choose it.", option="loras"
        )
    if len(found) != 1:
        told = ", ".join(one.name for one in found) or "none"
        raise Invalid(f"{path} of LoRA {name!r} must have one safetensors file; it has {told}.", "Name the file.")
    if not found[0].is_file():
        raise Invalid(f"{path}, the file of LoRA {name!r}, does not exist.", "Check option loras.", option="loras")
    if found[0].suffix != ".safetensors":
        raise Invalid(
            f"{path} of LoRA {name!r} is not a safetensors file.",
            "Other kinds may run code when they are read. Convert it, or get it as safetensors.",
            option="loras",
        )
    return found[0]


def _layers(name: str, path: Path) -> Layers:
    """How many layers the file at *path* changes."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            names = list(file.keys())
    except (OSError, safetensors.SafetensorError) as error:
        raise LoadFailed(f"LoRA {name!r} at {path} cannot be read: {error}.", "Download it again.") from error
    layers = {one for one in names if _FIRST.search(one)}
    if not layers:
        told = ", ".join(names[:3]) or "none"
        raise LoadFailed(f"{path} of LoRA {name!r} holds no LoRA; its tensors are {told} ...", "Check option loras.")
    words = sum(1 for one in layers if _WORDS.search(one))
    return Layers(len(layers) - words, words)


def _loaded(pipe: Any, name: str, path: Path) -> None:
    try:
        pipe.load_lora_weights(
            str(path.parent),
            weight_name=path.name,
            adapter_name=_inner(name),
            use_safetensors=True,
            local_files_only=True,
        )
    except (MemoryError, ImportError):
        raise
    except Exception as error:  # KeyError, ValueError, RuntimeError, ...: by which tensor does not fit
        raise _foreign(pipe, name, path, _why(error).replace(_inner(name), name)) from error


def _why(error: Exception) -> str:
    """What does not fit, in one line: torch and transformers write tables."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if line.startswith("size mismatch")), lines[0] if lines else "")
    if "ignore_mismatched_sizes" in told:
        return "its tensors have other shapes than the text encoder's"
    return f"{type(error).__name__}: {told[:300]}".rstrip(".")


def _fitting(pipe: Any, name: str) -> Layers:
    """How many layers of *pipe*'s modules have the add-on."""
    found, inner = {"network": 0, "words": 0}, _inner(name)
    for part in pipe._lora_loadable_modules:
        layers = getattr(pipe, part, None)
        kind = "words" if part.startswith("text_encoder") else "network"
        for layer in layers.modules() if layers is not None else ():
            found[kind] += any(inner in getattr(layer, factor, ()) for factor in _FACTORS)
    return Layers(**found)


_FACTORS = ("lora_A", "lora_embedding_A", "lokr_w1", "lokr_w1_a")
"""What peft calls the first factor in a layer: a table by the names of add-ons."""


def _foreign(pipe: Any, name: str, path: Path, why: str) -> LoadFailed:
    return LoadFailed(
        f"LoRA {name!r} at {path} does not fit {type(pipe).__name__}: {why}.",
        "A LoRA goes with the family of models that it was trained with (SD 1, SD 2, SDXL, SD3, Flux): "
        "get the one for this model's, or take it out of option loras.",
    )
