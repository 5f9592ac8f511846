"""The sample encoder in torch: a small BERT whose mean over a text's tokens, normalised, is the text's vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer
from torch.nn.functional import normalize
from transformers import BertConfig, BertModel

from anyform_samples.embedding import vocabulary

CONTEXT = 512
_TOGETHER = 20
"""Texts computed at once: few enough that padding them to the longest wastes little."""


def new(tokens: int, width: int = 256) -> Any:
    """A BertModel of random weights for a vocabulary of *tokens*, 2.5M parameters at 4,285 and 256 wide."""
    config = BertConfig(
        vocab_size=tokens,
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=width // 64,
        intermediate_size=3 * width,
        attention_probs_dropout_prob=0.0,
        attn_implementation="eager",
        max_position_embeddings=CONTEXT,
        pad_token_id=vocabulary.SPECIAL.index("[PAD]"),
    )
    return BertModel(config, add_pooling_layer=False)


def vectors(
    model: Any, tokenizer: Tokenizer, texts: Sequence[str], limit: int = CONTEXT, *, deep: bool = True
) -> torch.Tensor:
    """One vector of length 1 a text, float32, [texts, hidden]; a text is cut to *limit* tokens.

    Without *deep* the layers are left out, and the mean is over the embeddings.
    """
    return of_tokens(model, [tokenizer.encode(text).ids[:limit] for text in texts], deep=deep)


def of_tokens(model: Any, rows: Sequence[Sequence[int]], *, deep: bool = True) -> torch.Tensor:
    """As `vectors` for texts that are token ids already."""
    order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
    groups = [order[at : at + _TOGETHER] for at in range(0, len(order), _TOGETHER)]
    parts = [_alike(model, [rows[place] for place in group], deep) for group in groups]
    return torch.cat(parts)[torch.tensor(order).argsort()]


def _alike(model: Any, rows: Sequence[Sequence[int]], deep: bool) -> torch.Tensor:
    """The vectors of texts of about one length, which are padded to the longest."""
    longest = max(map(len, rows))
    padding = vocabulary.SPECIAL.index("[PAD]")
    ids = torch.tensor([[*row, *[padding] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    found = model(input_ids=ids, attention_mask=mask).last_hidden_state if deep else model.embeddings(input_ids=ids)
    states = found.float()
    weights = mask.unsqueeze(-1).float()
    return normalize((states * weights).sum(1) / weights.sum(1), dim=-1)
