"""The decoder: Qwen3's architecture in plain torch, small enough to train on a CPU.

Written from the shapes that transformers' `Qwen3ForCausalLM` and llama.cpp's `qwen3` read: RMS norm before each part,
RMS norm of each query and key head, rotary positions on half-split pairs, SwiGLU, embeddings tied to the output.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

ROPE_BASE = 10_000.0
NORM_EPSILON = 1e-6


@dataclass(frozen=True)
class Shape:
    """How large the decoder is. Every row length (`width`, `heads * head`, `feed_forward`) is a multiple of 256."""

    vocabulary: int = 2048
    width: int = 256
    layers: int = 5
    heads: int = 4
    kv_heads: int = 2
    head: int = 64
    feed_forward: int = 768
    context: int = 2048


class Cache:
    """Keys and values of the positions seen so far, for `rows` texts of at most `length` tokens."""

    def __init__(self, shape: Shape, rows: int, length: int, kind: torch.dtype) -> None:
        size = (shape.layers, rows, shape.kv_heads, length, shape.head)
        self.keys = torch.zeros(size, dtype=kind)
        self.values = torch.zeros(size, dtype=kind)


Memory = tuple[Tensor, Tensor, Tensor]
"""One layer's keys and values so far, and the place of each new token."""


class Norm(nn.Module):
    """RMS norm over the last axis, computed in float32 as both engines do."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + NORM_EPSILON) * self.weight).to(x.dtype)


class Linear(nn.Linear):
    """A product without bias, in the precision of what comes in: weights stay float32."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__(inner, outer, bias=False)
        nn.init.normal_(self.weight, std=inner**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


class Attention(nn.Module):
    """Causal self-attention with grouped keys and values."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.q_proj = Linear(shape.width, shape.heads * shape.head)
        self.k_proj = Linear(shape.width, shape.kv_heads * shape.head)
        self.v_proj = Linear(shape.width, shape.kv_heads * shape.head)
        self.o_proj = Linear(shape.heads * shape.head, shape.width)
        self.q_norm = Norm(shape.head)
        self.k_norm = Norm(shape.head)

    def forward(self, x: Tensor, turns: Tensor, hidden: Tensor, memory: Memory | None) -> Tensor:
        rows, length, _ = x.shape
        split = (rows, length, -1, self.shape.head)
        q = _turned(self.q_norm(self.q_proj(x).view(split)), turns).transpose(1, 2)
        k = _turned(self.k_norm(self.k_proj(x).view(split)), turns).transpose(1, 2)
        v = self.v_proj(x).view(split).transpose(1, 2)
        if memory is not None:
            keys, values, places = memory
            row = torch.arange(rows)[:, None]
            keys[row, :, places] = k.transpose(1, 2)
            values[row, :, places] = v.transpose(1, 2)
            k, v = keys, values
        groups = self.shape.heads // self.shape.kv_heads
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        scores = (q * self.shape.head**-0.5) @ k.transpose(-1, -2)
        seen = torch.softmax(scores + hidden, -1) @ v
        return self.o_proj(seen.transpose(1, 2).reshape(rows, length, -1))


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = Linear(shape.width, shape.feed_forward)
        self.up_proj = Linear(shape.width, shape.feed_forward)
        self.down_proj = Linear(shape.feed_forward, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """Attention, then feed-forward, each added to what came in."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = Norm(shape.width)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = Norm(shape.width)
        self.mlp = FeedForward(shape)

    def forward(self, x: Tensor, turns: Tensor, hidden: Tensor, memory: Memory | None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), turns, hidden, memory)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """Token ids -> hidden states -> logits. Parameters bear the names of a Qwen3 folder without the `model.`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.width)
        nn.init.normal_(self.embed_tokens.weight, std=0.02)
        for layer in self.layers:
            nn.init.zeros_(layer.self_attn.o_proj.weight)
            nn.init.zeros_(layer.mlp.down_proj.weight)
        self.register_buffer("turns", _angles(shape), persistent=False)

    def forward(
        self,
        tokens: Tensor,
        kind: torch.dtype = torch.float32,
        cache: Cache | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (rows, length, width) for `tokens` (rows, length), computed in *kind*.

        With a *cache*, `places` (rows, length) says at which position of its row each token stands.
        """
        x = F.embedding(tokens, self.embed_tokens.weight).to(kind)
        if cache is None or places is None:
            places = torch.arange(tokens.shape[1])[None]
            seen = places
        else:
            seen = torch.arange(cache.keys.shape[3])[None]
        turns = self.turns[places].to(kind)[..., None, :, :]
        hidden = torch.where(seen[:, None] > places[:, :, None], -torch.inf, 0.0).to(kind)[:, None]
        for number, layer in enumerate(self.layers):
            memory = None if cache is None else (cache.keys[number], cache.values[number], places)
            x = layer(x, turns, hidden, memory)
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token for each hidden state."""
        return F.linear(hidden, self.embed_tokens.weight.to(hidden.dtype))


def _angles(shape: Shape) -> Tensor:
    """Cosine and sine for each position and pair: (context, 2, head)."""
    pairs = torch.arange(0, shape.head, 2, dtype=torch.float64) / shape.head
    angle = torch.arange(shape.context, dtype=torch.float64)[:, None] / ROPE_BASE**pairs
    angle = torch.cat([angle, angle], -1)
    return torch.stack([angle.cos(), angle.sin()], 1).float()


def _turned(x: Tensor, turns: Tensor) -> Tensor:
    """*x* (rows, length, heads, head) turned by its position; a pair is element i and element i + head / 2."""
    left, right = x.chunk(2, -1)
    return x * turns[..., 0, :] + torch.cat([-right, left], -1) * turns[..., 1, :]
