"""Constrained decoding by llguidance: which tokens may come next, so that the answer follows a schema or grammar."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import llguidance
import numpy as np
from numpy.typing import NDArray

from anyform.contract.errors import Invalid
from anyform.contract.jobs import Tool
from anyform.text.dialect import Dialect
from anyform.text.endless import bounded
from anyform.text.lexeme import gbnf_to_lark
from anyform.text.toolgrammar import SEPARATED, answer_or_calls_grammar, tool_grammar

_MESSAGE_LENGTH = 500
_KEPT = 32
_SOURCE_LENGTH = 1024 * 1024
_EIGHT = np.arange(8)
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
_ADDENDS = np.where(_BITS == 1, np.float32(0), np.float32(-np.inf)).astype(np.float32)
"""For each value of eight mask bits, what to add to the eight logits; a look-up is the fastest mask by far."""


class Vocabulary:
    """A model's tokens, prepared once for all constraints (0.1 to 0.5 s for 150,000 tokens).

    *tokens*: the bytes of each id, in order. *eos*: the ids that end an answer. *special*: ids that
    are not text (control tokens); their bytes are their names, such as b"<tool_call>". *tokenize*:
    the model's own tokenizer, so that stretches which the grammar leaves no choice in are written with the
    tokens that the model would use; without it the longest tokens are.
    """

    def __init__(
        self,
        tokens: Sequence[bytes],
        eos: int | Sequence[int],
        *,
        special: Collection[int] = (),
        tokenize: Callable[[bytes], Sequence[int]] | None = None,
    ) -> None:
        ends = [eos] if isinstance(eos, int) else list(eos)
        special = {*special, *ends}
        self.size = len(tokens)
        self.special = {bytes(tokens[i]).decode("utf-8", "replace"): i for i in special if tokens[i]}
        known = _Tokens(tokens, ends[0], special, tokenize)
        self._tokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(known), eos_token=ends)
        known.greedy = self._tokenizer.greedy_tokenize
        self._compiled: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()
        self._buffers = threading.local()

    def addends(self) -> NDArray[np.float32]:
        """The calling thread's buffer of what to add to the logits, eight in a row."""
        buffer: NDArray[np.float32] | None = getattr(self._buffers, "addends", None)
        if buffer is None:
            buffer = self._buffers.addends = np.empty(((self.size + 31) // 32 * 4, 8), dtype=np.float32)
        return buffer

    def matcher(self, grammar: str) -> Any:
        """A fresh llguidance matcher; compiled grammars are kept. Raises `Invalid` for one that cannot be followed."""
        with self._lock:
            known = self._compiled.get(grammar)
            if known is not None:
                self._compiled.move_to_end(grammar)
                return known.deep_copy()
        limits = llguidance.LLParserLimits(verbose_errors=False)
        made = llguidance.LLMatcher(self._tokenizer, grammar, log_level=0, limits=limits)
        wrong = made.get_error() or _trouble_at_start(made.deep_copy(), self._tokenizer)
        if wrong:
            raise Invalid(_bounded(wrong))
        with self._lock:
            self._compiled[grammar] = made
            while len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
        return made.deep_copy()


def _trouble_at_start(matcher: Any, tokenizer: Any) -> str:
    """What is too complex shows with the first free choice: refuse it then, not after the answer has begun."""
    matcher.compute_bitmask()
    forced = matcher.compute_ff_tokens() or tokenizer.tokenize_bytes(matcher.compute_ff_bytes())
    if forced and not matcher.is_error() and matcher.consume_tokens(forced):
        matcher.compute_bitmask()
    return str(matcher.get_error())


class _Tokens:
    """What llguidance's TokenizerWrapper reads from a tokenizer."""

    bos_token_id = None

    def __init__(
        self,
        tokens: Sequence[bytes],
        eos: int,
        special: Collection[int],
        tokenize: Callable[[bytes], Sequence[int]] | None,
    ) -> None:
        self.tokens = list(tokens)
        self.eos_token_id = eos
        self.special_token_ids = sorted(special)
        self._tokenize = tokenize
        self.greedy: Callable[[str], Sequence[int]] = lambda text: []

    def __call__(self, text: bytes) -> list[int]:
        """Llguidance masks a forced stretch by its tokens, so the longest match is the least that will do."""
        return list(self._tokenize(text) if self._tokenize else self.greedy(text.decode("utf-8", "replace")))


class Constraint:
    """Follows one answer. For each token: `mask` the logits, draw, `accept`; until `finished`."""

    def __init__(self, vocabulary: Vocabulary, grammar: str) -> None:
        """*grammar*: llguidance's own form; use the `from_` makers."""
        self.grammar = grammar
        """For an engine that follows llguidance's grammars by itself."""
        self._vocabulary = vocabulary
        self._matcher = vocabulary.matcher(grammar)
        self._bits = np.zeros((vocabulary.size + 31) // 32, dtype=np.int32)
        self._fresh = False

    @classmethod
    def from_schema(cls, vocabulary: Vocabulary, schema: Mapping[str, Any], *, whitespace: bool = False) -> Constraint:
        """JSON that is valid against *schema*; `{}` means any JSON object.

        By default a space may follow a colon or a comma and stand nowhere else, since a weak model given the choice
        pads with whitespace for ever.
        Raises `Invalid` with llguidance's words for a schema that it cannot enforce.
        """
        try:
            return cls(vocabulary, schema_grammar(schema, whitespace=whitespace))
        except Invalid as fault:
            raise Invalid(f"The JSON schema cannot be enforced: {fault.message}") from fault

    @classmethod
    def from_gbnf(cls, vocabulary: Vocabulary, grammar: str) -> Constraint:
        """Text of llama.cpp's GBNF *grammar*. Raises `Invalid`."""
        _check_size(grammar)
        return cls._from_text(vocabulary, llguidance.LLMatcher.grammar_from_lark(gbnf_to_lark(grammar)), "grammar")

    @classmethod
    def from_lark(cls, vocabulary: Vocabulary, grammar: str) -> Constraint:
        """Text of a Lark *grammar* with llguidance's extensions. Raises `Invalid`."""
        _check_size(grammar)
        return cls._from_text(vocabulary, llguidance.LLMatcher.grammar_from_lark(grammar), "grammar")

    @classmethod
    def from_regex(cls, vocabulary: Vocabulary, regex: str) -> Constraint:
        """Text that *regex* (Rust's syntax) matches as a whole. Raises `Invalid`."""
        _check_size(regex)
        return cls._from_text(vocabulary, llguidance.LLMatcher.grammar_from_regex(regex), "regular expression")

    @classmethod
    def from_tools(
        cls,
        vocabulary: Vocabulary,
        tools: Sequence[Tool],
        tool_choice: str,
        dialect: Dialect,
        *,
        parallel_calls: bool = True,
    ) -> Constraint:
        """Calls of *tools* in *dialect*: 1 to MOST_CALLS ("required"), or one of the tool named. Raises `Invalid`."""
        lark = tool_grammar(tools, tool_choice, dialect, parallel_calls=parallel_calls, special=vocabulary.special)
        return cls._from_text(vocabulary, llguidance.LLMatcher.grammar_from_lark(lark), "schema of a tool")

    @classmethod
    def from_answer_or_calls(
        cls,
        vocabulary: Vocabulary,
        schema: Mapping[str, Any],
        tools: Sequence[Tool],
        dialect: Dialect,
        *,
        parallel_calls: bool = True,
    ) -> Constraint:
        """JSON that is valid against *schema*, or calls of *tools* in *dialect*, as the model likes. Raises `Invalid`.

        In a dialect of channels a call has a channel of its own, so only the answer is bound.
        """
        if dialect.channels:
            return cls.from_schema(vocabulary, schema)
        lark = answer_or_calls_grammar(
            schema, tools, dialect, parallel_calls=parallel_calls, special=vocabulary.special
        )
        _check_size(lark)
        grammar = llguidance.LLMatcher.grammar_from_lark(lark)
        return cls._from_text(vocabulary, grammar, "JSON schema, or one of a tool,")

    @classmethod
    def _from_text(cls, vocabulary: Vocabulary, grammar: str, kind: str) -> Constraint:
        try:
            return cls(vocabulary, grammar)
        except Invalid as fault:
            raise Invalid(f"The {kind} cannot be enforced: {fault.message}") from fault

    def allowed_bitmask(self) -> NDArray[np.int32]:
        """One bit a token, lowest bit first; valid until `accept`."""
        if not self._fresh:
            self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
            self._check()
            self._fresh = True
        return self._bits

    def allowed(self) -> NDArray[np.intp]:
        """The ids that may come next, ascending."""
        octets = self.allowed_bitmask().view(np.uint8)
        places = np.flatnonzero(octets)
        bits = np.unpackbits(octets[places], bitorder="little").view(np.bool_)
        return (places[:, None] * 8 + _EIGHT).reshape(-1)[bits]

    def mask(self, logits: NDArray[np.float32]) -> None:
        """Set the logits of forbidden tokens to -inf, in place. *logits*: one row, no shorter than the vocabulary."""
        size = self._vocabulary.size
        addends = self._vocabulary.addends()
        np.take(_ADDENDS, self.allowed_bitmask().view(np.uint8), axis=0, out=addends, mode="clip")
        logits[:size] += addends.reshape(-1)[:size]
        logits[size:] = -np.inf

    def follows(self, token: int) -> bool:
        """Whether `accept` would take *token*, which `mask` may forbid: it leaves forced text no choice of tokens."""
        return bool(self._matcher.validate_tokens([token]) == 1)

    def accept(self, token: int) -> None:
        """Go on with *token*. Raises `Invalid` if it was forbidden."""
        self._fresh = False
        if not self._matcher.consume_token(token):
            self._check()
            raise Invalid(f"Token {token} does not follow the grammar.")

    @property
    def finished(self) -> bool:
        """Whether nothing more may come; the end token need not be drawn."""
        return bool(self._matcher.is_stopped())

    @property
    def may_end(self) -> bool:
        """Whether the text so far is complete."""
        return bool(self._matcher.is_accepting())

    def forced_tokens(self) -> list[int]:
        """Tokens that must come next, whatever the logits; empty where there is a choice."""
        return [] if self.finished else list(self._matcher.compute_ff_tokens())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise Invalid(f"The constraint cannot go on: {_bounded(self._matcher.get_error())}")


def schema_grammar(schema: Mapping[str, Any], *, whitespace: bool = False) -> str:
    """*schema* in llguidance's form; `{}` means any JSON object. Raises `Invalid` if it is not JSON."""
    try:
        text = json.dumps(bounded(dict(schema)) or {"type": "object"})
        _check_size(text)
        form = {**SEPARATED, "whitespace_flexible": whitespace}
        grammar = llguidance.LLMatcher.grammar_from_json_schema(text, overrides=form)
    except (TypeError, ValueError, RecursionError) as error:
        raise Invalid(_bounded(str(error))) from error
    return str(grammar)


def _check_size(source: str) -> None:
    if len(source) > _SOURCE_LENGTH:
        raise Invalid(f"The grammar has {len(source)} characters; {_SOURCE_LENGTH} are read.", "Send a smaller one.")


def _bounded(message: str) -> str:
    text = " ".join(message.split())
    return text if len(text) <= _MESSAGE_LENGTH else f"{text[:_MESSAGE_LENGTH]} …"
