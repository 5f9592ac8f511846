"""What config.json and generation_config.json of a Hugging Face Whisper say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from anyform_audio.hearing.network import MOST_LAYERS, WINDOW, Network
from anyform_audio.hearing.vocabulary import LANGUAGE

NUMBERS: Mapping[str, str] = {
    "width": "d_model", "forward": "encoder_ffn_dim", "bands": "num_mel_bins", "heads": "decoder_attention_heads",
    "encoder_layers": "encoder_layers", "decoder_layers": "decoder_layers", "positions": "max_target_positions",
    "vocabulary": "vocab_size",
}  # fmt: skip
"""Network's names -> those of transformers' WhisperConfig."""
MOST = 1 << 20
CODE = re.compile(rb'"<\|([a-z]{2,3})\|>"')
EMPTY = re.compile(rb'(?<!\\)"":')
"""A token of languages, and the empty one, in tokenizer.json."""
TOKENIZER_BYTES = 4 << 20
"""What is looked at of it."""


def described(config: Mapping[str, Any]) -> tuple[Network, str]:
    """(the network, what is wrong with its description, in a clause)"""
    numbers = {ours: config.get(theirs) for ours, theirs in NUMBERS.items()}
    for ours, theirs in NUMBERS.items():
        most = MOST_LAYERS if ours.endswith("layers") else MOST
        number = numbers[ours]
        if type(number) is not int or not 0 < number <= most:
            return Network(), f"{theirs} is {number!r:.60}; it has to be 1 to {most}"
    shape = Network(**{ours: int(number or 0) for ours, number in numbers.items()})
    return shape, _trouble(config, shape)


def _trouble(config: Mapping[str, Any], shape: Network) -> str:
    for key in ("encoder_attention_heads", "decoder_attention_heads"):
        count = config.get(key)
        if type(count) is not int or count < 1 or shape.width % count:
            return f"{key} is {count!r:.60}, which does not share {shape.width} numbers evenly"
    wanted = {
        "decoder_ffn_dim": shape.forward, "max_source_positions": WINDOW, "activation_function": "gelu",
    }  # fmt: skip
    for key, value in wanted.items():
        if config.get(key, value) != value:
            return f"{key} is {config[key]!r:.60}; only {value!r} can be run"
    return ""


def languages(generation: Mapping[str, Any], tokenizer: bytes) -> list[str]:
    """Codes, in the order of their tokens: as generation_config.json names them, else as *tokenizer* begins."""
    said = generation.get("lang_to_id")
    pairs = said.items() if isinstance(said, dict) else ()
    found = {name: number for name, number in pairs if type(number) is int and LANGUAGE.fullmatch(name)}
    stated = [name[2:-2] for name in sorted(found, key=lambda name: found[name])]
    return stated or list(dict.fromkeys(code.decode() for code in CODE.findall(tokenizer)))


def is_multilingual(generation: Mapping[str, Any], tokenizer: bytes) -> bool:
    """As generation_config.json says; else by the empty token, by which the engine goes."""
    said = generation.get("is_multilingual")
    return said if isinstance(said, bool) else EMPTY.search(tokenizer) is not None
