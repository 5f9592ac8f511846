"""Constraints on an answer: from a request's schema, grammar or tool choice, and only once the model has thought."""

from __future__ import annotations

import threading
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from anyform.contract.errors import Invalid
from anyform.contract.jobs import Chat, Generation
from anyform.text.answer import AnswerParser
from anyform.text.constraint import Constraint
from anyform.text.constraint import Vocabulary as Tokens
from anyform.text.detokenize import Detokenizer
from anyform.text.dialect import Dialect
from anyform.text.tokenizer import Tokenizer


class Constraints:
    """Makes constraints for one model; its vocabulary is prepared at the first."""

    def __init__(self, vocabulary: Tokenizer) -> None:
        self._vocabulary = vocabulary
        self._lock = threading.Lock()

    def for_generation(self, generation: Generation) -> Constraint | None:
        """What *generation* itself asks for. Raises Invalid."""
        if generation.schema is not None and generation.grammar:
            raise Invalid("the request has both a JSON schema and a grammar.", "Send one of them.")
        if generation.schema is not None:
            return Constraint.from_schema(self._tokens, generation.schema)
        if generation.grammar:
            return Constraint.from_gbnf(self._tokens, generation.grammar)
        return None

    def for_tools(self, job: Chat, dialect: Dialect) -> Constraint | None:
        """What a tool choice asks for; under auto only a schema binds, and leaves calls free. Raises Invalid."""
        schema, parallel = job.generation.schema, job.parallel_calls
        if job.tool_choice == "none" or (job.tool_choice == "auto" and (schema is None or not job.tools)):
            return None
        if job.tool_choice == "auto" and schema is not None:
            return Constraint.from_answer_or_calls(self._tokens, schema, job.tools, dialect, parallel_calls=parallel)
        return Constraint.from_tools(self._tokens, job.tools, job.tool_choice, dialect, parallel_calls=parallel)

    @property
    def _tokens(self) -> Tokens:
        with self._lock:
            return self._prepared

    @cached_property
    def _prepared(self) -> Tokens:
        words = self._vocabulary
        special = [token for token in range(words.size) if words.is_control(token)]
        ends = sorted(words.ends, key=lambda token: token != words.eos) or [words.size - 1]
        pieces = [words.piece(token, True) for token in range(words.size)]
        return Tokens(pieces, ends, special=special)


class AfterReasoning:
    """A constraint that does not bind while the model thinks, nor while it calls in a channel of its own."""

    def __init__(self, constraint: Constraint, parser: AnswerParser, vocabulary: Tokenizer) -> None:
        """*parser*: one of its own, at the place where the answer begins."""
        self._constraint = constraint
        self._parser = parser
        self._vocabulary = vocabulary
        self._decoder = Detokenizer()

    def mask(self, logits: NDArray[np.float32]) -> None:
        if not self._free:
            self._constraint.mask(logits)

    def accept(self, token: int) -> None:
        if self._free:
            self._parser.feed(self._decoder.feed(self._vocabulary.piece(token, True)))
        else:
            self._constraint.accept(token)

    @property
    def finished(self) -> bool:
        return self._constraint.finished

    @property
    def _free(self) -> bool:
        return self._parser.reasoning or self._parser.calling
