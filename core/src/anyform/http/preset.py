"""What settings may let requests default to: each field is read as its resource reads it, before a client is blamed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields as fields_of
from difflib import get_close_matches
from typing import Any

from anyform.contract.errors import Invalid
from anyform.contract.jobs import Sampling
from anyform.http import generation, image, message, transcription
from anyform.http.chat import EFFORTS
from anyform.http.fields import Fields, mistyped, wrong
from anyform.sound.encode import FORMATS

OWN = (
    "documents", "file", "image", "image_url", "images", "input", "mask", "messages", "model", "partial_images",
    "prompt", "query", "question", "stream", "stream_format", "stream_options",
)  # fmt: skip
"""What each request says itself."""
FLAGS = ("echo", "enable_thinking", "parallel_tool_calls", "return_documents", "thinking", "truncate")
TEXTS = ("chat_template", "language", "suffix", "voice")
NUMBERS = ("speed",)
LOWEST = {
    "dimensions": 1, "max_completion_tokens": 0, "max_length": 1, "max_new_tokens": 1, "max_tokens": 0,
    "sample_rate": 1, "top_n": 1,
}  # fmt: skip
"""Whole numbers."""
CHOICES = {"encoding_format": ("float", "base64"), "reasoning_effort": EFFORTS}
GENERATION = (
    *(item.name for item in fields_of(Sampling)), "best_of", "grammar", "ignore_eos", "json_schema", "n", "n_ctx",
    "num_ctx", "repetition_penalty", "response_format", "stop", "typ_p",
)  # fmt: skip
"""Fields that `generation.read` reads."""
PICTURES = (
    "background", "guidance", "guidance_scale", "height", "loras", "negative_prompt", "num_inference_steps",
    "output_compression", "output_format", "quality", "scheduler", "size", "steps", "width",
)  # fmt: skip
"""Fields that `image.manner` reads."""
PLACES = tuple(dict.fromkeys((*transcription.FORMATS, *FORMATS, *image.PLACES)))
"""A `response_format` that is text: of what was heard, of what is to be spoken, or of pictures."""
OTHERS = ("chat_template_kwargs", "logprobs", "tool_choice", "tools", "top_logprobs")
KNOWN = (*GENERATION, *FLAGS, *TEXTS, *NUMBERS, *LOWEST, *CHOICES, *PICTURES, "strength", *OTHERS)
"""To tell a misspelt one; a backend may have others."""


def check(request: Mapping[str, Any], where: str) -> None:
    """Raise Invalid for a field of *request* that no request may default to, of a wrong type, out of its range, or
    spelt nearly as one that is known. *where*: its place in the settings, for messages.
    """
    for name in request:
        if name in OWN:
            raise Invalid(f"{where}.{name} is nothing that a rule may say.", "Each request says it itself.")
        near = [] if name in KNOWN else get_close_matches(name, KNOWN, n=1, cutoff=0.8)
        if near:
            raise Invalid(f"{where}.{name} is no field of a request.", f"Did you mean {near[0]}?")
    fields = Fields(request, f"{where}.")
    if isinstance(request.get("response_format"), str):
        fields.choice("response_format", *PLACES)
        fields = Fields({**request, "response_format": None}, fields.where)
    generation.read(fields, max_tokens=None)
    image.manner(fields)
    image.strength(fields)
    _check_plain(fields)
    _check_logprobs(fields)
    message.tools(fields)
    fields.object("chat_template_kwargs")
    choice = request.get("tool_choice")
    if not isinstance(choice, str | dict | None):
        mistyped(fields.path("tool_choice"), "a string or an object", choice)


def _check_plain(fields: Fields) -> None:
    for name in FLAGS:
        fields.flag(name)
    for name in TEXTS:
        fields.text(name)
    for name in NUMBERS:
        fields.number(name)
    for name, low in LOWEST.items():
        fields.integer(name, low=low)
    for name, allowed in CHOICES.items():
        fields.choice(name, *allowed)


def _check_logprobs(fields: Fields) -> None:
    """`logprobs` is a boolean for conversations, and a number for completions."""
    if not isinstance(fields.data.get("logprobs"), bool):
        fields.integer("logprobs", low=0, high=generation.TOP_LOGPROBS)
    if fields.integer("top_logprobs", low=0, high=generation.TOP_LOGPROBS) and not fields.data.get("logprobs"):
        wrong(fields.path("top_logprobs"), "it is only allowed when 'logprobs' is enabled", "Set logprobs to true.")
