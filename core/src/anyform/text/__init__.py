"""A toolkit for backends that make text: templates, stop strings, detokenizing, constraints, tool calls.

Names are imported on first use, since jinja2, llguidance and numpy are the extra `anyform[text]`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anyform.text.answer import AnswerParser as AnswerParser
    from anyform.text.constraint import Constraint as Constraint
    from anyform.text.constraint import Vocabulary as Vocabulary
    from anyform.text.detokenize import Detokenizer as Detokenizer
    from anyform.text.dialect import Dialect as Dialect
    from anyform.text.dialect import dialect_of as dialect_of
    from anyform.text.stop import StopStrings as StopStrings
    from anyform.text.stream import AnswerStream as AnswerStream
    from anyform.text.template import CHATML as CHATML
    from anyform.text.template import ChatTemplate as ChatTemplate
    from anyform.text.toolgrammar import tool_grammar as tool_grammar

_HOMES = {
    "AnswerParser": "answer",
    "AnswerStream": "stream",
    "CHATML": "template",
    "ChatTemplate": "template",
    "Constraint": "constraint",
    "Detokenizer": "detokenize",
    "Dialect": "dialect",
    "StopStrings": "stop",
    "Vocabulary": "constraint",
    "dialect_of": "dialect",
    "tool_grammar": "toolgrammar",
}

__all__ = [
    "CHATML",
    "AnswerParser",
    "AnswerStream",
    "ChatTemplate",
    "Constraint",
    "Detokenizer",
    "Dialect",
    "StopStrings",
    "Vocabulary",
    "dialect_of",
    "tool_grammar",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'anyform.text' has no attribute {name!r}")
    return getattr(import_module(f"anyform.text.{_HOMES[name]}"), name)
