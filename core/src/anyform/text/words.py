"""A folder's tokenizer as the text toolkit wants it: text to ids, and ids to the bytes that they add to a text."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>")
"""Control tokens that end an answer whatever generation_config.json says: fine-tuned models often leave them out."""
_HOLES = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),
)
"""Qwen and CodeGemma, StarCoder, SantaCoder, Code Llama."""
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class Words:
    """A `Tokenizer` over one of the tokenizers library."""

    def __init__(
        self,
        tokenizer: Any,
        size: int,
        ends: Iterable[int],
        suppressed: Iterable[int] = (),
        *,
        bos: int | None = None,
        eos: int | None = None,
    ) -> None:
        """*tokenizer*: a `tokenizers.Tokenizer`, which is left as it is.

        *size*: numbers in a row of logits, which may be more than there are tokens. *ends*: ids that end an answer.
        *bos*, *eos*: ids of the tokens that begin and end a text.
        """
        plain = unlimited(tokenizer)
        literal = copy.deepcopy(plain)
        literal.encode_special_tokens = True
        self._reading, self._literal = plain, literal
        added = plain.get_added_tokens_decoder()
        self.size = size
        self._control = {id: token.content for id, token in added.items() if token.special}
        self.bos = -1 if bos is None else bos
        self.eos = -1 if eos is None else eos
        marks = plain.encode("x", add_special_tokens=True).ids
        self.adds_bos = self.bos >= 0 and marks[:1] == [self.bos]
        self.adds_eos = self.eos >= 0 and len(marks) > 1 and marks[-1] == self.eos
        known = {content: id for id, content in self._control.items()}
        named = {known[name] for name in _TURN_ENDS if name in known}
        self.ends = frozenset({id for id in ends if 0 <= id < size} | named | ({self.eos} - {-1}))
        self.suppressed = tuple(id for id in suppressed if 0 <= id < size)
        holes = ([plain.token_to_id(name) for name in names] for names in _HOLES)
        found: list[int] = next((ids for ids in holes if None not in ids), [-1, -1, -1])
        self.fim_prefix, self.fim_suffix, self.fim_middle = found
        self._special = _pieces(plain, size, {id: token.content for id, token in added.items()})
        self._plain = [b"" if id in self._control else piece for id, piece in enumerate(self._special)]

    def tokenize(self, text: str, *, affixes: bool, special: bool) -> list[int]:
        chosen = self._reading if special else self._literal
        return list(chosen.encode(whole(text), add_special_tokens=affixes).ids)

    def is_control(self, token: int) -> bool:
        return token in self._control

    def ids_of(self, names: Iterable[str]) -> frozenset[int]:
        wanted = set(names)
        return frozenset(id for id, content in self._control.items() if content in wanted)

    def piece(self, token: int, special: bool = False) -> bytes:
        return (self._special if special else self._plain)[token]


def unlimited(tokenizer: Any) -> Any:
    """A copy of a `tokenizers.Tokenizer` which neither cuts nor pads."""
    own = copy.deepcopy(tokenizer)
    own.no_truncation()
    own.no_padding()
    return own


def whole(text: str) -> str:
    """*text* without lone surrogates, which Rust's strings cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _pieces(tokenizer: Any, size: int, added: Mapping[int, str]) -> list[bytes]:
    """The bytes of each id; b"" where there is no such token."""
    read = _reader(json.loads(tokenizer.to_str()).get("decoder"))
    pieces = []
    for id in range(size):
        token = added.get(id)
        if token is not None:
            pieces.append(token.encode("utf-8", "replace"))
        else:
            known = tokenizer.id_to_token(id)
            pieces.append(b"" if known is None else read(known))
    return pieces


def _reader(decoder: Any) -> Callable[[str], bytes]:
    """How the bytes of a token are written in its name, from tokenizer.json's `decoder`."""
    steps = decoder.get("decoders", [decoder]) if isinstance(decoder, dict) else []
    kinds = {step.get("type"): step for step in steps}
    if "ByteLevel" in kinds:
        return _byte_level
    if "WordPiece" in kinds:
        prefix = kinds["WordPiece"].get("prefix", "##")
        return lambda name: (name.removeprefix(prefix) if name.startswith(prefix) else f" {name}").encode()
    space = kinds.get("Metaspace", {}).get("replacement", "▁")
    falls_back = "ByteFallback" in kinds

    def read(name: str) -> bytes:
        byte = _BYTE.fullmatch(name) if falls_back else None
        return bytes.fromhex(byte[1]) if byte else name.replace(space, " ").encode("utf-8", "replace")

    return read


def _byte_level(name: str) -> bytes:
    try:
        return bytes(_BYTES[character] for character in name)
    except KeyError:
        return name.encode("utf-8", "replace")


def _byte_names() -> dict[str, int]:
    """GPT-2's: the printable bytes are themselves, the others follow from U+0100 on (its encoder.py)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {**{chr(byte): byte for byte in printable}, **{chr(256 + n): byte for n, byte in enumerate(others)}}


_BYTES = _byte_names()
