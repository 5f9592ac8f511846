"""The encoder's tokenizer: WordPiece on lower-case words without accents, as BERT has it."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import WordPiece as Decoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import WordPieceTrainer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Their places are their token ids."""

VOCABULARY = 4608
LONGEST_WORD = 100


def train(texts: Iterable[str], size: int = VOCABULARY) -> Tokenizer:
    """A tokenizer of at most *size* tokens, the same for the same texts; every ASCII character is one."""
    known = list(texts)
    learner = _split(WordPiece(unk_token="[UNK]"))
    seen = set(learner.normalizer.normalize_str(" ".join(known)))
    characters = sorted(seen.union(map(chr, range(33, 127))) - set(map(chr, range(65, 91))) - set(string.whitespace))
    inner = [f"##{character}" for character in characters if character.isalnum()]
    # Ties are decided by token ids, which the trainer gives in the order of a hash unless it knows the tokens already.
    trainer = WordPieceTrainer(
        vocab_size=size, min_frequency=2, special_tokens=[*SPECIAL, *characters, *inner], show_progress=False
    )
    learner.train_from_iterator(known, trainer)
    tokenizer = _split(WordPiece(learner.get_vocab(), unk_token="[UNK]", max_input_chars_per_word=LONGEST_WORD))
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.decoder = Decoder()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", SPECIAL.index("[CLS]")), ("[SEP]", SPECIAL.index("[SEP]"))],
    )
    return tokenizer


def _split(model: WordPiece) -> Tokenizer:
    """A tokenizer that splits texts into words as BERT's uncased models do."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = BertNormalizer(lowercase=True, strip_accents=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return tokenizer


def tokens(tokenizer: Tokenizer) -> list[str]:
    """All tokens by their ids."""
    vocabulary = tokenizer.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


def save(tokenizer: Tokenizer, folder: Path, context: int) -> None:
    """Write tokenizer.json, vocab.txt and the tokenizer_config.json of transformers' BertTokenizer."""
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens(tokenizer)), "utf-8")
    config = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        "model_max_length": context,
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")


class Splitting:
    """Token ids of texts with some words in smaller pieces than need be, so that a word stays akin to its other forms.

    Hiraoka: MaxMatch-Dropout: subword regularization for WordPiece, 2022.
    """

    _REFUSED = 0.4
    """How often a piece is not taken in a word that is split; then the next shorter one is tried."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known = tokenizer.get_vocab()
        self._words: dict[str, list[str]] = {}
        self._whole: dict[str, list[int]] = {}

    def ids(self, text: str, chance: random.Random, share: float, limit: int) -> list[int]:
        """The first *limit* ids of *text*, about a *share* of its words split."""
        found = [SPECIAL.index("[CLS]")]
        for word in self._words_of(text):
            if chance.random() < share:
                found += self._pieces(word, chance)
            else:
                found += self._whole.get(word) or self._remembered(word)
        return [*found, SPECIAL.index("[SEP]")][:limit]

    def _words_of(self, text: str) -> list[str]:
        if text not in self._words:
            normal = self._tokenizer.normalizer.normalize_str(text)
            self._words[text] = [word for word, _ in self._tokenizer.pre_tokenizer.pre_tokenize_str(normal)]
        return self._words[text]

    def _remembered(self, word: str) -> list[int]:
        self._whole[word] = self._pieces(word, None)
        return self._whole[word]

    def _pieces(self, word: str, chance: random.Random | None) -> list[int]:
        """The longest known pieces from the left; with *chance* some of them are passed over."""
        found = []
        at = 0
        while at < len(word):
            ends = range(len(word), at, -1)
            pieces = [(end, word[at:end] if at == 0 else f"##{word[at:end]}") for end in ends]
            taken = [(end, piece) for end, piece in pieces if piece in self._known]
            kept = [pair for pair in taken[:-1] if chance is None or chance.random() >= self._REFUSED]
            if not taken:
                return [SPECIAL.index("[UNK]")]
            at, piece = (kept or taken[-1:])[0]
            found.append(self._known[piece])
        return found
