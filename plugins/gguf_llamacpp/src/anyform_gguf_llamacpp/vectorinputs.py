"""Texts as an embedding or ranking model of llama.cpp reads them."""

from __future__ import annotations

from collections.abc import Sequence

from anyform.text.vectormodel import Input
from anyform_gguf_llamacpp.engine import Vocabulary


class VectorInputs:
    """Makes inputs with a model's own tokenizer."""

    def __init__(self, vocabulary: Vocabulary, pair_template: str = "") -> None:
        """*pair_template*: how a query and a document are put together; empty: with the tokenizer's own marks."""
        self.size = vocabulary.size
        self._vocabulary = vocabulary
        self._pair_template = pair_template

    def text(self, text: str) -> Input:
        return Input(self._vocabulary.tokenize(text, affixes=True, special=True))

    def cut(self, whole: Input, most: int) -> Input:
        tokens = whole.tokens
        marked = self._vocabulary.adds_eos or self._vocabulary.adds_sep
        return Input([*tokens[: most - 1], tokens[-1]] if marked else tokens[:most])

    def pairs(self, query: str, documents: Sequence[str]) -> list[Input]:
        words = self._vocabulary
        if self._pair_template:
            texts = [self._pair_template.replace("{query}", query).replace("{document}", one) for one in documents]
            return [Input(words.tokenize(text, affixes=False, special=True)) for text in texts]
        asked = words.tokenize(query, affixes=False, special=False)
        return [self._joined(asked, words.tokenize(one, affixes=False, special=False)) for one in documents]

    def _joined(self, query: Sequence[int], document: Sequence[int]) -> Input:
        """`BOS query EOS SEP document EOS`, of which each mark is there if the tokenizer adds it (as llama-server)."""
        words = self._vocabulary
        begin = [words.bos] if words.adds_bos else []
        end = [words.eos if words.eos >= 0 else words.sep] if words.adds_eos else []
        between = [words.sep] if words.adds_sep else []
        return Input([*begin, *query, *end, *between, *document, *end])
