"""The training corpus as batches of tokens, made ahead in a process of its own.

Examples come in chunks, each with a seed of its own, so that training resumes at a chunk without making those before.
Within a chunk, texts of like length share a batch, which leaves little padding.
"""

from __future__ import annotations

import itertools
import multiprocessing
import random
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer

from anyform_samples.corpus import Example, segments, training

CHUNK = 4096
"""Examples of one seed."""
ROUND = 16
"""Lengths are padded to a multiple of this."""
AHEAD = 2
"""Chunks made before they are needed."""


@dataclass(frozen=True)
class Batch:
    """Rows of equal length. `learnt[r][i]` says whether the token after `tokens[r][i]` is part of an answer."""

    tokens: list[list[int]]
    learnt: list[list[bool]]


@dataclass(frozen=True)
class Corpus:
    """Which examples are drawn. *shares*: how many of a category's examples are kept, 0 to 1; others are all kept."""

    seed: int
    tokenizer: Path
    batch_tokens: int
    context: int
    shares: Mapping[str, float]


def endless(corpus: Corpus, chunk: int = 0) -> Iterator[tuple[int, list[Batch]]]:
    """Chunks of batches from number *chunk* on, with their numbers."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as maker:
        waiting: list[Future[list[Batch]]] = []
        for number in itertools.count(chunk):
            while len(waiting) <= AHEAD:
                waiting.append(maker.submit(chunk_of, corpus, number + len(waiting)))
            yield number, waiting.pop(0).result()


def chunk_of(corpus: Corpus, number: int) -> list[Batch]:
    """The batches of one chunk, in random order."""
    chance = random.Random(f"{corpus.seed} {number}")
    tokenizer = _tokenizer(corpus.tokenizer)
    drawn = itertools.islice(training(chance.getrandbits(48)), CHUNK)
    kept = [example for example in drawn if chance.random() < corpus.shares.get(example.category, 1.0)]
    rows = sorted((tokenized(tokenizer, example) for example in kept), key=lambda row: len(row[0]))
    batches = [_padded(group) for group in _groups([row for row in rows if len(row[0]) <= corpus.context], corpus)]
    chance.shuffle(batches)
    return batches


def tokenized(tokenizer: Tokenizer, example: Example) -> tuple[list[int], list[bool]]:
    """Token ids of the conversation, and which of them are learnt."""
    ids: list[int] = []
    learnt: list[bool] = []
    for text, wanted in segments(example):
        piece = tokenizer.encode(text).ids
        ids += piece
        learnt += [wanted] * len(piece)
    return ids, learnt


def _groups(rows: list[tuple[list[int], list[bool]]], corpus: Corpus) -> Iterator[list[tuple[list[int], list[bool]]]]:
    group: list[tuple[list[int], list[bool]]] = []
    for row in rows:
        if group and (len(group) + 1) * _round(len(row[0]) - 1) > corpus.batch_tokens:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _padded(rows: list[tuple[list[int], list[bool]]]) -> Batch:
    length = _round(max(len(ids) for ids, _ in rows) - 1) + 1
    tokens = [ids + [0] * (length - len(ids)) for ids, _ in rows]
    learnt = [flags[1:] + [False] * (length - len(flags)) for _, flags in rows]
    return Batch(tokens, learnt)


def _round(length: int) -> int:
    return -(-length // ROUND) * ROUND


@lru_cache(maxsize=1)
def _tokenizer(path: Path) -> Tokenizer:
    return Tokenizer.from_file(str(path))
