"""What follows an encoder's network: sentence-transformers' modules, from the states of tokens to one vector a text.

Formulas and files: sentence_transformers' modules Pooling, Dense, LayerNorm and Normalize.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from anyform_hf_transformers.backend import torch

Step: TypeAlias = Callable[[Any, Any], Any]
"""Values, and which tokens count -> values: [texts, tokens, width] until they are pooled, then [texts, width]."""
POOLINGS = ("cls", "max", "mean", "mean_sqrt_len", "weightedmean", "last")


class Head:
    """Steps in their order; sums in single precision."""

    def __init__(self, steps: Sequence[Step], output: str = "last_hidden_state") -> None:
        """*output*: which of the network's outputs they begin with."""
        self._steps = steps
        self._output = output

    def rows(self, out: Any, mask: Any, skipped: Sequence[int]) -> Any:
        """One row a text. *mask*: [texts, tokens], 1 where there is one; *skipped*: first ones that do not count."""
        if any(skipped):
            places = torch.arange(mask.shape[1], device=mask.device)
            mask = mask * (places >= torch.as_tensor(skipped, device=mask.device)[:, None])
        values = out[self._output].float()
        for step in self._steps:
            values = step(values, mask)
        return values


def pool(kinds: Sequence[str]) -> Step:
    """One vector by each of *kinds*, joined."""
    return lambda states, mask: torch.cat([_POOL[kind](states, mask) for kind in kinds], -1)


def normalize(values: Any, mask: Any) -> Any:
    """To length one."""
    return torch.nn.functional.normalize(values, p=2, dim=-1)


def dense(weights: Mapping[str, Any], activation: Callable[[Any], Any], device: str) -> Step:
    """A linear layer. Raises KeyError for weights that are not there."""
    matrix = weights["linear.weight"].float().to(device)
    bias = weights["linear.bias"].float().to(device) if "linear.bias" in weights else None
    return lambda values, mask: activation(torch.nn.functional.linear(values, matrix, bias))


def layer_norm(weights: Mapping[str, Any], device: str) -> Step:
    """Raises KeyError for weights that are not there."""
    scale, shift = (weights[name].float().to(device) for name in ("norm.weight", "norm.bias"))
    return lambda values, mask: torch.nn.functional.layer_norm(values, scale.shape, scale, shift)


def _cls(states: Any, mask: Any) -> Any:
    return states[torch.arange(len(states), device=states.device), mask.argmax(1)]


def _last(states: Any, mask: Any) -> Any:
    places = torch.arange(mask.shape[1], device=mask.device)
    return states[torch.arange(len(states), device=states.device), (places * mask).argmax(1)]


def _max(states: Any, mask: Any) -> Any:
    return states.masked_fill(mask[:, :, None] == 0, -torch.inf).amax(1)


def _sum(states: Any, weights: Any) -> Any:
    return (states * weights[:, :, None]).sum(1)


def _mean(states: Any, mask: Any) -> Any:
    return _sum(states, mask) / mask.sum(1, keepdim=True).clamp(min=1e-9)


def _mean_sqrt_len(states: Any, mask: Any) -> Any:
    return _sum(states, mask) / mask.sum(1, keepdim=True).clamp(min=1e-9).sqrt()


def _weighted_mean(states: Any, mask: Any) -> Any:
    weights = mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)
    return _sum(states, weights) / weights.sum(1, keepdim=True).clamp(min=1e-9)


_POOL: Mapping[str, Callable[[Any, Any], Any]] = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len": _mean_sqrt_len,
    "weightedmean": _weighted_mean,
    "last": _last,
}
