"""What generation_config.json's no_repeat_ngram_size asks for: no run of so many tokens twice in an answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anyform.text.ticket import Constraint


class NoRepeat:
    """A constraint of the text toolkit; see the module (transformers' NoRepeatNGramLogitsProcessor)."""

    def __init__(self, size: int, before: Sequence[int], further: Constraint | None = None) -> None:
        """*size*: tokens of a run. *before*: what the answer is written behind. *further*: what binds as well."""
        self._size = size
        self._tokens: list[int] = []
        self._seen: dict[tuple[int, ...], list[int]] = defaultdict(list)
        self._further = further
        for token in before:
            self._note(token)

    def mask(self, logits: NDArray[np.float32]) -> None:
        logits[self._seen.get(self._last(), [])] = -np.inf
        if self._further is not None:
            self._further.mask(logits)

    def accept(self, token: int) -> None:
        self._note(token)
        if self._further is not None:
            self._further.accept(token)

    @property
    def finished(self) -> bool:
        return self._further is not None and self._further.finished

    def _note(self, token: int) -> None:
        if len(self._tokens) >= self._size - 1:
            self._seen[self._last()].append(token)
        self._tokens.append(token)

    def _last(self) -> tuple[int, ...]:
        """As many of the last tokens as a run has before its last one; none: there are too few."""
        first = len(self._tokens) - self._size + 1
        return tuple(self._tokens[first:]) if first >= 0 else (-1,)
