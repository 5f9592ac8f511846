"""The forms of the sample encoder, each as a function from texts to vectors: GGUF through anyform, folder in torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy

import anyform
from anyform.contract.events import Vector
from anyform.contract.jobs import Embed as Job
from anyform_samples.embedding.search import Embed

_BATCH = 64


@contextmanager
def served(path: Path) -> Iterator[Embed]:
    """A model file or folder as anyform runs it, in a worker process that ends with the context."""
    runtime = anyform.start([path])
    (name,) = runtime.names()

    def embed(texts: Sequence[str]) -> Any:
        found: dict[int, bytes] = {}
        for at in range(0, len(texts), _BATCH):
            for event in runtime.generate(name, Job(inputs=tuple(texts[at : at + _BATCH]))):
                if isinstance(event, Vector):
                    found[at + event.index] = event.data
        return numpy.stack([numpy.frombuffer(found[place], "<f4") for place in range(len(texts))])

    try:
        yield embed
    finally:
        runtime.close()


def in_torch(folder: Path) -> Embed:
    """A Hugging Face folder in transformers, float32. Raises ImportError where torch or transformers is missing."""
    import torch
    from tokenizers import Tokenizer
    from transformers import BertModel

    from anyform_samples.embedding import encoder

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = BertModel.from_pretrained(folder, add_pooling_layer=False, dtype=torch.float32).eval()

    def embed(texts: Sequence[str]) -> Any:
        with torch.no_grad():
            return encoder.vectors(model, tokenizer, texts).numpy()

    return embed
