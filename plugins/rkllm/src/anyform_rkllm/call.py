"""What one run is given, as the library's structures, with all that they point to kept alive beside them."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anyform.contract.errors import Invalid, Unsupported
from anyform_rkllm.layout import Abi, Era, InputType, Mode
from anyform_rkllm.options import MOST_TOKENS, SAMPLING

if TYPE_CHECKING:
    from anyform_rkllm.run import Pictures, Run

WHOLE = ("top_k", "mirostat")
"""What of SAMPLING is a whole number."""
MOST_FLOAT = 3.4e38
"""float32's, nearly."""
FLOAT_BYTES = ctypes.sizeof(ctypes.c_float)


@dataclass(slots=True)
class Call:
    """The arguments of one rkllm_run. Must live until it has returned."""

    input: Any
    infer: Any
    alive: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Usual:
    """What holds for runs that say nothing of it, as the model was started with."""

    sampling: Mapping[str, float]
    loras: Sequence[str] = ()
    lora: str = ""
    marks: tuple[str, str, str] = ("", "", "")
    """image_start, image_end, image_content: before ABI 1.3 for all runs."""


def build(abi: Abi, run: Run, usual: Usual, cache_file: str = "") -> Call:
    """*run* for *abi*. *cache_file*: where the prompt's cache goes. Raises Invalid, Unsupported."""
    _check(abi, run)
    call = Call(input=abi.new("Input"), infer=abi.new("InferParam"))
    if abi.has_roles:
        call.input.role = text(run.role, "role")
        call.input.enable_thinking = run.thinking
    if run.pictures is not None:
        _pictures(abi, call, run, run.pictures, usual)
    elif run.tokens:
        _tokens(call, run.tokens)
    else:
        call.input.input_type = InputType.PROMPT
        call.input.data.prompt_input = _kept(call, text(run.text, "prompt"))
    _infer(abi, call, run, usual, cache_file)
    return call


def text(said: str, what: str) -> bytes:
    """UTF-8 for C. Raises Invalid for a text that C would cut off, and for half a character."""
    if "\0" in said:
        raise Invalid(f"the {what} has a zero character at {said.index(chr(0))}.", "The library would end it there.")
    try:
        return said.encode()
    except UnicodeEncodeError as error:
        raise Invalid(f"the {what} has half a character at {error.start}: {said[error.start]!r}.") from error


def _check(abi: Abi, run: Run) -> None:
    if not run.text and not run.tokens:
        raise Invalid("a run needs a prompt: it is empty.")
    if run.text and run.tokens:
        raise Invalid("a run takes text or tokens: this one has both.")
    if run.pictures is not None and not run.text:
        raise Unsupported("the library takes pictures with text only, and this run has tokens.")
    if run.text and not abi.has_roles and (run.role != "user" or run.thinking):
        wanted = "thinking" if run.thinking else f"the role {run.role!r}"
        raise Unsupported(
            f"{wanted} cannot be told to librkllmrt.so {abi.name}.", "It can since 1.2.1; or send tokens."
        )
    if run.keep_history and not abi.keeps_history:
        raise Unsupported(f"librkllmrt.so {abi.name} keeps no history.", "It does since 1.2.0.")
    if run.mode == Mode.LOGITS:
        raise Unsupported("logits are not read here.")
    if unknown := set(run.sampling) - {*SAMPLING}:
        raise Invalid(f"unknown sampling {', '.join(sorted(unknown))}.", f"Known are {', '.join(SAMPLING)}.")
    if run.max_tokens is not None and run.max_tokens < 1:
        raise Invalid(f"max_tokens is {run.max_tokens}.", "It must be 1 or more.")


def _kept(call: Call, value: Any) -> Any:
    call.alive.append(value)
    return value


def _tokens(call: Call, tokens: Sequence[int]) -> None:
    try:
        ids = array("i", tokens)
    except (OverflowError, TypeError) as error:
        raise Invalid(f"the prompt has what is no token: {error}.") from error
    if (least := min(ids)) < 0:  # which of the model's are too large is known where its tokenizer is
        raise Invalid(f"the prompt has what is no token: {least}.")
    held = _kept(call, (ctypes.c_int32 * len(ids)).from_buffer(ids))
    call.input.input_type = InputType.TOKEN
    call.input.data.token_input.input_ids = ctypes.cast(held, ctypes.POINTER(ctypes.c_int32))
    call.input.data.token_input.n_tokens = len(ids)


def _infer(abi: Abi, call: Call, run: Run, usual: Usual, cache_file: str) -> None:
    call.infer.mode = Mode.GENERATE if run.mode is None else run.mode
    lora = run.lora or usual.lora
    if lora:
        if lora not in usual.loras:
            known = f"Known are {', '.join(usual.loras)}." if usual.loras else "Name its file in load option loras."
            raise Invalid(f"no LoRA adapter {lora!r} is loaded.", known)
        call.infer.lora_params = _address(call, abi.new("LoraParam", lora_adapter_name=text(lora, "adapter's name")))
    if cache_file:
        path = text(cache_file, "path")
        call.infer.prompt_cache_params = _address(
            call, abi.new("PromptCacheParam", save_prompt_cache=1, prompt_cache_path=path)
        )
    if abi.keeps_history:
        call.infer.keep_history = int(run.keep_history)
    if abi.samples_per_run:
        call.infer.max_new_tokens = min(run.max_tokens or 0, MOST_TOKENS)
        if run.sampling:
            call.infer.sampling_params = _address(call, _sampling(abi, {**usual.sampling, **run.sampling}))


def _sampling(abi: Abi, values: Mapping[str, float]) -> Any:
    return abi.new("SamplingParam", **{name: number(name, value) for name, value in values.items()})


def number(name: str, value: float) -> float:
    """*value* as the field *name* of SAMPLING wants it. Raises Invalid for one that does not fit: C would bend it."""
    most: float = MOST_TOKENS if name in WHOLE else MOST_FLOAT
    if not abs(value) <= most:  # not: NaN does not fit either
        raise Invalid(f"{name} is {value}.", f"The library takes numbers up to {most:g}.")
    return int(value) if name in WHOLE else float(value)


def _address(call: Call, structure: Any) -> Any:
    return ctypes.cast(ctypes.pointer(_kept(call, structure)), ctypes.c_void_p)


def _pictures(abi: Abi, call: Call, run: Run, pictures: Pictures, usual: Usual) -> None:
    call.input.input_type = InputType.MULTIMODAL
    given = call.input.data.multimodal_input
    given.prompt = _kept(call, text(run.text, "prompt"))
    floats = _floats(call, pictures)
    if abi.era >= Era.V13:
        image = given.image
        image.image_embed, image.n_image_tokens, image.n_image = floats, pictures.tokens, pictures.count
        image.image_width, image.image_height = pictures.width, pictures.height
        for name in ("start", "end", "content"):
            if said := getattr(pictures, name):
                setattr(image, f"image_{name}", _kept(call, text(said, f"picture's {name}")))
        return
    _check_marks(abi, pictures, usual)
    given.image_embed, given.n_image_tokens = floats, pictures.tokens
    if abi.era >= Era.V121:
        given.n_image, given.image_width, given.image_height = pictures.count, pictures.width, pictures.height
    elif pictures.count > 1:
        raise Unsupported(f"librkllmrt.so {abi.name} takes one picture, and there are {pictures.count}.")


def _check_marks(abi: Abi, pictures: Pictures, usual: Usual) -> None:
    """Before 1.3 what stands around a picture is said when the model starts."""
    wanted = (pictures.start, pictures.end, pictures.content)
    for name, own, started in zip(("start", "end", "content"), wanted, usual.marks, strict=True):
        if own and own != started:
            raise Unsupported(
                f"a picture's {name} is to be {own!r}, and the model was started with {started!r}.",
                f"librkllmrt.so {abi.name} takes it at load: set load option image_{name}.",
            )


def _floats(call: Call, pictures: Pictures) -> Any:
    view = memoryview(pictures.embeddings)
    size = FLOAT_BYTES * pictures.count * pictures.tokens
    wrong = view.format not in ("f", "B") or not view.c_contiguous or size <= 0 or not view.nbytes
    if wrong or view.nbytes % size:
        raise Invalid(
            f"{view.nbytes} bytes of {view.format!r} are no embeddings of {pictures.count} pictures "
            f"of {pictures.tokens} tokens."
        )
    kind = ctypes.c_float * (view.nbytes // FLOAT_BYTES)
    flat = view.cast("B")
    held = _kept(call, kind.from_buffer_copy(flat) if view.readonly else kind.from_buffer(flat))
    return ctypes.cast(held, ctypes.POINTER(ctypes.c_float))
