"""What every text-generating request has in common: sampling, length, stop strings, the form of the answer.

Names are OpenAI's and llama.cpp's, with the other spellings that clients use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anyform.contract.jobs import RANGES, Generation, Sampling
from anyform.http.fields import Fields, mistyped, wrong

TOP_LOGPROBS = 20
BIAS = 100.0


def read(fields: Fields, *, max_tokens: int | None, logprobs: bool = False, top_logprobs: int = 0) -> Generation:
    """The shared part of a request. *max_tokens* and the logprobs are read by the resource, where they differ."""
    n = fields.integer("n", low=1, high=128) or 1
    best = fields.integer("best_of", low=1, high=128)
    if best is not None and best != n:
        wrong(fields.path("best_of"), f"{best} differs from n, which is {n}", "Leave it out, or ask for n answers.")
    grammar = fields.text("grammar") or ""
    schema = _schema(fields)
    if grammar and schema is not None:
        wrong(fields.path("grammar"), "it is given beside a JSON schema", "Give one of them.")
    return Generation(
        sampling=_sampling(fields),
        max_tokens=max_tokens,
        stop=tuple(text for text in fields.strings("stop") or () if text),
        n=n,
        logprobs=logprobs,
        top_logprobs=top_logprobs,
        grammar=grammar,
        schema=schema,
        ignore_eos=bool(fields.flag("ignore_eos")),
        context=fields.integer("n_ctx", "num_ctx", low=1),
    )


def _sampling(fields: Fields) -> Sampling:
    seed = _integer(fields, "seed")
    return Sampling(
        temperature=_number(fields, "temperature"),
        top_k=_integer(fields, "top_k"),
        top_p=_number(fields, "top_p"),
        min_p=_number(fields, "min_p"),
        typical_p=_number(fields, "typical_p", "typ_p"),
        repeat_penalty=_number(fields, "repeat_penalty", "repetition_penalty"),
        repeat_last_n=_integer(fields, "repeat_last_n"),
        presence_penalty=_number(fields, "presence_penalty"),
        frequency_penalty=_number(fields, "frequency_penalty"),
        logit_bias=_bias(fields),
        seed=None if seed == -1 else seed,  # llama.cpp's way to ask for a random one
    )


def _number(fields: Fields, name: str, *spellings: str) -> float | None:
    low, high = RANGES[name]
    return fields.number(name, *spellings, low=low, high=high)


def _integer(fields: Fields, name: str) -> int | None:
    low, high = RANGES[name]
    return fields.integer(name, low=low, high=high)


def _bias(fields: Fields) -> Mapping[int, float]:
    given = fields.object("logit_bias") or {}
    inner = Fields(given, fields.path("logit_bias") + ".")
    return {_token(inner, key): inner.number(key, low=-BIAS, high=BIAS) or 0.0 for key in given}


def _token(fields: Fields, key: str) -> int:
    if not (key.isascii() and key.isdigit() and int(key[:12]) < 2**31):
        wrong(fields.path(key), "the key is no token id", 'Keys are token ids, such as "50256".')
    return int(key)


def _schema(fields: Fields) -> Mapping[str, Any] | None:
    """The JSON schema that the answer must follow; None for free text."""
    form = fields.inner("response_format")
    if form is None:
        return fields.object("json_schema")
    kind = form.choice("type", "text", "json_object", "json_schema")
    if kind is None:
        form.missing("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return form.object("schema") or {"type": "object"}
    inner = form.need_inner("json_schema")
    schema = inner.data.get("schema")
    if schema is None:
        inner.missing("schema")
    if not isinstance(schema, dict):
        mistyped(inner.path("schema"), "an object", schema)
    return schema


def includes_usage(fields: Fields, stream: bool) -> bool:
    """`stream_options.include_usage`, which only a stream may carry."""
    options = fields.inner("stream_options")
    if options is None:
        return False
    if not stream:
        wrong(fields.path("stream_options"), "it is only allowed when 'stream' is enabled", "Set stream to true.")
    return bool(options.flag("include_usage"))
