"""transformers' continuous batching, step by step: many greedy sequences, whose keys and values lie in pages.

Its manager would run a thread of its own; here whoever calls `step` computes, so that one thread has the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from anyform.text.decoder import Decoder
from anyform_hf_transformers.backend import torch, transformers

PAGE = 32
"""Tokens of a page. transformers takes 256, of which short answers would waste most."""
_PROBE, _PROBE_LENGTH = (3, 5, 1, 7, 2, 6, 4), 8
_NO_END = -1


@dataclass(frozen=True, slots=True)
class Grown:
    """What a step made of one sequence."""

    name: str
    tokens: Sequence[int]
    """All that were generated so far."""
    over: bool
    error: str


class Paged:
    """The pages, and the sequences in them. For one thread."""

    def __init__(self, model: Any, sequences: int, context: int, batch: int) -> None:
        """Room for so many *sequences* of *context* tokens each, so that none is ever put off once it has begun.

        *batch*: most tokens of a step. Raises whatever transformers does for a model or device that it cannot.
        """
        self._model = model
        pages = sequences * (-(-context // PAGE) + 1)
        config = transformers.ContinuousBatchingConfig(
            page_size=PAGE,
            num_blocks=pages,
            max_batch_tokens=max(batch, sequences),
            max_requests_per_batch=sequences,
            use_async_batching=False,  # else a cancelled sequence goes on for a step
            auto_switch_to_flash=False,  # the other loop has the same model, and needs its mask
        )
        sampling = transformers.GenerationConfig(do_sample=False, eos_token_id=_NO_END)
        self._manager = model.init_continuous_batching(generation_config=sampling, continuous_batching_config=config)
        self._processor = self._manager._create_batch_processor()

    def add(self, name: str, prompt: Sequence[int], most: int, ends: Iterable[int] = ()) -> None:
        """Begin a sequence: up to *most* tokens, or one of *ends*."""
        self._manager.add_request(
            list(prompt), request_id=name, max_new_tokens=most, streaming=True, eos_token_id=list(ends) or _NO_END
        )

    def drop(self, name: str) -> None:
        """End a sequence, of which nothing more is told; its pages are free at the next step."""
        self._manager.cancel_request(name)

    def step(self) -> list[Grown]:
        """Compute once for all sequences. Raises whatever torch and transformers do."""
        if self._processor.prepare_next_batch():
            self._processor._generation_step(self._model)
            self._processor.update_batch()
        told, found = self._manager.output_router.output_queue, []
        while not told.empty():
            one = told.get()
            found.append(Grown(one.request_id, one.generated_tokens, one.is_finished(), one.error or ""))
        return found

    def free(self) -> None:
        """Give the pages back."""
        self._manager.destroy()
        self._manager = self._processor = self._model = None


def works(paged: Paged, decoder: Decoder) -> bool:
    """Whether the pages give the tokens that *decoder* gives."""
    paged.add("probe", _PROBE, _PROBE_LENGTH)
    grown: list[int] = []
    for _ in range(2 * _PROBE_LENGTH):
        for one in paged.step():
            if one.error:
                return False
            grown = list(one.tokens)
        if len(grown) == _PROBE_LENGTH:
            break
    slot = decoder.slots - 1
    expected = [int(decoder.read(slot, 0, _PROBE, every=False)[-1].argmax())]
    while len(expected) < _PROBE_LENGTH:
        place = len(_PROBE) + len(expected) - 1
        expected.append(int(decoder.step([slot], expected[-1:], [place])[0].argmax()))
    return grown == expected


def unfit(model: Any, decoder: Decoder, exact: bool) -> str:
    """Why the pages cannot serve *model* beside *decoder*, in a clause; empty: nothing is known against it."""
    if exact:
        return "the option exact wants answers that do not hang on what else runs"
    if not decoder.batched:
        return "the model keeps more than keys and values, or masks in a way of its own"
    if model.config._attn_implementation != "sdpa":
        return f"its attention is {model.config._attn_implementation}, not sdpa"
    if len(set(map(str, getattr(model, "hf_device_map", {}).values()))) > 1:
        return "its layers lie on several devices"
    if not hasattr(transformers, "ContinuousBatchingConfig") or not hasattr(model, "init_continuous_batching"):
        return f"transformers {transformers.__version__} has none"
    return "" if torch.device(model.device).type in ("cpu", "cuda") else f"it is not used on {model.device}"
