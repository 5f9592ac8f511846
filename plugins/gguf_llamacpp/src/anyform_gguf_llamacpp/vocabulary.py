"""Whether a tokenizer is whole: what llama.cpp asserts on, or would crash on in the middle of a prompt."""

from __future__ import annotations

import array
import sys
from collections.abc import Iterator, Mapping

from anyform.contract.facts import Finding
from anyform_gguf_llamacpp import gguf
from anyform_gguf_llamacpp.finding import critical, warning
from anyform_gguf_llamacpp.gguf import ARRAY, BOOL, STRING, TOKENIZER, Array, Buffer, Header, type_words

PREFIX = TOKENIZER
UINT8, INT8, UINT32, INT32, FLOAT32 = 0, 1, 4, 5, 6
TYPES: Mapping[str, tuple[tuple[int, ...], ...]] = {
    "model": ((STRING,),), "pre": ((STRING,),), "tokens": ((ARRAY, STRING),), "merges": ((ARRAY, STRING),),
    "scores": ((ARRAY, FLOAT32), (ARRAY, INT32)), "token_type": ((ARRAY, INT32),), "token_type_count": ((UINT32,),),
    "precompiled_charsmap": ((ARRAY, UINT8), (ARRAY, INT8)), "suppress_tokens": ((ARRAY, INT32),),
    "add_bos_token": ((BOOL,),), "add_eos_token": ((BOOL,),), "add_sep_token": ((BOOL,),),
    "add_space_prefix": ((BOOL,),), "remove_extra_whitespaces": ((BOOL,),),
}  # fmt: skip
"""Value types by key below PREFIX; llama.cpp takes no other."""
ID_SUFFIX = "_token_id"
NO_TOKENS = frozenset({"none", "no_vocab"})
WITH_MERGES = frozenset({"gpt2", "hybriddna", "whitespace", "gemma4"})
MERGELESS = "kimi-k2"
BYTE = 6
"""The token type of a single byte."""
BATCH = 1 << 18
"""Tokens whose hashes are held at once while looking for twins."""


def check(header: Header, buffer: Buffer) -> Iterator[Finding]:
    """Findings on the tokenizer's keys; the token texts themselves are only hashed."""
    model = header.text(PREFIX + "model")
    if not model:
        yield critical("missing_key", f"{PREFIX}model is missing: the file has no tokenizer. Convert the model again.")
        return
    yield from _types(header)
    if model in NO_TOKENS:
        return
    tokens = header.keys.get(PREFIX + "tokens")
    if not isinstance(tokens, Array) or tokens.kind != STRING or not tokens.count:
        yield critical("missing_key", f"{PREFIX}tokens is missing or empty: the file has no vocabulary.")
        return
    if model in WITH_MERGES and PREFIX + "merges" not in header.keys and header.text(PREFIX + "pre") != MERGELESS:
        yield critical("missing_key", f"{PREFIX}merges is missing; a {model} tokenizer needs it.")
    yield from _lengths(header, tokens.count)
    yield from _ids(header, tokens.count)
    yield from _twins(tokens, buffer)
    if model == "llama":
        yield from _bytes(tokens, buffer)
    if model == "bert" and BYTE in _token_types(header, buffer):
        yield critical("bad_token_type", f"{PREFIX}token_type marks single bytes, which a bert tokenizer has not.")


def _types(header: Header) -> Iterator[Finding]:
    ids = {key.removeprefix(PREFIX): ((UINT32,),) for key in header.keys if _is_id(key)}
    for key, kinds in {**TYPES, **ids}.items():
        found = header.kinds.get(PREFIX + key)
        if found is not None and found not in kinds:
            text = f"{PREFIX}{key} is {type_words(found)}, not {type_words(kinds[0])}. Convert the model again."
            yield critical("wrong_type", text)


def _is_id(key: str) -> bool:
    return key.startswith(PREFIX) and key.endswith(ID_SUFFIX)


def _lengths(header: Header, count: int) -> Iterator[Finding]:
    for key in ("scores", "token_type"):
        found = header.count(PREFIX + key)
        if found is not None and found < count:
            yield critical("array_too_short", f"{PREFIX}{key} has {found} values for {count} tokens.")
    for tensor in header.tensors:
        if tensor.name == "token_embd.weight" and len(tensor.shape) == 2 and tensor.shape[1] < count:
            text = f"there are {count} tokens, but embeddings for only {tensor.shape[1]}."
            yield critical("vocab_mismatch", text)


def _ids(header: Header, count: int) -> Iterator[Finding]:
    for key in filter(_is_id, header.keys):
        number = header.integer(key)
        if number is not None and not 0 <= number < count:
            yield warning("bad_token_id", f"{key} is {number} in a vocabulary of {count} tokens; a default is taken.")


def _twins(tokens: Array, buffer: Buffer) -> Iterator[Finding]:
    """Two tokens with one text: llama.cpp asserts that there are none.

    Hashes are compared, in rounds of about BATCH of them, so that memory stays bounded for any vocabulary.
    """
    known = tokens.known
    twice = known.twins if known is not None and known.twins is not None else _count_twins(tokens, buffer)
    if known is not None:
        known.twins = twice
    if twice:
        yield critical("duplicate_token", f"{twice} of {tokens.count} tokens have the text of another token.")


def _count_twins(tokens: Array, buffer: Buffer) -> int:
    """How many tokens have the text of another; of a vocabulary of several rounds those of the first that has any."""
    rounds = -(-tokens.count // BATCH)
    for turn in range(rounds):
        seen: set[int] = set()
        held = 0
        for number, text in enumerate(gguf.strings(buffer, tokens)):
            mark = hash(text or b"[EMPTY_%d]" % number)
            if rounds == 1 or mark % rounds == turn:
                seen.add(mark)
                held += 1
        if len(seen) < held:
            return held - len(seen)
    return 0


def _bytes(tokens: Array, buffer: Buffer) -> Iterator[Finding]:
    """Bytes without a token in a SentencePiece vocabulary: the engine's process ends at a character it does not know.

    (`llama_vocab::byte_to_token` throws through the C interface.)
    """
    known = {text for text in gguf.strings(buffer, tokens) if len(text) in (1, 6)}
    missing = [byte for byte in range(256) if b"<0x%02X>" % byte not in known and bytes([byte]) not in known]
    if missing:
        text = f"{len(missing)} of 256 bytes have no token (the first is 0x{missing[0]:02X}): llama.cpp ends at"
        yield critical(
            "missing_bytes", f"{text} a character that the vocabulary does not know. Convert the model again."
        )


def _token_types(header: Header, buffer: Buffer) -> array.array[int]:
    value = header.keys.get(PREFIX + "token_type")
    numbers = array.array("i")
    if isinstance(value, Array) and value.kind == INT32:
        numbers.frombytes(buffer[value.offset : value.offset + value.size])
        if sys.byteorder == "big":
            numbers.byteswap()
    return numbers
