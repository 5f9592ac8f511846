"""The load options of the rkllm backend: what they are called, what they may be, and their defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import isfinite
from pathlib import Path
from typing import Any

from anyform import option
from anyform.contract.errors import Invalid
from anyform.option import amount, one_of, truth, whole, wrong

TEMPLATES = ("model", "library")
MOST_CPUS = 32
"""enabled_cpus_mask has a bit for each."""
MOST_DOMAINS = 16
"""How many places for models are looked for; none is documented. That of the driver (rknpu_drv.h) is 16."""
MOST_TOKENS = (1 << 31) - 1
"""As the library counts them."""
LEVELS = (0, 1, 2)
_SIZE = re.compile(r"[0-9]{1,4}(?:x[0-9]{1,4})?", re.ASCII | re.IGNORECASE)
_MASK = re.compile(r"0[xX][0-9a-fA-F]{1,8}")


@dataclass(frozen=True, slots=True)
class Lora:
    """An adapter file, and how strongly it counts."""

    path: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Cpus:
    """Which CPUs the library computes on. One of the two is 0: not said."""

    count: int = 0
    mask: int = 0


@dataclass(frozen=True, slots=True)
class Options:
    """What `Settings.options` may hold. None or empty: decided at load."""

    library: str = ""
    """Path of librkllmrt.so. Default: the one that was found."""
    stand_in: bool = False
    """Whether the library of the tests, which computes nothing, may be loaded."""
    platform: str = ""
    """The board, such as RK3588, where it cannot be read. Default: what the device tree says."""
    max_new_tokens: int | None = None
    """The most tokens of an answer that says nothing of it. Default: the context."""
    loras: Mapping[str, Lora] = field(default_factory=dict)
    """Adapters that are loaded, by name: {name: path}, or {name: {path, scale}}."""
    lora: str = ""
    """The name of the one that is used where a run names none. Default: none is used."""
    prompt_cache: str = ""
    """A prompt cache file that is loaded with the model; one that is not there yet is no error: `prompt_cache_save`."""
    prompt_cache_save: bool = False
    """Write `prompt_cache` after the first prompt, where the file is not there yet."""
    cpus: Cpus | None = None
    """How many CPUs (4), or which as a mask ("0xF0"). Since ABI 1.2. Default: the fast cores of the board."""
    embed_flash: bool | None = None
    """Read the embedding table from the file at each token, to save memory. Since ABI 1.2. Default: the library's."""
    base_domain_id: int | None = None
    """The NPU's memory domain. Default: the first that no other model of this user has; see domain.py."""
    n_keep: int | None = None
    """Tokens of the beginning that stay when the context is shifted. Since ABI 1.2. Default: the library's."""
    template: str = "model"
    """Who puts a conversation into words: the chat template of the model's tokenizer, where it has one ("model"), or
    the one that was put into the file when it was converted ("library")."""
    temperature: float | None = None
    """Sampling, up to mirostat_eta, for requests that say nothing of it. Before ABI 1.3 it holds for all requests: what
    they ask for is then ignored, and said to be. Default: the library's."""
    top_k: int | None = None
    top_p: float | None = None
    repeat_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    skip_special_token: bool | None = None
    """Leave special tokens out of the answer. Default: the library's."""
    ignore_eos_token: bool = False
    """Go on past the end of an answer, up to its most tokens: for measuring. Since ABI 1.3."""
    image_start: str = ""
    """The text before a picture. Default, as for the two below: as the model's files name it."""
    image_end: str = ""
    image_content: str = ""
    """The text in a picture's place."""
    vision: str = ""
    """The file that encodes pictures. Default: the one beside the model; "none": none."""
    vision_size: str = ""
    """Pixels that pictures are scaled to, 448 or 448x336 (width x height), where neither the encoder nor the model's
    files say it."""
    log_level: int | None = None
    """RKLLM_LOG_LEVEL: 1 adds figures of each run to the log, 2 more. Default: the library's."""
    text_interval: float = 0.05
    """Seconds that a token may be held back so that it travels with the next ones; 0: each leaves at once."""

    @property
    def sampling(self) -> dict[str, float]:
        """What was said of it, by the names of SamplingParam."""
        said = {name: getattr(self, name) for name in SAMPLING}
        return {name: value for name, value in said.items() if value is not None}


SAMPLING = (
    "top_k",
    "top_p",
    "temperature",
    "repeat_penalty",
    "frequency_penalty",
    "presence_penalty",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
)
"""As SamplingParam has them."""
assert {*SAMPLING} <= {one.name for one in fields(Options)}


def read(given: Mapping[str, Any]) -> Options:
    """Check *given*. Raises Invalid that names the option, its value and what it may be."""
    options = option.read(given, Options, _CHECKS)
    if options.lora and options.lora not in options.loras:
        known = f"They have {', '.join(sorted(options.loras))}." if options.loras else "Give loras a path by that name."
        raise Invalid(f"load option lora is {options.lora!r}, which loras does not have.", known, option="lora")
    if options.prompt_cache_save and not options.prompt_cache:
        raise Invalid(
            "load option prompt_cache_save has no file.", "Give prompt_cache its path.", option="prompt_cache"
        )
    return options


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise wrong(name, value, "a text")
    return value


def _path(name: str, value: Any) -> str:
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise wrong(name, value, "a path")
    return str(value)


def _file(name: str, value: Any) -> str:
    if not Path(_path(name, value)).is_file():
        raise wrong(name, value, "the path of a file that exists")
    return str(value)


def _vision(name: str, value: Any) -> str:
    return str(value) if value in ("", "none") else _file(name, value)


def _size(name: str, value: Any) -> str:
    said = str(value)
    if isinstance(value, bool) or (said and not _SIZE.fullmatch(said)):
        raise wrong(name, value, "pixels, 448 or 448x336 (width x height), up to 4096")
    return said


def _library(name: str, value: Any) -> str:
    return "" if value == "" else _path(name, value)


def _cache(name: str, value: Any) -> str:
    """A file that is there, or that can be written."""
    path = Path(_path(name, value))
    if path.is_dir() or not path.parent.is_dir():
        raise wrong(name, value, "the path of a file, in a folder that exists")
    return str(path)


def _loras(name: str, value: Any) -> Mapping[str, Lora]:
    if not isinstance(value, Mapping) or not all(isinstance(one, str) and one for one in value):
        raise wrong(name, value, 'a table of paths by name, such as {"polite": "polite.rkllm"}')
    return {one: _lora(name, said) for one, said in value.items()}


def _lora(name: str, said: Any) -> Lora:
    if not isinstance(said, Mapping):
        return Lora(_file(name, said))
    if "path" not in said or set(said) - {"path", "scale"}:
        raise wrong(name, said, "a path, or {path, scale}")
    return Lora(_file(name, said["path"]), _number(name, said.get("scale", 1.0)))


def _number(name: str, value: Any) -> float:
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not isfinite(number):
        raise wrong(name, value, "a number")
    return number


def _share(name: str, value: Any) -> float:
    number = amount(name, value)
    if number > 1.0:
        raise wrong(name, value, "a number from 0 to 1")
    return number


def _cpus(name: str, value: Any) -> Cpus:
    if isinstance(value, str) and _MASK.fullmatch(value) and int(value, 16):
        return Cpus(mask=int(value, 16))
    try:
        return Cpus(count=whole(1, MOST_CPUS)(name, value))
    except Invalid:
        raise wrong(name, value, f'how many, 1 to {MOST_CPUS}, or a mask such as "0xF0"') from None


_CHECKS: Mapping[str, option.Check] = {
    "library": _library,
    "stand_in": truth,
    "platform": _text,
    "max_new_tokens": whole(1),
    "loras": _loras,
    "lora": _text,
    "prompt_cache": _cache,
    "prompt_cache_save": truth,
    "cpus": _cpus,
    "embed_flash": truth,
    "base_domain_id": whole(0, MOST_DOMAINS - 1),
    "n_keep": whole(-1, MOST_TOKENS),
    "template": one_of(TEMPLATES),
    "temperature": amount,
    "top_k": whole(1),
    "top_p": _share,
    "repeat_penalty": amount,
    "frequency_penalty": _number,
    "presence_penalty": _number,
    "mirostat": whole(0, 2),
    "mirostat_tau": amount,
    "mirostat_eta": amount,
    "skip_special_token": truth,
    "ignore_eos_token": truth,
    "image_start": _text,
    "image_end": _text,
    "image_content": _text,
    "vision": _vision,
    "vision_size": _size,
    "log_level": whole(LEVELS[0], LEVELS[-1]),
    "text_interval": amount,
}
