"""Whether config.json and the tensors fit together: layers that are missing, numbers that make no sense."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from anyform.contract.facts import Finding
from anyform.pretrained.configuration import Configuration
from anyform.pretrained.safetensors import Tensor
from anyform_hf_transformers.family import KNOWN
from anyform_hf_transformers.finding import AGAIN, critical, warning

RANGES: Mapping[str, tuple[int, int]] = {
    "embedding_length": (1, 1 << 20),
    "layers": (0, 4096),
    "heads": (1, 1 << 16),
    "kv_heads": (1, 1 << 16),
    "key_length": (1, 1 << 16),
}
"""Ten times what any model has."""
MOST_VOCABULARY = 1 << 26
LAYER = re.compile(r"(?P<stack>.*?\b(?:layers|layer|h|blocks|block))\.(?P<number>\d{1,5})\.(?P<rest>.+)")
"""A tensor of a stack of equal layers."""
EMBEDDINGS = ("embed_tokens.weight", "word_embeddings.weight", "wte.weight", "shared.weight", "tok_embeddings.weight")
FEWEST = 4
"""From so many layers on one that lacks what all others have is a hole, and no design."""


def numbers(config: Configuration, name: str) -> Iterator[Finding]:
    """What cannot be true of any network."""
    shape = config.shape()
    for key, (least, most) in RANGES.items():
        value = shape[key]
        if value is not None and not least <= value <= most:
            text = f"{name}: {key} comes to {value}; it has to be {least} to {most}. The file is damaged."
            yield critical("bad_value", text)
            return
    heads, kv_heads = shape["heads"], shape["kv_heads"]
    if heads and kv_heads and heads % kv_heads:
        text = f"{name}: {heads} heads cannot share {kv_heads} key-value heads evenly. The file is damaged."
        yield critical("bad_value", text)
    vocabulary = config.number("vocab_size")
    if vocabulary is not None and not 0 < vocabulary <= MOST_VOCABULARY:
        yield critical("bad_value", f"{name}: vocab_size is {vocabulary}. The file is damaged.")


def check(config: Configuration, tensors: Sequence[Tensor]) -> Iterator[Finding]:
    """Layers and rows that the config promises and the tensors lack, and rows that it does not know of."""
    yield from _layers(config, tensors)
    quantized = isinstance(config.content.get("quantization_config"), dict)
    if config.text is config.content and not quantized:
        yield from _embeddings(config, tensors)


def _layers(config: Configuration, tensors: Sequence[Tensor]) -> Iterator[Finding]:
    stacks: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for tensor in tensors:
        if found := LAYER.fullmatch(tensor.name):
            stacks[found["stack"]][int(found["number"])].add(found["rest"])
    wanted = config.number("num_hidden_layers", "n_layer", "n_layers")
    alone = len(stacks) == 1 and config.text is config.content
    for stack, layers in stacks.items():
        count = wanted if alone and wanted and len(layers) > wanted // 2 else max(layers) + 1
        yield from _gaps(stack, layers, count)
        yield from _holes(stack, layers)


def _gaps(stack: str, layers: Mapping[int, set[str]], count: int) -> Iterator[Finding]:
    """Layers with no tensor at all. A number far beyond the others is no promise of those between."""
    missing = [number for number in range(min(count, 4096)) if number not in layers]
    if missing and len(missing) <= len(layers):
        said = ", ".join(map(str, missing[:5])) + (", …" if len(missing) > 5 else "")
        text = f"{stack} has no tensors for {len(missing)} of its {count} layers ({said}). {AGAIN}"
        yield critical("missing_layer", text)


def _holes(stack: str, layers: Mapping[int, set[str]]) -> Iterator[Finding]:
    """What one layer lacks and all others have: transformers would fill it with random numbers."""
    if len(layers) < FEWEST:
        return
    counts = Counter(rest for names in layers.values() for rest in names)
    for rest, count in sorted(counts.items()):
        if count == len(layers) - 1:
            number = next(number for number, names in layers.items() if rest not in names)
            text = f"{stack}.{number} has no {rest[:100]}, which all other layers have: the model may be incomplete."
            yield warning("missing_tensor", text)


def _embeddings(config: Configuration, tensors: Sequence[Tensor]) -> Iterator[Finding]:
    stated = config.number("vocab_size")
    tables = [tensor for tensor in tensors if tensor.name.endswith(EMBEDDINGS) and len(tensor.shape) == 2]
    exact = len(tables) == 1 and config.model_type in KNOWN and config.reads_text
    for table in tables if stated else ():
        if table.shape[0] < (stated or 0) or (exact and table.shape[0] != stated):
            text = f"{table.name} has {table.shape[0]} rows; config.json says that there are {stated} tokens. {AGAIN}"
            yield critical("vocab_mismatch", text)
