"""Whisper's network, a step at a time: sound in, then a row of logits for each token, and where each token looked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from anyform.text.vectormodel import Floats
from anyform_hf_transformers.backend import torch
from anyform_hf_transformers.mel import Heard


class Recognizer:
    """One model. Not for several threads at once."""

    def __init__(self, model: Any, device: str, heads: Sequence[Sequence[int]] = ()) -> None:
        """*heads*: layer and head of those whose attention follows the sound."""
        self._model = model
        self._device = device
        self._heads = heads
        encoder = model.model.encoder
        self._stride = encoder.conv1.stride[0] * encoder.conv2.stride[0]
        self._cache: Any = None
        config = model.config
        self.window = self._stride * int(config.max_source_positions)
        """Frames that it hears at once."""
        self.context = int(config.max_target_positions)
        self.median = int(getattr(config, "median_filter_width", 7))
        self.bands = int(config.num_mel_bins)

    def hear(self, heard: Heard, start: int) -> Any:
        """What the encoder makes of the window from frame *start* on."""
        window = heard.frames[:, start : start + self.window]
        window = np.pad(window, ((0, 0), (0, self.window - window.shape[1])))
        with torch.inference_mode():
            given = torch.from_numpy(window)[None].to(self._device, self._model.dtype)
            return self._model.model.encoder(given).last_hidden_state

    def begin(self, sound: Any, tokens: Sequence[int]) -> Floats:
        """A row of logits after each of *tokens*, with which an answer about *sound* begins."""
        self._cache = None
        return self._run(sound, tokens)

    def step(self, sound: Any, token: int) -> Floats:
        """The row of logits after one more token."""
        row: Floats = self._run(sound, [token])[-1]
        return row

    def _run(self, sound: Any, tokens: Sequence[int]) -> Floats:
        with torch.inference_mode():
            out = self._model(
                decoder_input_ids=torch.tensor([tokens], device=self._device),
                encoder_outputs=(sound,),
                past_key_values=self._cache,
                use_cache=True,
            )
            self._cache = out.past_key_values
            made: Floats = out.logits[0].float().cpu().numpy()
            return made

    def look(self, sound: Any, tokens: Sequence[int]) -> Floats:
        """How much of its attention each of *tokens* gave to each fiftieth of a second: heads x tokens x columns."""
        used = self._model.config._attn_implementation
        seen: dict[int, Any] = {}
        layers = self._model.model.decoder.layers
        watched = [self._watch(layers, layer, seen) for layer in sorted({layer for layer, _ in self._heads})]
        self._model.set_attn_implementation("eager")  # others do not tell
        try:
            with torch.inference_mode():
                given = torch.tensor([tokens], device=self._device)
                self._model.model(decoder_input_ids=given, encoder_outputs=(sound,), use_cache=False)
        finally:
            self._model.set_attn_implementation(used)
            for hook in watched:
                hook.remove()
        made: Floats = np.stack([seen[layer][head] for layer, head in self._heads])
        return made

    def _watch(self, layers: Any, layer: int, seen: dict[int, Any]) -> Any:
        """Note what *layer* looks at: of all layers of a large model at once it would be gigabytes."""
        heads = [head for other, head in self._heads if other == layer]

        def note(module: Any, given: Any, out: Any) -> None:
            seen[layer] = {head: out[1][0, head].float().cpu().numpy() for head in heads}

        return layers[layer].encoder_attn.register_forward_hook(note)

    def columns(self, frames: int) -> int:
        """Columns of attention that *frames* have."""
        return max(frames // int(self._stride), 1)

    def forget(self) -> None:
        """Give back what the last answer took."""
        self._cache = None

    def free(self) -> None:
        """Give the weights back."""
        self._model = self._cache = None
        if self._device.startswith("cuda"):
            torch.cuda.empty_cache()
