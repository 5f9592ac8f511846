"""How a configuration of transformers wants attention and experts computed: by torch, or by code from elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

WAYS = ("eager", "sdpa", "flex_attention", "batched_mm", "grouped_mm")
"""How transformers computes attention and experts with torch alone."""

INSTALLED = (*WAYS, "flash_attention_2", "flash_attention_3", "flash_attention_4")
"""Those, and packages of their own."""


def fetched(config: Mapping[str, Any], ways: Collection[str] = WAYS) -> str:
    """What *config* wants attention or experts computed by, if it is none of *ways*: transformers would fetch such a
    kernel from the Hub and run it. Empty: nothing of the kind.
    """
    left: list[Any] = [config]
    while left:
        one = left.pop()
        for key, said in one.items() if isinstance(one, Mapping) else ():
            if not key.endswith(("attn_implementation", "experts_implementation")):
                left.append(said)
                continue
            values = said.values() if isinstance(said, Mapping) else (said,)
            strange = [value for value in values if value is not None and value not in ways]
            if strange:
                return str(strange[0])[:100]
    return ""
