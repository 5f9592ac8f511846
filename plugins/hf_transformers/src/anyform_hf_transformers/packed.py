"""Linear layers whose weights lie in memory as oneDNN multiplies them best, on a CPU.

torch multiplies a few rows by a matrix with MKL, which on many processors takes two to four times as long as oneDNN
with a matrix in its own order. The operators are those that torch's compiler uses for a frozen model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from anyform_hf_transformers.backend import torch
from anyform_hf_transformers.generation import TROUBLES, close

_TYPES = (torch.float32, torch.bfloat16)


class Packed(torch.nn.Module):  # type: ignore[misc]
    """A torch.nn.Linear that is only run. It holds the one copy of its weights."""

    def __init__(self, plain: Any) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bias = plain.in_features, plain.out_features, plain.bias
        self._packed = torch.ops.mkldnn._reorder_linear_weight(plain.weight.detach(), None)

    @property
    def weight(self) -> Any:
        """The packed matrix: for whoever wants to know its type."""
        return self._packed

    def forward(self, given: Any) -> Any:
        return torch.ops.mkldnn._linear_pointwise(given, self._packed, self.bias, "none", [], "")

    def plain(self) -> Any:
        """The layer that this was made of."""
        made = torch.nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        made.weight = torch.nn.Parameter(self._packed.to_dense(), requires_grad=False)
        made.bias = self.bias
        return made


def pack(model: Any, probe: Callable[[], Any]) -> bool:
    """Pack all linear layers of *model*, if *probe*, which runs it, then still gives the same numbers; whether it did.

    Takes the plain weights away one by one, so hardly more memory is needed than before; what other layers share, such
    as an output with the embeddings, is there twice from then on.
    """
    if not _there():
        return False
    expected = probe()
    with torch.inference_mode():
        for parent, name, layer in list(_linears(model)):
            setattr(parent, name, Packed(layer))
    try:
        if close(probe(), expected, model.dtype):
            return True
    except TROUBLES:
        pass  # such as a model that reads its layers' weights itself: it runs as it was
    for parent, name, layer in list(_children(model)):
        if isinstance(layer, Packed):
            setattr(parent, name, layer.plain())
    return False


def _there() -> bool:
    operators = getattr(torch.ops, "mkldnn", None)
    wanted = ("_reorder_linear_weight", "_linear_pointwise")
    return torch.backends.mkldnn.is_available() and all(hasattr(operators, name) for name in wanted)


def _linears(model: Any) -> Iterator[tuple[Any, str, Any]]:
    """Plain ones, of plain numbers: a quantized layer is of another class, or its weight is."""
    for parent, name, layer in _children(model):
        if type(layer) is torch.nn.Linear and type(layer.weight) is torch.nn.Parameter and layer.weight.dtype in _TYPES:
            yield parent, name, layer


def _children(model: Any) -> Iterator[tuple[Any, str, Any]]:
    for parent in list(model.modules()):
        for name, layer in parent.named_children():
            yield parent, name, layer
