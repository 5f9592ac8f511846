"""How the next token is drawn: what a request asks for, what the ABI can, and what is said of the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from anyform.contract.errors import Invalid, Unsupported
from anyform.contract.jobs import RANGES, Generation, Sampling

DEFAULTS: Mapping[str, float] = {
    "top_k": 40,
    "top_p": 0.9,
    "temperature": 0.8,
    "repeat_penalty": 1.1,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
}
"""The library's own, by the names of its structure (rkllm_createDefaultParam; SDK manual)."""
FOREIGN: Mapping[str, tuple[float, ...]] = {
    "min_p": (0.0,),
    "typical_p": (0.0, 1.0),
    "repeat_last_n": (),
    "seed": (),
}
"""What the library has not in any release -> values that ask for nothing."""
MOST_ANSWERS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How one request's tokens are drawn."""

    values: Mapping[str, float] = field(default_factory=dict)
    """For `Run.sampling`, as `whole` makes them. Empty before 1.3."""
    remarks: tuple[str, ...] = ()


def own(defaults: Mapping[str, float]) -> dict[str, float]:
    """Of *defaults* (generation_config.json's) what the library knows."""
    return {name: float(defaults[name]) for name in DEFAULTS if name in defaults}


def read(
    generation: Generation, defaults: Mapping[str, float], *, per_run: bool, abi: str, tokens: int | None = None
) -> Drawing:
    """What *generation* asks for. Raises Invalid for a value out of range, Unsupported for what must not be ignored.

    *defaults*: what the model was loaded with, before `whole`. *per_run*: whether the ABI takes values for each run.
    *tokens*: that the vocabulary has, where that is known.
    """
    refuse(generation)
    asked = _asked(generation.sampling)
    remarks = []
    foreign = [name for name, idle in FOREIGN.items() if name in asked and asked[name] not in idle]
    if foreign:
        remarks.append(f"{_names(foreign)} ignored: Rockchip's library has no such setting.")
    loaded = {**DEFAULTS, **defaults}
    if per_run:
        known = {name: value for name, value in asked.items() if name in DEFAULTS}
        return Drawing(values=whole({**loaded, **known}, tokens), remarks=(*remarks, *_endless(generation)))
    other = [name for name in asked if name in DEFAULTS and asked[name] != loaded[name]]
    if other:
        told = ", ".join(f"{name} {loaded[name]:g}" for name in other)
        remarks.append(
            f"{_names(other)} ignored: Rockchip's library takes sampling values with each request since 1.3; "
            f"here those hold that the model was loaded with ({told})."
        )
    return Drawing(remarks=(*remarks, *_endless(generation)))


def refuse(generation: Generation) -> None:
    """Raise Unsupported for what an answer cannot do without, Invalid for what nobody can."""
    if not 1 <= generation.n <= MOST_ANSWERS:
        raise Invalid(f"n is {generation.n}.", f"It must be 1 to {MOST_ANSWERS}.", param="n")
    if generation.max_tokens is not None and generation.max_tokens < 0:
        raise Invalid(f"max_tokens is {generation.max_tokens}.", "It must be 0 or more.", param="max_tokens")
    if generation.logprobs:
        raise _cannot("logprobs", "reports no log-probabilities")
    if generation.grammar:
        raise _cannot("grammar", "follows no grammar")
    if generation.schema is not None:
        raise _cannot("response_format", "follows no JSON schema")
    if generation.sampling.logit_bias:
        raise _cannot("logit_bias", "weighs no single tokens")


def _cannot(param: str, does: str) -> Unsupported:
    return Unsupported(
        f"Rockchip's library {does}, so {param} cannot be done.",
        f"Leave {param} out, or use another backend.",
        param=param,
    )


def _asked(sampling: Sampling) -> dict[str, float]:
    """The values that were given. Raises Invalid."""
    found: dict[str, float] = {}
    for name, (least, most) in RANGES.items():
        value = getattr(sampling, name)
        if value is None:
            continue
        if not least <= value <= most:
            raise Invalid(f"{name} is {value}.", f"It must be {least:g} to {most:g}.", param=name)
        found[name] = value
    return found


def whole(values: Mapping[str, float], tokens: int | None) -> dict[str, float]:
    """*values* as the library takes them: temperature 0 is the likeliest token; top_k below 1 is all *tokens*."""
    made = dict(values)
    if made.get("temperature") == 0:
        del made["temperature"]
        made |= {"top_k": 1, "mirostat": 0}
    elif made.get("top_k", 1) < 1:
        made["top_k"] = tokens or _ALL
    return made


_ALL = 1 << 20
"""More tokens than any vocabulary has."""


def _endless(generation: Generation) -> list[str]:
    if not generation.ignore_eos:
        return []
    return ["ignore_eos is ignored: the library takes it when a model is loaded; the answer may end by itself."]


def _names(names: list[str]) -> str:
    return names[0] + " is" if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]} are"
