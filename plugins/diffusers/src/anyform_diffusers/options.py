"""The load options: what they are called, what they may be, and their defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from anyform import option
from anyform.option import one_of, truth, whole, wrong

DTYPES = ("float32", "float16", "bfloat16")
OFFLOADS = ("none", "model", "sequential")
MOST_THREADS = max(64, 4 * (os.cpu_count() or 1))
MOST_STEPS = 1000
"""As many as the noise schedules that models were trained with have."""


@dataclass(frozen=True, slots=True)
class Options:
    """What `Settings.options` may hold. None or empty: decided at load, and told in the model's notes."""

    dtype: str = ""
    """Type of the weights: float32, float16 or bfloat16. Default: float32 on a CPU; on an accelerator float16
    where the files have it, else bfloat16 where it can, else float16. A CPU has no float16."""
    offload: str = ""
    """Where parts of the pipeline lie that do not compute: `none`, on the device; `model`, in main memory;
    `sequential`, there too, layer by layer. Default: by the memory estimate."""
    slicing: bool | None = None
    """Whether pictures are decoded one after the other rather than together; on Apple's GPUs attention is computed in
    slices, too. Default: where the memory estimate needs it, as tiling."""
    tiling: bool | None = None
    """Whether large pictures are decoded in tiles, which may leave faint seams."""
    compile: bool = False
    """torch.compile of the network that is run at each step: minutes at the first picture of a size, then quicker."""
    batch: int = 1
    """Pictures of one request, or of several of one shape, that are computed together. With more than 1 a picture may
    differ by 1/255 from the same one made alone."""
    threads: int | None = None
    """Threads of a CPU. Default: torch's."""
    max_pixels: int | None = None
    """Width x height that a picture may be asked for with. Default: four times what the model was trained for."""
    max_source_pixels: int = 50_000_000
    """Width x height that a picture of a request may have."""
    max_steps: int = MOST_STEPS
    """Steps that a request may ask for."""
    queue: int = 32
    """Requests that may wait, beside the one that is computed."""
    loras: Mapping[str, str] = field(default_factory=dict)
    """Add-ons to load: a name by which requests choose them, and the path of the safetensors file."""
    config: str = ""
    """For a single file: a folder with the model_index.json and the configurations of its family. Default: beside the
    file, then the Hugging Face cache."""


def read(given: Mapping[str, Any]) -> Options:
    """Check *given*. Raises Invalid that names the option, its value and what it may be."""
    return option.read(given, Options, _CHECKS)


def _paths(name: str, value: Any) -> Mapping[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(one, str) and one for one in value.values()):
        raise wrong(name, value, 'a table of names and paths, such as {"sketch": "/models/sketch.safetensors"}')
    return {str(key): one for key, one in value.items()}


def _folder(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise wrong(name, value, "the path of a folder")
    return value


_CHECKS: Mapping[str, option.Check] = {
    "dtype": one_of(DTYPES),
    "offload": one_of(OFFLOADS),
    "slicing": truth,
    "tiling": truth,
    "compile": truth,
    "batch": whole(1, 64),
    "threads": whole(1, MOST_THREADS),
    "max_pixels": whole(64 * 64),
    "max_source_pixels": whole(1),
    "max_steps": whole(1, MOST_STEPS),
    "queue": whole(1, 10_000),
    "loras": _paths,
    "config": _folder,
}
