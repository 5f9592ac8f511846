"""The load options of the transformers backend: what they are called, what they may be, and their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyform import option
from anyform.option import amount, one_of, truth, whole, wrong
from anyform_hf_transformers.quantization import CHOICES

DTYPES = ("float32", "float16", "bfloat16")
ATTENTIONS = ("sdpa", "eager")
"""Those that take a mask of four dimensions, which sequences in slots need."""
POOLINGS = ("mean", "cls", "last", "max", "mean_sqrt_len", "weightedmean")
BATCHINGS = ("own", "paged", "auto")
MAPS = ("auto", "balanced", "sequential")
"""accelerate's ways to share a model out."""


@dataclass(frozen=True, slots=True)
class Options:
    """What `Settings.options` may hold. None or empty: decided at load."""

    dtype: str = ""
    """Numbers to compute in. Default: those of the file on an accelerator; on a CPU float32, or bfloat16 where the file
    and the CPU have it."""
    attn_implementation: str = ""
    """sdpa or eager. Default: transformers' own choice, sdpa for most."""
    threads: int | None = None
    """Default: as many as torch takes, the physical cores; 1 where `exact`."""
    batch: int = 512
    """Most tokens of prompts, or of texts to embed, in one step; those of a picture are read together."""
    exact: bool | None = None
    """Compute so that an answer does not hang on what else runs: one thread, and never fewer rows than from which on
    they come out alike. Default: for models under 32 MiB on a CPU."""
    packed: bool = True
    """Lay the weights of text models out as they are multiplied fastest, on a CPU; not where `exact`."""
    pooling: str = ""
    """How an embedding model's tokens become one vector. Default: as its folder says."""
    batching: str = "own"
    """own: our loop for all requests; paged: transformers' continuous batching for those that want nothing but the
    likeliest tokens; auto: that on CUDA, where it works."""
    quantization: str = ""
    """4bit or 8bit (bitsandbytes), or one of torchao's: what the weights of linear layers are made of on load."""
    device_map: str = ""
    """auto, balanced or sequential: share the layers out among several accelerators of one kind."""
    accelerators: int | None = None
    """Among how many; the memory of one is estimated so. Default: 2 where there is a device_map."""
    base: str = ""
    """The folder of the model that an adapter is for. Default: the one that the adapter names, where it is here."""
    audio_seconds: float = 7200.0
    """Seconds that one sound may last."""
    fallback: bool = True
    """Speech: try a window again at a higher temperature where its text repeats itself or is unlikely, and leave out
    what is likely silence; false: the first try is it, as transformers' generate() has it."""
    max_pixels: int = 50_000_000
    """Width x height that a picture of a request may have; up to 178,956,970, beyond which Pillow opens none."""
    hypothesis_template: str = ""
    """The sentence that a zero-shot label takes the place of {} in. Default: that of transformers' pipelines, `This is
    a photo of {}.` for pictures."""
    trust_remote_code: bool = False
    """Run Python code that came with the model. Only for models whose code you have read."""
    text_interval: float = 0.05
    """Seconds that a token may be held back so that it travels with the next ones; 0: each leaves at once."""


def read(given: Mapping[str, Any]) -> Options:
    """Check *given*. Raises Invalid that names the option, its value and what it may be."""
    return option.read(given, Options, _CHECKS)


def _model_folder(name: str, value: Any) -> str:
    if not isinstance(value, str | Path) or not (Path(value).expanduser() / "config.json").is_file():
        raise wrong(name, value, "the path of a folder with a config.json")
    return str(Path(value).expanduser().absolute())


def _template(name: str, value: Any) -> str:
    if not isinstance(value, str) or "{}" not in value:
        raise wrong(name, value, "a text with {} in it")
    return value


_CHECKS: Mapping[str, option.Check] = {
    "dtype": one_of(DTYPES),
    "attn_implementation": one_of(ATTENTIONS),
    "threads": whole(1),
    "batch": whole(1),
    "exact": truth,
    "packed": truth,
    "pooling": one_of(POOLINGS),
    "batching": one_of(BATCHINGS),
    "quantization": one_of(tuple(CHOICES)),
    "device_map": one_of(MAPS),
    "accelerators": whole(1),
    "base": _model_folder,
    "audio_seconds": amount,
    "fallback": truth,
    "max_pixels": whole(1),
    "hypothesis_template": _template,
    "trust_remote_code": truth,
    "text_interval": amount,
}
