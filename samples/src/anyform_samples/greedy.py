"""Greedy answers of the decoder in torch, many at once: what training is watched by."""

from __future__ import annotations

import torch
from torch import Tensor

from anyform_samples.decoder import Cache, Decoder

ROWS = 64


@torch.no_grad()
def answers(decoder: Decoder, prompts: list[list[int]], end: int, most: int = 100) -> list[list[int]]:
    """The tokens that follow each of *prompts*, without the *end* token; at most *most* of them."""
    found: dict[int, list[int]] = {}
    by_length = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    for start in range(0, len(by_length), ROWS):
        group = by_length[start : start + ROWS]
        found.update(zip(group, _together(decoder, [prompts[number] for number in group], end, most), strict=True))
    return [found[number] for number in range(len(prompts))]


def _together(decoder: Decoder, prompts: list[list[int]], end: int, most: int) -> list[list[int]]:
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    longest = int(lengths.max())
    cache = Cache(decoder.shape, len(prompts), longest + most, torch.float32)
    padded = torch.tensor([prompt + [0] * (longest - len(prompt)) for prompt in prompts])
    places = torch.arange(longest).expand(len(prompts), -1)
    hidden = decoder(padded, cache=cache, places=places)
    token = _best(decoder, hidden[torch.arange(len(prompts)), lengths - 1])
    out = [token]
    over = token == end
    for step in range(most - 1):
        if bool(over.all()):
            break
        token = _best(decoder, decoder(token[:, None], cache=cache, places=(lengths + step)[:, None])[:, 0])
        over |= token == end
        out.append(token)
    rows: list[list[int]] = torch.stack(out, 1).tolist()
    return [row[: row.index(end)] if end in row else row for row in rows]


def _best(decoder: Decoder, hidden: Tensor) -> Tensor:
    return decoder.logits(hidden).argmax(-1)
