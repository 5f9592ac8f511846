"""Models that write about a picture: how each family begins, and computes the next token of several rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from anyform.picture.seen import Seen
from anyform.picture.texts import Texts
from anyform_hf_transformers.backend import torch, transformers


@dataclass(slots=True)
class Sheet:
    """What several texts that began together need for their next token; a row each."""

    tokens: Any
    """Read or written so far, without what stands for the picture."""
    cache: Any
    """Keys and values of transformers."""
    given: dict[str, Any] = field(default_factory=dict)
    """What the decoder takes again in each step."""
    first: dict[str, Any] = field(default_factory=dict)
    """What it takes in the first step only."""

    def keep(self, rows: Sequence[int]) -> None:
        """Only *rows*."""
        if len(rows) == len(self.tokens):
            return
        chosen = torch.as_tensor(rows, device=self.tokens.device)
        self.tokens = self.tokens[chosen]
        self.cache.batch_select_indices(chosen)
        self.given = {name: tensor[chosen] for name, tensor in self.given.items()}


class Writer(ABC):
    """One model."""

    question = "{}"
    """How a question is put."""

    def __init__(self, model: Any, device: str, texts: Texts) -> None:
        self.model = model
        self.device = device
        self.texts = texts

    @property
    @abstractmethod
    def decoder(self) -> Any:
        """The part that writes; it has the generation_config."""

    @property
    @abstractmethod
    def ends(self) -> frozenset[int]:
        """Tokens that end a text."""

    @abstractmethod
    def begin(self, inputs: Sequence[Seen]) -> Sheet:
        """Look at pictures, and read what is asked about them. All of one key."""

    @abstractmethod
    def step(self, sheet: Sheet) -> Any:
        """Logits of the next token, a row for each of the sheet's."""

    def take(self, inputs: Sequence[Seen]) -> dict[str, Any]:
        """What the inputs are, as tensors."""
        arrays: dict[str, Any] = {name: np.stack([one.arrays[name] for one in inputs]) for name in inputs[0].arrays}
        if inputs[0].tokens:
            arrays |= self.texts.batch(inputs)
        made = {name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()}
        return {name: one.to(self.model.dtype) if one.is_floating_point() else one for name, one in made.items()}

    def started(self, rows: int, token: int) -> Any:
        """The token that a text begins with, for each row."""
        return torch.full((rows, 1), token, device=self.device)


class Blip(Writer):
    """BLIP: a caption from the picture; an answer from what the question's encoder saw in it."""

    @property
    def decoder(self) -> Any:
        return self.model.text_decoder

    @property
    def ends(self) -> frozenset[int]:
        return frozenset({self.model.config.text_config.sep_token_id})

    def begin(self, inputs: Sequence[Seen]) -> Sheet:
        given = self.take(inputs)
        hidden = self.model.vision_model(pixel_values=given["pixel_values"])[0]
        mask = torch.ones(hidden.shape[:2], dtype=torch.long, device=self.device)
        if "input_ids" in given:
            asked = given.get("attention_mask", torch.ones_like(given["input_ids"]))
            hidden = self.model.text_encoder(
                input_ids=given["input_ids"],
                attention_mask=asked,
                encoder_hidden_states=hidden,
                encoder_attention_mask=mask,
            )[0]
            mask = asked
        tokens = self.started(len(inputs), self.model.config.text_config.bos_token_id)
        return Sheet(tokens, _crossing(), {"encoder_hidden_states": hidden, "encoder_attention_mask": mask})

    def step(self, sheet: Sheet) -> Any:
        out = self.decoder(
            input_ids=sheet.tokens[:, -1:], past_key_values=sheet.cache, use_cache=True, is_decoder=True, **sheet.given
        )
        return out.logits[:, -1]


class Crossing(Writer):
    """vision-encoder-decoder: any picture encoder before any decoder that looks across."""

    @property
    def decoder(self) -> Any:
        return self.model

    @property
    def ends(self) -> frozenset[int]:
        return _ids(self.model.generation_config.eos_token_id, self.model.config.decoder.eos_token_id)

    def begin(self, inputs: Sequence[Seen]) -> Sheet:
        hidden = self.model.encoder(**self.take(inputs)).last_hidden_state
        asked, config = self.model.generation_config, self.model.config
        known = (asked.decoder_start_token_id, getattr(config, "decoder_start_token_id", None), asked.bos_token_id)
        start = next((one for one in (*known, config.decoder.bos_token_id) if one is not None), None)
        if start is None:
            raise ValueError("the model does not say with which token a text begins (decoder_start_token_id)")
        return Sheet(self.started(len(inputs), start), _crossing(), {"hidden": hidden})

    def step(self, sheet: Sheet) -> Any:
        return _crossed(self.model, sheet)


class Git(Writer):
    """GIT: the picture's patches lie in the cache before the text."""

    @property
    def decoder(self) -> Any:
        return self.model

    @property
    def ends(self) -> frozenset[int]:
        return _ids(self.model.generation_config.eos_token_id, self.model.config.eos_token_id)

    def begin(self, inputs: Sequence[Seen]) -> Sheet:
        tokens = self.started(len(inputs), self.model.config.bos_token_id)
        return Sheet(tokens, transformers.DynamicCache(config=self.model.config), first=self.take(inputs))

    def step(self, sheet: Sheet) -> Any:
        place = torch.full_like(sheet.tokens[:, -1:], sheet.tokens.shape[1] - 1)
        out = self.model(
            input_ids=sheet.tokens[:, -1:],
            position_ids=place,
            past_key_values=sheet.cache,
            use_cache=True,
            **sheet.first,
        )
        sheet.first = {}
        return out.logits[:, -1]


class Querying(Writer):
    """BLIP-2: what a few learnt queries find in the picture stands before the text, for OPT or for T5's encoder."""

    question = "Question: {} Answer:"

    @property
    def decoder(self) -> Any:
        return self.model.language_model

    @property
    def ends(self) -> frozenset[int]:
        return _ids(self.decoder.generation_config.eos_token_id, self.model.config.text_config.eos_token_id)

    def begin(self, inputs: Sequence[Seen]) -> Sheet:
        given = self.take(inputs)
        hidden = self.model.vision_model(pixel_values=given["pixel_values"]).last_hidden_state
        found = self.model.qformer(
            query_embeds=self.model.query_tokens.expand(len(inputs), -1, -1),
            encoder_hidden_states=hidden,
            encoder_attention_mask=torch.ones(hidden.shape[:2], dtype=torch.long, device=self.device),
        ).last_hidden_state
        text = self.model.config.text_config
        asked = given["input_ids"] if "input_ids" in given else self.started(len(inputs), text.bos_token_id)
        words = self.model.get_input_embeddings()(asked)
        beginning = torch.cat([self.model.language_projection(found.to(hidden.dtype)).to(words.dtype), words], 1)
        if not self.decoder.config.is_encoder_decoder:
            nothing = asked[:, :0]
            return Sheet(
                nothing, transformers.DynamicCache(config=self.decoder.config), first={"inputs_embeds": beginning}
            )
        read = self.decoder.get_encoder()(inputs_embeds=beginning).last_hidden_state
        tokens = self.started(len(inputs), self.decoder.generation_config.decoder_start_token_id)
        return Sheet(tokens, _crossing(), {"hidden": read})

    def step(self, sheet: Sheet) -> Any:
        if "hidden" in sheet.given:
            return _crossed(self.decoder, sheet)
        given = sheet.first or {"input_ids": sheet.tokens[:, -1:]}
        sheet.first = {}
        return self.decoder(past_key_values=sheet.cache, use_cache=True, **given).logits[:, -1]


WRITERS: dict[str, type[Writer]] = {
    "blip": Blip, "blip-2": Querying, "vision-encoder-decoder": Crossing, "git": Git,
}  # fmt: skip
"""By model type."""


def _crossing() -> Any:
    return transformers.EncoderDecoderCache(transformers.DynamicCache(), transformers.DynamicCache())


def _crossed(model: Any, sheet: Sheet) -> Any:
    """The next logits of an encoder-decoder."""
    out = model(
        encoder_outputs=(sheet.given["hidden"],),
        decoder_input_ids=sheet.tokens[:, -1:],
        past_key_values=sheet.cache,
        use_cache=True,
    )
    return out.logits[:, -1]


def _ids(*said: Any) -> frozenset[int]:
    """The first that says any."""
    for one in said:
        found = one if isinstance(one, list | tuple) else [one]
        if any(isinstance(token, int) for token in found):
            return frozenset(token for token in found if isinstance(token, int))
    return frozenset()
