"""The ABIs of librkllmrt.so, as one table of layouts: which fields each structure has in which release, in order.

Facts of Rockchip's public headers (airockchip/rknn-llm, tags release-v1.1.0 to release-v1.3.0, and 1.3.1), restated:
names, order and types, which are what a binary interface consists of. Sizes hold on 64-bit Linux (LP64).
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from ctypes import (
    CFUNCTYPE,
    POINTER,
    c_bool,
    c_char_p,
    c_float,
    c_int,
    c_int8,
    c_int32,
    c_size_t,
    c_uint8,
    c_uint32,
    c_uint64,
    c_void_p,
)
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

NAMES = ("1.1", "1.2.0", "1.2.1", "1.3")
"""The ABIs, oldest first: 1.1.x; 1.2.0; 1.2.1 to 1.2.3; 1.3.x."""


class Era(IntEnum):
    """An ABI by its place in NAMES."""

    V11 = 0
    V120 = 1
    V121 = 2
    V13 = 3


class State(IntEnum):
    """LLMCallState."""

    NORMAL = 0
    WAITING = 1
    FINISH = 2
    ERROR = 3
    HIDDEN = 4
    """1.1 alone: the hidden states that were asked for."""


class InputType(IntEnum):
    """RKLLMInputType."""

    PROMPT = 0
    TOKEN = 1
    EMBED = 2
    MULTIMODAL = 3


class Mode(IntEnum):
    """RKLLMInferMode."""

    GENERATE = 0
    HIDDEN = 1
    LOGITS = 2
    """Since 1.2.0."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a structure. kind: a ctypes type, or the name of another structure."""

    name: str
    kind: Any
    first: Era = Era.V11
    last: Era = Era.V13


def _all(kind: Any, *names: str, first: Era = Era.V11, last: Era = Era.V13) -> tuple[Field, ...]:
    return tuple(Field(name, kind, first, last) for name in names)


_SAMPLING = (
    Field("top_k", c_int32),
    *_all(c_float, "top_p", "temperature", "repeat_penalty", "frequency_penalty", "presence_penalty"),
    Field("mirostat", c_int32),
    *_all(c_float, "mirostat_tau", "mirostat_eta"),
)

STRUCTURES: Mapping[str, tuple[Field, ...]] = {
    "ExtendParam": (
        Field("base_domain_id", c_int32),
        *_all(c_int8, "embed_flash", "enabled_cpus_num", first=Era.V120),
        Field("enabled_cpus_mask", c_uint32, Era.V120),
        Field("n_batch", c_uint8, Era.V121),
        Field("use_cross_attn", c_int8, Era.V121),
        Field("reserved", c_uint8 * 112, Era.V11, Era.V11),
        Field("reserved", c_uint8 * 106, Era.V120, Era.V120),
        Field("reserved", c_uint8 * 104, Era.V121),
    ),
    "Param": (
        Field("model_path", c_char_p),
        *_all(c_int32, "max_context_len", "max_new_tokens", "top_k"),
        Field("n_keep", c_int32, Era.V120),
        *_SAMPLING[1:],
        Field("skip_special_token", c_bool),
        Field("ignore_eos_token", c_bool, Era.V13),
        Field("is_async", c_bool),
        *_all(c_char_p, "img_start", "img_end", "img_content", last=Era.V121),
        Field("extend_param", "ExtendParam"),
    ),
    "LoraAdapter": (*_all(c_char_p, "lora_adapter_path", "lora_adapter_name"), Field("scale", c_float)),
    "EmbedInput": (Field("embed", POINTER(c_float)), Field("n_tokens", c_size_t)),
    "TokenInput": (Field("input_ids", POINTER(c_int32)), Field("n_tokens", c_size_t)),
    "ImageInput": (
        Field("image_embed", POINTER(c_float)),
        *_all(c_size_t, "n_image_tokens", "n_image"),
        *_all(c_char_p, "image_start", "image_end", "image_content"),
        *_all(c_size_t, "image_width", "image_height"),
    ),
    "VideoInput": (
        Field("video_embed", POINTER(c_float)),
        *_all(c_size_t, "n_frame_tokens", "n_frame_per_video", "n_video"),
        *_all(c_char_p, "video_start", "video_end", "video_content"),
        *_all(c_size_t, "frame_width", "frame_height"),
    ),
    "AudioInput": (
        Field("audio_embed", POINTER(c_float)),
        *_all(c_size_t, "n_audio_tokens", "n_audio"),
        *_all(c_char_p, "audio_start", "audio_end", "audio_content"),
    ),
    "MultiModalInput": (
        Field("prompt", c_char_p),
        Field("image_embed", POINTER(c_float), last=Era.V121),
        Field("n_image_tokens", c_size_t, last=Era.V121),
        *_all(c_size_t, "n_image", "image_width", "image_height", first=Era.V121, last=Era.V121),
        Field("image", "ImageInput", Era.V13),
        Field("video", "VideoInput", Era.V13),
        Field("audio", "AudioInput", Era.V13),
        # 1.3.0 ends before it: a longer structure is passed by address, and its last part is not looked at.
    ),
    "Input": (
        Field("role", c_char_p, Era.V121),
        Field("enable_thinking", c_bool, Era.V121),
        Field("input_type", c_int),
        Field("data", "InputData"),
    ),
    "LoraParam": (Field("lora_adapter_name", c_char_p),),
    "PromptCacheParam": (Field("save_prompt_cache", c_int), Field("prompt_cache_path", c_char_p)),
    "SamplingParam": _SAMPLING,
    "InferParam": (
        Field("mode", c_int),
        *_all(c_void_p, "lora_params", "prompt_cache_params"),
        Field("sampling_params", c_void_p, Era.V13),
        Field("keep_history", c_int, Era.V120),
        Field("max_new_tokens", c_int32, Era.V13),
    ),
    "LastHiddenLayer": (Field("hidden_states", POINTER(c_float)), *_all(c_int, "embd_size", "num_tokens")),
    "Logits": (Field("logits", POINTER(c_float)), *_all(c_int, "vocab_size", "num_tokens")),
    "PerfStat": (
        Field("prefill_time_ms", c_float),
        Field("prefill_tokens", c_int),
        Field("generate_time_ms", c_float),
        Field("generate_tokens", c_int),
        Field("memory_usage_mb", c_float),
    ),
    "Result": (
        Field("text", c_void_p),  # not c_char_p: it may be NULL, and is no whole UTF-8
        Field("token_id", c_int32),
        Field("last_hidden_layer", "LastHiddenLayer"),
        Field("logits", "Logits", Era.V120),
        Field("perf", "PerfStat", Era.V121),
    ),
}
"""Structure, without its prefix RKLLM -> its fields."""
SINCE: Mapping[str, Era] = {
    "Logits": Era.V120, "PerfStat": Era.V121,
    "SamplingParam": Era.V13, "ImageInput": Era.V13, "VideoInput": Era.V13, "AudioInput": Era.V13,
}  # fmt: skip
"""Structures that not all ABIs have."""

SIZES: Mapping[str, tuple[int, int, int, int]] = {
    "ExtendParam": (116, 120, 120, 120),
    "Param": (200, 208, 208, 184),
    "MultiModalInput": (24, 24, 48, 192),
    "Input": (32, 32, 64, 208),
    "InferParam": (24, 32, 32, 40),
    "Result": (32, 48, 72, 72),
}
"""Bytes of a structure in each ABI, as the headers compile (1.3: as 1.3.1 does; 1.3.0's MultiModalInput has 144)."""


@dataclass(frozen=True, slots=True)
class Abi:
    """One ABI."""

    era: Era
    structures: Mapping[str, Any]
    """Name -> ctypes structure."""
    result_callback: Any
    """The type of the callback that results come by: (Result*, userdata, state)."""

    @property
    def name(self) -> str:
        return NAMES[self.era]

    def new(self, structure: str, **values: Any) -> Any:
        """A zeroed structure, with *values* in its fields."""
        return self.structures[structure](**values)

    @property
    def samples_per_run(self) -> bool:
        """Whether sampling and the most new tokens can be said for each run."""
        return self.era >= Era.V13

    @property
    def has_roles(self) -> bool:
        """Whether an input has a role, and says whether the model is to think."""
        return self.era >= Era.V121

    @property
    def keeps_history(self) -> bool:
        return self.era >= Era.V120

    @property
    def measures(self) -> bool:
        """Whether figures come with the end of a run."""
        return self.era >= Era.V121


def _structures(era: Era) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, fields in STRUCTURES.items():
        if era < SINCE.get(name, Era.V11):
            continue
        if name == "Input":
            made["InputData"] = _union(made)
        own = [(field.name, _kind(field.kind, made)) for field in fields if field.first <= era <= field.last]
        made[name] = type(f"RKLLM{name}", (ctypes.Structure,), {"_fields_": own})
    return made


def _union(made: Mapping[str, Any]) -> Any:
    fields = [
        ("prompt_input", c_char_p),
        ("embed_input", made["EmbedInput"]),
        ("token_input", made["TokenInput"]),
        ("multimodal_input", made["MultiModalInput"]),
    ]
    return type("RKLLMInputData", (ctypes.Union,), {"_fields_": fields})


def _kind(kind: Any, made: Mapping[str, Any]) -> Any:
    return made[kind] if isinstance(kind, str) else kind


def _abi(era: Era) -> Abi:
    structures = _structures(era)
    answer = c_int if era >= Era.V121 else None
    callback = CFUNCTYPE(answer, POINTER(structures["Result"]), c_void_p, c_int)
    if era >= Era.V13:
        structures["Callback"] = _callbacks(callback)
    return Abi(era, structures, callback)


TOKENIZER_CALLBACK = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32)
"""(userdata, text, its bytes, where tokens go, how many fit) -> how many there are. 1.3; never set here."""
EMBED_CALLBACK = CFUNCTYPE(c_int, c_void_p, POINTER(c_int32), c_uint64, c_void_p, c_uint64)
"""1.3; never set here."""


def _callbacks(result: Any) -> Any:
    fields: Sequence[tuple[str, Any]] = [
        ("result_callback", result),
        ("result_userdata", c_void_p),
        ("tokenizer_callback", TOKENIZER_CALLBACK),
        ("tokenizer_userdata", c_void_p),
        ("embed_callback", EMBED_CALLBACK),
        ("embed_userdata", c_void_p),
    ]
    return type("RKLLMCallback", (ctypes.Structure,), {"_fields_": fields})


ABIS: Mapping[Era, Abi] = {era: _abi(era) for era in Era}
