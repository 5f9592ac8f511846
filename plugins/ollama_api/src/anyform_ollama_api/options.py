"""The field `options`: which there are, and what becomes of each.

Names and types are those of Ollama's Options: https://github.com/ollama/ollama/blob/main/api/types.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from anyform.contract.jobs import Generation
from anyform.dialect import Fields, Rule, WrongType, WrongValue, read_generation
from anyform_ollama_api.structure import structure

Kind = Literal["integer", "float32", "boolean", "array"]


@dataclass(frozen=True)
class Option:
    """One of them."""

    name: str
    kind: Kind
    heeded: bool
    note: str
    example: Any
    wrong: Any = "much"


LOADING = "How a model is loaded is said by the server's settings, or by /runtime/load."
GONE = "Gone from Ollama too."
OPTIONS = (
    Option("temperature", "float32", True, "0 to 2.", 0.5),
    Option("seed", "integer", True, "-1: a random one.", 42),
    Option("num_predict", "integer", True, "0 and less: until the model ends or the context is full.", 16),
    Option("num_ctx", "integer", True, "The model is loaded anew where its context is smaller.", 64),
    Option("stop", "array", True, "A text too.", ["\n\n"], 3),
    Option("top_k", "integer", True, "", 40),
    Option("top_p", "float32", True, "0 to 1.", 0.9),
    Option("min_p", "float32", True, "0 to 1.", 0.05),
    Option("typical_p", "float32", True, "0 to 1.", 0.9),
    Option("repeat_last_n", "integer", True, "", 64),
    Option("repeat_penalty", "float32", True, "", 1.1),
    Option("presence_penalty", "float32", True, "-2 to 2.", 0.1),
    Option("frequency_penalty", "float32", True, "-2 to 2.", 0.1),
    Option("num_keep", "integer", False, "A conversation is never cut while it is answered.", 4),
    Option("num_batch", "integer", False, LOADING, 512),
    Option("num_gpu", "integer", False, LOADING, 1),
    Option("main_gpu", "integer", False, LOADING, 0),
    Option("num_thread", "integer", False, LOADING, 2),
    Option("use_mmap", "boolean", False, LOADING, True),
    Option("use_mlock", "boolean", False, LOADING, False),
    Option("numa", "boolean", False, LOADING, False),
    Option("low_vram", "boolean", False, GONE, False),
    Option("f16_kv", "boolean", False, GONE, True),
    Option("logits_all", "boolean", False, GONE, False),
    Option("vocab_only", "boolean", False, GONE, False),
    Option("embedding_only", "boolean", False, GONE, False),
    Option("mirostat", "integer", False, GONE, 0),
    Option("mirostat_tau", "float32", False, GONE, 5.0),
    Option("mirostat_eta", "float32", False, GONE, 0.1),
    Option("penalize_newline", "boolean", False, GONE, True),
    Option("tfs_z", "float32", False, GONE, 1.0),
)
"""Others are ignored, as Ollama does."""
_KINDS = {option.name: option.kind for option in OPTIONS}
_HEEDED = tuple(option.name for option in OPTIONS if option.heeded)
_ONE = ("n", "best_of", "logprobs", "top_logprobs")
"""What a rule may say of requests to OpenAI's resources alone."""
_FORMS = ("grammar", "json_schema", "response_format")
_LONGEST = ("max_completion_tokens", "max_tokens")


def read(body: Fields) -> dict[str, Any]:
    """Those that a request has and that are heeded. Raises Invalid for one of another type, in Ollama's words."""
    given = body.object("options") or {}
    for name, value in given.items():
        if value is not None and name in _KINDS:
            _check(name, _KINDS[name], value)
    return {name: given[name] for name in _HEEDED if given.get(name) is not None}


def _check(name: str, kind: Kind, value: Any) -> None:
    if kind == "array":
        good = isinstance(value, list | str)
    elif kind == "boolean":
        good = isinstance(value, bool)
    else:
        good = isinstance(value, int | float) and not isinstance(value, bool)
        good = good and (kind == "float32" or isinstance(value, int) or value.is_integer())
    if not good:
        also = " or a string" if kind == "array" else ""
        raise WrongType(f'option "{name}" must be of type {kind}{also}.', param=f"options.{name}")
    if isinstance(value, list) and not all(isinstance(item, str) for item in value):
        raise WrongType(f'option "{name}" must be of an array of strings.', param=f"options.{name}")


def generation(body: Fields, rule: Rule) -> Generation:
    """How to answer: what the request's options say, over what *rule* does. Raises Invalid."""
    said, asked = read(body), structure(body)
    left_out = {*_ONE, *(_FORMS if asked is not None else ()), *(["n_ctx"] if "num_ctx" in said else ())}
    usual = {name: value for name, value in rule.request.items() if name not in left_out}
    form = {} if asked is None else {"json_schema": asked}
    return read_generation(
        Fields({**usual, **said, **form}, "options."),
        max_tokens=_longest(usual, said),
        logprobs=bool(body.flag("logprobs")),
        top_logprobs=_alternatives(body),
    )


def _longest(usual: Mapping[str, Any], said: Mapping[str, Any]) -> int | None:
    if "num_predict" in said:
        return int(said["num_predict"]) if said["num_predict"] > 0 else None
    return next((int(usual[name]) for name in _LONGEST if usual.get(name) is not None), None)


def _alternatives(body: Fields) -> int:
    count = body.integer("top_logprobs") or 0
    if not 0 <= count <= 20:
        raise WrongValue("top_logprobs must be between 0 and 20.", param="top_logprobs")
    return count if body.flag("logprobs") else 0
