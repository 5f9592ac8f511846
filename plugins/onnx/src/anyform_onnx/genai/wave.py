"""One `og.Engine`: requests that it runs together, a token for each in every step.

Where a model's cache does not lie in pages, which takes CUDA, its batch is static: whoever comes once it runs waits
until all of it is over. So there a batch of requests gets an engine of its own, which is dropped when they are done.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from anyform.text.constraint import Constraint as Grammar
from anyform.text.sampling import Recipe
from anyform.text.ticket import Constraint
from anyform_onnx.genai.backend import og

log = logging.getLogger("anyform.onnx")
_EVENTS = 64
_MOST_BLOCKED = 1000
"""Steps in a row in which nobody got a token."""
_SEPARATORS = "x-guidance"
_SPACED = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""How JSON is written: its llguidance takes separators as they stand, not as the patterns that ours has."""
_TOKEN = int(og.EngineEventFlags.TOKEN.value)
_OVER = int(og.EngineEventFlags.TURN_FINISHED.value)
_FAILED = int(og.EngineEventFlags.FAILED.value)


@dataclass(frozen=True, slots=True)
class Grown:
    """What a step made of one request: a token, its end, or an error."""

    name: int
    token: int | None = None
    ended: bool = False
    """By a token that ends answers, which is not told."""
    error: str = ""


class Wave:
    """Some requests in an engine. For one thread."""

    def __init__(self, model: Any, requests: int) -> None:
        """*requests*: how many at the most."""
        self._engine = og.Engine(model)
        self._buffer = self._engine.create_event_buffer(max(_EVENTS, 2 * requests))
        self._names: dict[Any, int] = {}
        self._requests: dict[int, Any] = {}
        self._blocked = 0

    def add(
        self,
        name: int,
        tokens: Sequence[int],
        most: int,
        recipe: Recipe,
        constraint: Constraint | None = None,
    ) -> None:
        """Begin a request: up to *most* tokens behind *tokens*. Raises RuntimeError."""
        options = og.RequestOptions()
        options.set_max_session_tokens(len(tokens) + most)  # it takes memory for so many
        request = self._engine.create_request(options=options)
        turn = og.TurnOptions(request)
        turn.set_max_generated_tokens(most)
        _sample(turn, recipe)
        guided = guidance(constraint)
        if guided is not None:
            turn.set_guidance(*guided)
        self._names[request], self._requests[name] = name, request
        request.begin_turn(np.asarray(tokens, np.int32), turn)

    @property
    def names(self) -> list[int]:
        """Of the requests that run."""
        return list(self._requests)

    def drop(self, name: int) -> None:
        """End a request, of which nothing more is told. Raises nothing: its engine may have failed."""
        request = self._requests.pop(name, None)
        if request is not None:
            del self._names[request]
            try:
                request.close()
            except Exception as error:  # the engine goes as well then, and takes it along
                log.warning("onnxruntime-genai did not close a request: %s", error)

    def step(self) -> list[Grown]:
        """Compute a token for each; blocks, and lets other threads run meanwhile. Raises RuntimeError."""
        if not self._engine.has_pending_requests():
            return [Grown(name, error="the engine has lost it") for name in self._requests]
        found = []
        for event in self._engine.run(self._buffer):
            name = self._names.get(event.request)
            if name is not None:
                found += _read(name, event)
        self._blocked = 0 if found else self._blocked + 1
        if self._blocked >= _MOST_BLOCKED:
            return [Grown(name, error="the engine has no room for it") for name in self._requests]
        return found

    def free(self) -> None:
        """Give its memory back. Raises nothing."""
        for name in self.names:
            self.drop(name)
        self._engine = self._buffer = None


def permits(constraint: Constraint | None, token: int | None) -> bool:
    """Whether *token* may come next, or the answer end where it is None, by what our own llguidance says."""
    if not isinstance(constraint, Grammar):
        return True
    return constraint.may_end if token is None else constraint.follows(token)


def _read(name: int, event: Any) -> list[Grown]:
    flags, found = int(event.flags), []
    if flags & _FAILED:
        return [Grown(name, error=event.error_code.name.lower())]
    if flags & _TOKEN:
        found.append(Grown(name, token=int(event.token)))
    if flags & _OVER and event.finish_reason == og.FinishReason.EOS:
        found.append(Grown(name, ended=True))
    elif flags & _OVER and event.finish_reason == og.FinishReason.FAILED:
        found.append(Grown(name, error=event.error_code.name.lower()))
    return found


def _sample(turn: Any, recipe: Recipe) -> None:
    if recipe.repeats:
        turn.set_repetition_penalty(recipe.repeat_penalty)
    draws = not recipe.greedy and recipe.top_k != 1
    turn.set_do_sample(draws)
    if draws:
        turn.set_temperature(recipe.temperature)
        turn.set_top_k(max(recipe.top_k, 0))
        turn.set_top_p(recipe.top_p)


def guidance(constraint: Constraint | None) -> tuple[str, str] | None:
    """*constraint* as the engine takes it, kind and text; None: it takes none such."""
    if not isinstance(constraint, Grammar):
        return None
    grammar = constraint.grammar
    if not grammar.startswith("{"):
        return None if _SEPARATORS in grammar else ("lark_grammar", grammar)
    parts = json.loads(grammar).get("grammars") or [{}]
    schema = parts[0].get("json_schema") if len(parts) == 1 else None
    if not isinstance(schema, dict):
        return None
    return "json_schema", json.dumps({**schema, "x-guidance": _SPACED})
