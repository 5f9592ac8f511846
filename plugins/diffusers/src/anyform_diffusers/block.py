"""The blocks that networks are computed in, one after the other: where a picture can be ended within a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from anyform_diffusers import mode
from anyform_diffusers.backend import torch

_LEAST = 2
"""Modules that a block has of its own: what has fewer is a layer, done before anybody could wait for it."""


def of(pipe: Any) -> tuple[Any, ...]:
    """The network of the steps, both halves of the VAE, and their blocks: dozens. None of one that was compiled:
    its code would be made anew to call anybody.
    """
    vae = getattr(pipe, "vae", None)
    networks = (mode.denoiser(pipe), getattr(vae, "encoder", None), getattr(vae, "decoder", None))
    found = [part for network in networks for part in _parts(network)]
    return tuple({id(part): part for part in found}.values())


@contextmanager
def announced(blocks: Sequence[Any], begun: Callable[[], None]) -> Iterator[None]:
    """Meanwhile *begun* is called before each of *blocks* is computed; what it raises ends the computation."""
    with ExitStack() as hooks:
        for one in blocks:
            hooks.callback(one.register_forward_pre_hook(lambda module, given: begun()).remove)
        yield


def _parts(network: Any) -> Iterator[Any]:
    if not isinstance(network, torch.nn.Module) or getattr(network, "_compiled_call_impl", None) is not None:
        return
    yield network
    for listed in network.modules():
        if isinstance(listed, torch.nn.ModuleList):
            yield from (one for one in listed if len(list(one.children())) >= _LEAST)
