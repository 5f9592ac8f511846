"""A small vocabulary for tests: every byte, some longer tokens, control tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anyform.text.constraint import Constraint, Vocabulary

ENDS = (0, 1)
SPECIAL = ["</s>", "<eot>", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|channel|>", "<|message|>"]
LONG = ['{"', '": ', '":"', '",', "true", "null", "name", '"}', "  ", "\n\n", "é", "ü😀", "12", "get_", '"arguments": ']
BYTES = [*(name.encode() for name in SPECIAL), *(bytes([byte]) for byte in range(256))]
TOKENS = [*BYTES, *(text.encode() for text in LONG), b""]
FIRST_BYTE = len(SPECIAL)


def vocabulary(tokens: Sequence[bytes] = TOKENS) -> Vocabulary:
    """Prepared for constraints."""
    return Vocabulary(tokens, ENDS, special=range(len(SPECIAL)))


def ids_of(text: str) -> list[int]:
    """One token a byte."""
    return [FIRST_BYTE + byte for byte in text.encode()]


def accepts(constraint: Constraint, text: str) -> bool:
    """Whether *text* is a whole answer under *constraint*, made over the vocabulary of `BYTES`."""
    for token in ids_of(text):
        if token not in constraint.allowed():
            return False
        constraint.accept(token)
    return constraint.may_end


def sample(constraint: Constraint, seed: int, most: int = 2000) -> str:
    """What a model with random weights writes; ends are likely enough that it ends."""
    rng = np.random.default_rng(seed)
    data = b""
    for _ in range(most):
        if constraint.finished:
            return data.decode()
        logits = rng.normal(size=len(TOKENS)).astype(np.float32) * 3
        logits[list(ENDS)] += 6
        logits[FIRST_BYTE + ord('"')] += 4
        constraint.mask(logits)
        token = int(logits.argmax())
        assert logits[token] > -np.inf
        if token in ENDS:
            assert constraint.may_end
            return data.decode()
        constraint.accept(token)
        data += TOKENS[token]
    raise AssertionError(f"no end in {most} tokens: {data[:200]!r}")
