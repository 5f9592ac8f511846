"""The encoder's tokenizer: WordPiece on lower-case words without accents, as BERT has it."""

from __future__ import annotations

import json
import string
from collections.abc import Iterable, Sequence
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

VOCABULARY = 4096
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


def padded(tokenizer: Tokenizer, texts: Sequence[str], limit: int) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids and attention mask of *texts*, each cut to *limit* tokens and filled up to the longest."""
    tokenizer.enable_truncation(limit)
    tokenizer.enable_padding(pad_id=SPECIAL.index("[PAD]"), pad_token="[PAD]")
    encoded = tokenizer.encode_batch(list(texts))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return [text.ids for text in encoded], [text.attention_mask for text in encoded]
