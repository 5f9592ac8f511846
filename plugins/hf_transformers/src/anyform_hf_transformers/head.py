"""What follows an encoder's network: sentence-transformers' modules, from the states of tokens to one vector a text.

Formulas and files: sentence_transformers' modules Pooling, Dense, LayerNorm and Normalize.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from anyform.contract.errors import LoadFailed
from anyform.pretrained.sentence import Part, Sentence, unknown_function
from anyform_hf_transformers.backend import load_file, torch

Step: TypeAlias = Callable[[Any, Any], Any]
"""Values, and which tokens count -> values: [texts, tokens, width] until they are pooled, then [texts, width]."""


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


def head(said: Sentence, asked: str, device: str) -> Head:
    """What *said* has follow the network. *asked*: a pooling instead of its own. Raises Unsupported, LoadFailed."""
    return Head(said.steps(asked, Layers(said.plan.model, device)), said.output if said.parts else "last_hidden_state")


class Layers:
    """A `Maker` of steps, with the modules' weights on a device."""

    def __init__(self, model: str, device: str) -> None:
        self._model = model
        self._device = device

    def pool(self, kinds: Sequence[str]) -> Step:
        return lambda states, mask: torch.cat([_POOL[kind](states, mask) for kind in kinds], -1)

    def dense(self, part: Part) -> Step:
        found = self._weights(part)
        matrix, bias = found["linear.weight"], found.get("linear.bias")
        function = activation(part.activation, f"{part.folder.name} of {self._model}")
        return lambda values, mask: function(torch.nn.functional.linear(values, matrix, bias))

    def layer_norm(self, part: Part) -> Step:
        found = self._weights(part)
        scale, shift = found["norm.weight"], found["norm.bias"]
        return lambda values, mask: torch.nn.functional.layer_norm(values, scale.shape, scale, shift)

    def normalize(self) -> Step:
        return lambda values, mask: torch.nn.functional.normalize(values, p=2, dim=-1)

    def _weights(self, part: Part) -> dict[str, Any]:
        stored, pickled = part.folder / "model.safetensors", part.folder / "pytorch_model.bin"
        try:
            found = load_file(stored) if stored.is_file() else torch.load(pickled, "cpu", weights_only=True)
            return {name: one.float().to(self._device) for name, one in found.items()}
        except Exception as error:  # whatever the two raise
            raise LoadFailed(
                f"the weights of {part.folder.name} cannot be read: {error}.", "Get them again."
            ) from error


def activation(name: str, whose: str) -> Callable[[Any], Any]:
    """One of torch.nn, such as torch.nn.modules.activation.Tanh. Raises Unsupported."""
    kind = getattr(torch.nn, name.rpartition(".")[2], None) if name.startswith("torch.nn.") else None
    try:
        found = kind() if isinstance(kind, type) and issubclass(kind, torch.nn.Module) else None
    except TypeError:
        found = None
    if found is None:
        raise unknown_function(name, whose, "It runs those of torch.nn.")
    made: Callable[[Any], Any] = found
    return made


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
