"""What the library prints when it starts: its and the model's facts, and what it says is wrong. Pure.

The lines are Rockchip's (public logs of 1.0 to 1.3 in airockchip/rknn-llm's issues); none is documented. So any may be
missing or in another order, and what is not understood is quoted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from anyform.contract.errors import Area, EngineMissing, Fault, LoadFailed, OutOfMemory, Unsupported
from anyform.contract.facts import Severity

MOST_WARNINGS = 8
LAST_LINES = 8
"""Quoted where nothing of it is understood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What library and model say of themselves when they start, as far as it was printed; else empty or None."""

    runtime: str = ""
    """The library's version."""
    driver: str = ""
    platform: str = ""
    """The board, such as RK3588."""
    toolkit: str = ""
    context: int | None = None
    """max_context_limit: tokens, prompt and answer together."""
    cores: int | None = None
    target: str = ""
    dtype: str = ""


class ContextLimit(LoadFailed):
    """A context over the model's own. details: context, limit.

    It has the code of LoadFailed: one that the plugin alone knows is none of a LoadFailed to the process that reduces.
    """


class WrongPlatform(Unsupported):
    """A model that was converted for another board: nothing less of it runs here."""

    code = "rkllm.wrong_platform"
    area, severity = Area.MODEL, Severity.CRITICAL


class OldRuntime(EngineMissing):
    """A model of a newer toolkit than the library."""

    code = "rkllm.old_runtime"


_TEXTS = {
    "runtime": r"rkllm-runtime version:\s*([^\s,|)]+)",
    "driver": r"rknpu driver version:\s*v?([^\s,]+)",
    "platform": r"(?<![\w-])platform:\s*(\w+)",
    "toolkit": r"rkllm-toolkit version:\s*([^\s,]+)",
    "target": r"target_platform:\s*(\w+)",
    "dtype": r"model_dtype:\s*(\w+)",
}
_NUMBERS = {"context": r"max_context_limit:\s*(\d{1,9})\b", "cores": r"npu_core_num:\s*(\d{1,4})\b"}


def limits(text: str) -> Limits:
    """The facts in *text*; the last word counts where one is said twice."""
    texts = {name: found[-1] for name, pattern in _TEXTS.items() if (found := re.findall(pattern, text))}
    numbers = {name: int(found[-1]) for name, pattern in _NUMBERS.items() if (found := re.findall(pattern, text))}
    return Limits(
        runtime=texts.get("runtime", ""),
        driver=texts.get("driver", ""),
        platform=texts.get("platform", ""),
        toolkit=texts.get("toolkit", ""),
        context=numbers.get("context"),
        cores=numbers.get("cores"),
        target=texts.get("target", ""),
        dtype=texts.get("dtype", ""),
    )


def notes(told: Limits, version: str = "", text: str = "") -> tuple[str, ...]:
    """What is odd about a model that started. *version*: the library's, as its file has it; *text*: what it printed."""
    found = [line.strip() for line in re.findall(r"(?m)^W rkllm:\s*(.+)$", text)[:MOST_WARNINGS]]
    if version and told.runtime and told.runtime != version:
        found.append(f"librkllmrt.so says that it is {told.runtime}, and its file says {version}")
    if told.platform and told.target and told.platform.lower() != told.target.lower():
        found.append(f"the model was converted for {told.target}, and this is {told.platform}")
    return tuple(found)


def refusal(text: str, model: str, code: int = -1) -> Fault:
    """Why the library did not start, by what it printed. *model*: its file; *code*: what rkllm_init returned.

    LoadFailed and OutOfMemory, which are tried again with less, save for what less cannot help: Unsupported and
    EngineMissing.
    """
    for pattern, made in _REFUSALS:
        if found := re.search(pattern, text, re.IGNORECASE | re.MULTILINE):
            return made(found, text, model)
    said = " | ".join(last(text))
    return LoadFailed(
        f"the library refused {model} (rkllm_init returned {code}){f': {said}' if said else ', and said nothing'}.",
        "Set log_level=2 to have it say more." if not said else "",
        path=model,
    )


def over_limit(context: int, limit: int, model: str) -> ContextLimit:
    """The fault for a *context* that *model* does not have. LoadFailed, so that what nobody asked for is reduced."""
    return ContextLimit(
        f"{model} was asked for a context of {context}, and was converted for at most {limit}.",
        f"Use --context {limit}, or convert it with a larger max_context.",
        path=model,
        context=context,
        limit=limit,
    )


def _context(found: re.Match[str], text: str, model: str) -> Fault:
    return over_limit(int(found[1]), int(found[2]), model)


def _platform(found: re.Match[str], text: str, model: str) -> Fault:
    told = limits(text)
    target, here = told.target or "another board", told.platform or "this board"
    return WrongPlatform(
        f"{model} was converted for {target}, and this is {here}: {found[0].strip()}.",
        f"Get the model for {here}.",
        path=model,
        target=told.target,
        platform=told.platform,
    )


def _invalid(found: re.Match[str], text: str, model: str) -> Fault:
    return LoadFailed(
        f"the library does not take {model} for a model: {found[0].strip()}.",
        "Its file may be cut off, or of a toolkit that this library does not know: pull it again, or update that.",
        path=model,
    )


def _old(found: re.Match[str], text: str, model: str) -> Fault:
    told = limits(text)
    newer = f"toolkit {told.toolkit}" if told.toolkit else "a newer toolkit"
    return OldRuntime(
        f"{model} was converted by {newer} than librkllmrt.so {told.runtime or 'here'}: {found[0].strip()}.",
        f"Install librkllmrt.so {told.toolkit} or newer." if told.toolkit else "Install a newer librkllmrt.so.",
        path=model,
        runtime=told.runtime,
        toolkit=told.toolkit,
    )


def _memory(found: re.Match[str], text: str, model: str) -> Fault:
    said = next((line for line in _lines(text) if found[0].splitlines()[0] in line), found[0])
    return OutOfMemory(
        f"there is no memory on the NPU for {model}: {said}.",
        "Use a smaller --context or model, unload others, or try another base_domain_id.",
        path=model,
    )


_REFUSALS: Sequence[tuple[str, Callable[[re.Match[str], str, str], Fault]]] = (
    (r"max_context\[(\d{1,18})\] must be less than the model's max_context_limit\[(\d{1,18})\]", _context),
    (r"^[^\n]*target[_ ]platform[^\n]*(?:not match|mismatch)[^\n]*", _platform),
    (r"^[^\n]*runtime version is lower than[^\n]*toolkit[^\n]*", _old),
    (
        r"failed to (?:m|c)?alloc\w*|failed to allocate|cannot allocate memory|can not create weight memory"
        r"|iommu|bad_alloc|out of memory|(?:m|c)alloc(?:ate)? fail",
        _memory,
    ),
    (r"invalid rkllm model!?", _invalid),
)
"""(pattern, fault), the surest first: a library without memory often goes on to call the model bad."""


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def last(text: str) -> list[str]:
    """The last lines that say something."""
    return _lines(text)[-LAST_LINES:]
