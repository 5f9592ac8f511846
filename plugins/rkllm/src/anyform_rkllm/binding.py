"""The functions of librkllmrt.so for one ABI, each with its types; and how a library of another ABI is told by them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from ctypes import POINTER, c_char_p, c_int, c_uint8, c_void_p
from dataclasses import dataclass
from typing import Any

from anyform.contract.errors import EngineMissing
from anyform_rkllm.layout import Abi, Era

PREFIX = "rkllm_"
DEFAULTS_BYTES = 1024
"""Room for what rkllm_createDefaultParam gives, however long: it writes as much as its own ABI has."""


class WrongAbi(EngineMissing):
    """A library that is not of the ABI that its version says. Nothing was passed to it."""

    code = "rkllm.wrong_abi"


@dataclass(frozen=True, slots=True)
class Function:
    """A function without its prefix. arguments: ctypes types, or names of structures that are passed by address."""

    name: str
    arguments: tuple[Any, ...]
    first: Era = Era.V11
    last: Era = Era.V13


_HANDLE = c_void_p
FUNCTIONS = (
    Function("init", (POINTER(_HANDLE), "Param", "callback")),
    Function("load_lora", (_HANDLE, "LoraAdapter")),
    Function("load_prompt_cache", (_HANDLE, c_char_p)),
    Function("release_prompt_cache", (_HANDLE,)),
    Function("destroy", (_HANDLE,)),
    Function("run", (_HANDLE, "Input", "InferParam", c_void_p)),
    Function("run_async", (_HANDLE, "Input", "InferParam", c_void_p)),
    Function("abort", (_HANDLE,)),
    Function("is_running", (_HANDLE,)),
    Function("set_chat_template", (_HANDLE, c_char_p, c_char_p, c_char_p), Era.V120),
    Function("clear_kv_cache", (_HANDLE, c_int), Era.V120, Era.V120),
    Function("clear_kv_cache", (_HANDLE, c_int, POINTER(c_int), POINTER(c_int)), Era.V121),
    Function("get_kv_cache_size", (_HANDLE, POINTER(c_int)), Era.V121),
    Function("set_function_tools", (_HANDLE, c_char_p, c_char_p, c_char_p), Era.V121),
    Function("set_cross_attn_params", (_HANDLE, c_void_p), Era.V121),
)
"""All give an int: 0, or what went wrong. rkllm_createDefaultParam, which gives a structure, stands apart."""


class _Defaults(ctypes.Structure):
    _fields_ = (("bytes", c_uint8 * DEFAULTS_BYTES),)


class Binding:
    """A library, driven as *abi*. Its functions are attributes, such as `run`, without their prefix.

    Raises WrongAbi where it is of another ABI; until then nothing but rkllm_createDefaultParam, which takes nothing,
    has been called.
    """

    init: Any
    load_lora: Any
    load_prompt_cache: Any
    release_prompt_cache: Any
    destroy: Any
    run: Any
    run_async: Any
    abort: Any
    is_running: Any
    """Its meaning changed between releases: do not use it."""
    set_chat_template: Any
    clear_kv_cache: Any
    get_kv_cache_size: Any
    set_function_tools: Any
    set_cross_attn_params: Any

    def __init__(self, library: ctypes.CDLL, abi: Abi, version: str = "") -> None:
        """*version*: what the file says of itself, for messages."""
        self.library, self.abi, self.version = library, abi, version
        self.check()
        for function in FUNCTIONS:
            if function.first <= abi.era <= function.last:
                setattr(self, function.name, self._typed(function))

    def check(self) -> None:
        """Raises WrongAbi where symbols or default values are not those of the ABI."""
        wrong = [*symbols(self.library, self.abi.era)] or [*values(self.library, self.abi)]
        if wrong:
            file = str(self.library._name)
            raise WrongAbi(
                f"{file}{f' (version {self.version})' if self.version else ''} has not the interface of librkllmrt.so "
                f"{self.abi.name}: {'; '.join(wrong)}.",
                "It was not used. Install Rockchip's own librkllmrt.so of a release that is known here.",
                file=file,
                version=self.version,
                abi=self.abi.name,
                found=wrong,
            )

    def default_param(self) -> Any:
        """A Param with the library's own default values."""
        return defaults(self.library, self.abi)

    def _typed(self, function: Function) -> Any:
        called = self.library[PREFIX + function.name]
        called.argtypes = [self._argument(kind) for kind in function.arguments]
        called.restype = c_int
        return called

    def _argument(self, kind: Any) -> Any:
        if kind == "callback":
            return POINTER(self.abi.structures["Callback"]) if self.abi.era >= Era.V13 else self.abi.result_callback
        return POINTER(self.abi.structures[kind]) if isinstance(kind, str) else kind


def symbols(library: ctypes.CDLL, era: Era) -> Iterator[str]:
    """What tells by the names of functions that *library* is not of *era*. Calls nothing.

    1.3 has the names of 1.2.1: the two are not told apart here.
    """
    here: dict[str, bool] = {"createDefaultParam": True}
    for function in FUNCTIONS:
        here[function.name] = here.get(function.name, False) or function.first <= era <= function.last
    for name, expected in here.items():
        if _has(library, PREFIX + name) != expected:
            yield f"the function {PREFIX}{name} is {'missing' if expected else 'there, which that ABI has not'}"


def _has(library: ctypes.CDLL, symbol: str) -> bool:
    try:
        library[symbol]
    except AttributeError:
        return False
    return True


def defaults(library: ctypes.CDLL, abi: Abi) -> Any:
    """What rkllm_createDefaultParam gives, read as a Param of *abi*. Safe for any ABI: there is room for all."""
    create = library["rkllm_createDefaultParam"]
    create.argtypes, create.restype = [], _Defaults
    return abi.structures["Param"].from_buffer_copy(create())


_RANGES: Mapping[str, tuple[float, float]] = {
    "top_k": (1, 1000),
    "top_p": (0.01, 1.0),
    "temperature": (0.01, 2.0),
    "repeat_penalty": (0.5, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "presence_penalty": (-2.0, 2.0),
    "mirostat": (0, 2),
    "mirostat_tau": (0.1, 100.0),
    "mirostat_eta": (0.001, 10.0),
}
_EXTENDED: Mapping[str, tuple[float, float]] = {
    "base_domain_id": (0, 255),
    "embed_flash": (0, 1),
    "enabled_cpus_num": (1, 16),
    "n_batch": (1, 100),
    "use_cross_attn": (0, 1),
}
"""Between what a default value lies, wide around those of the SDK's manual (0.9, 0.8, 1.1, 5.0, 0.1; 4 CPUs, batch 1).

A wrong layout has a 0, a pointer's part or no number in one of them: top_p of 1.1 is where 1.2 has n_keep, and the CPUs
of 1.2 are where 1.3 has nothing.
"""


def values(library: ctypes.CDLL, abi: Abi) -> Iterator[str]:
    """What tells by the default values that *library* is not of *abi*. Passes no pointer."""
    param = defaults(library, abi)
    extended = param.extend_param
    for held, ranges in ((param, _RANGES), (extended, _EXTENDED)):
        for name, (least, most) in ranges.items():
            value = getattr(held, name, None)
            if value is not None and not least <= value <= most:  # not: NaN is in no range
                yield f"its default {name} reads {value:g}"
    if abi.era == Era.V120 and extended.reserved[0] == 1:
        yield "its parameters have n_batch, which came with 1.2.1"
