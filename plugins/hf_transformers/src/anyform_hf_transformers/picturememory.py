"""How much memory a model that looks at pictures takes beside its weights; and what bounds it while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anyform.contract.facts import Metadata
from anyform.picture.memory import PHOTO_BYTES, SIDE, TOGETHER, TOGETHER_ON_DEVICE, patches

CHANNELS = 192
"""Numbers that a convolutional network holds for each pixel of a step: ResNet-50's peak on a CPU, less all the rest."""
_TASKS = frozenset({"embed", "classify", "zero_shot", "caption", "answer"})
_WRITING = frozenset({"caption", "answer"})


def is_picture(metadata: Metadata) -> bool:
    """Whether all that it does, it does to pictures."""
    return bool(metadata.tasks) and "vision" in metadata.features and {*metadata.tasks} <= _TASKS


def working_bytes(metadata: Metadata, each: int, parallel: int, on_cpu: bool) -> int:
    """Of one step, and of pictures that are prepared meanwhile.

    step      for each picture patches x (3 x feed-forward + 8 x width + heads x patches); of a network without heads
              side x side x 192
    writing   as many pictures as requests; keys and values of all layers over patches and positions, and logits
    pictures  one of 12 million pixels for each request: fewer are prepared at once, but threads keep what they had
    """
    facts = metadata.extra.get("sight", {})
    writes = bool(_WRITING & {*metadata.tasks})
    together = parallel if writes else TOGETHER if on_cpu else TOGETHER_ON_DEVICE
    held = together * _looking(facts) + (parallel * _writing(metadata, facts) if writes else 0)
    return each * held + parallel * PHOTO_BYTES


def _looking(facts: Mapping[str, Any]) -> int:
    width, heads, count = facts.get("width", 0), facts.get("heads", 0), patches(facts)
    if not width or not heads:
        return int(facts.get("image_size", SIDE) ** 2 * CHANNELS)
    return int(count * (3 * facts.get("feed_forward", 4 * width) + 8 * width + heads * count))


def _writing(metadata: Metadata, facts: Mapping[str, Any]) -> int:
    layers, width = (_number(metadata.extra, name) for name in ("layers", "embedding_length"))
    return 2 * layers * (patches(facts) + (metadata.context or 0)) * width + 4 * (metadata.vocab_size or 0)


def _number(facts: Mapping[str, Any], name: str) -> int:
    value = facts.get(name)
    return value if isinstance(value, int) else 0
