"""One llama.cpp model with one context, behind numpy: tokens in, rows of logits out.

It takes the `llama_cpp` module as an argument, since `backend.py` alone may import it. Only the thread that
decodes may call `Context`; `Vocabulary` reads constant data and may be called by any thread.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anyform_gguf_llamacpp.guard import Guard

Floats: TypeAlias = NDArray[np.float32]


class Vocabulary:
    """A model's tokenizer: text to ids, ids to bytes."""

    def __init__(self, llama: Any, model: Any, guard: Guard) -> None:
        self._llama = llama
        self._guard = guard
        self._vocab = llama.llama_model_get_vocab(model)
        self.size = int(llama.llama_vocab_n_tokens(self._vocab))
        self.bos = int(llama.llama_vocab_bos(self._vocab))
        self.eos = int(llama.llama_vocab_eos(self._vocab))
        self.sep = int(llama.llama_vocab_sep(self._vocab))
        self.adds_bos = bool(llama.llama_vocab_get_add_bos(self._vocab))
        self.adds_eos = bool(llama.llama_vocab_get_add_eos(self._vocab))
        self.adds_sep = bool(llama.llama_vocab_get_add_sep(self._vocab))
        self.fim_prefix = int(llama.llama_vocab_fim_pre(self._vocab))
        self.fim_suffix = int(llama.llama_vocab_fim_suf(self._vocab))
        self.fim_middle = int(llama.llama_vocab_fim_mid(self._vocab))
        self.ends = frozenset(t for t in range(self.size) if llama.llama_vocab_is_eog(self._vocab, t))
        self.suppressed = self._read_suppressed()
        self._plain: list[bytes | None] = [None] * self.size
        self._special: list[bytes | None] = [None] * self.size

    def tokenize(self, text: str, *, affixes: bool, special: bool) -> list[int]:
        """Ids of *text*. affixes: add BOS/EOS where the model wants them; special: read `<|im_end|>` and the like."""
        data = text.encode("utf-8", "replace")
        room = len(data) + 8
        while True:
            ids = (ctypes.c_int32 * room)()
            with self._guard:
                count = self._llama.llama_tokenize(self._vocab, data, len(data), ids, room, affixes, special)
            if count >= 0:
                return ids[:count]
            room = -count

    def is_control(self, token: int) -> bool:
        """Whether *token* is no text: an end of turn, a role mark."""
        with self._guard:
            return bool(self._llama.llama_vocab_is_control(self._vocab, token))

    def ids_of(self, names: Iterable[str]) -> frozenset[int]:
        """The control tokens that are written so."""
        ids = [self.tokenize(name, affixes=False, special=True) for name in names]
        return frozenset(found[0] for found in ids if len(found) == 1 and self.is_control(found[0]))

    def piece(self, token: int, special: bool = False) -> bytes:
        """The bytes of one token; b"" for a control token unless *special*."""
        known = self._special if special else self._plain
        piece = known[token]
        if piece is None:
            piece = known[token] = self._read_piece(token, special)
        return piece

    def _read_piece(self, token: int, special: bool) -> bytes:
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            with self._guard:
                count = self._llama.llama_token_to_piece(self._vocab, token, buffer, room, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            room = -count

    def _read_suppressed(self) -> tuple[int, ...]:
        count = ctypes.c_int32()
        ids = self._llama.llama_vocab_get_suppress_tokens(self._vocab, ctypes.byref(count))
        return tuple(ids[: count.value]) if ids else ()


class Context:
    """A llama.cpp context: one batch buffer, the KV memory, the logits of the last decode."""

    def __init__(
        self,
        llama: Any,
        model: Any,
        context: Any,
        guard: Guard,
        *,
        batch: int,
        exact: bool = False,
        token_bytes: int = 0,
    ) -> None:
        """*batch*: most rows of one decode. *exact*: see `exact`; then there are at least two slots.

        *token_bytes*: what one token takes in the KV memory.
        """
        self._llama = llama
        self._model = model
        self._context = context
        self._guard = guard
        self._memory = llama.llama_get_memory(context)
        self.vocab_size = int(llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model)))
        self.width = int(llama.llama_model_n_embd_out(model))
        self.slots = int(llama.llama_n_seq_max(context))
        self.room = int(llama.llama_n_ctx_seq(context))
        """Tokens that the memory of one sequence holds."""
        self.slot_bytes = self.room * token_bytes
        """What one sequence's memory takes, all of which is copied with it."""
        self.window = int(llama.llama_model_n_swa(model))
        """Width of a sliding attention window; 0: none."""
        self.batch = min(batch, int(llama.llama_n_batch(context)))
        self.ubatch = int(llama.llama_n_ubatch(context))
        self.sealed = bool(llama.llama_model_is_recurrent(model) or llama.llama_model_is_hybrid(model))
        """Whether a sequence's memory cannot be cut in the middle (recurrent and hybrid models)."""
        self.exact = exact
        """Whether results must not hang on what else runs. llama.cpp has one kernel for a single row and another for
        several, whose sums differ in the last bits: so a row is never computed alone, and a prompt always is."""
        self._decode = llama.llama_decode
        self._logits_address = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(("llama_get_logits", llama._lib))
        self._rows: Floats = np.empty((0, self.vocab_size), np.float32)
        self._rows_key = (0, 0)
        self._make_batch(self.batch)

    def _make_batch(self, size: int) -> None:
        self.token: NDArray[np.int32] = np.zeros(size, np.int32)
        self.position: NDArray[np.int32] = np.zeros(size, np.int32)
        self.sequence: NDArray[np.int32] = np.zeros(size, np.int32)
        self.output: NDArray[np.int8] = np.zeros(size, np.int8)
        self._counts: NDArray[np.int32] = np.ones(size, np.int32)
        step = self.sequence.itemsize
        self._pointers: NDArray[np.uint64] = (self.sequence.ctypes.data + step * np.arange(size)).astype(np.uint64)
        types = dict(self._llama.llama_batch._fields_)
        self._batch = self._llama.llama_batch()
        for field, values in (
            ("token", self.token),
            ("pos", self.position),
            ("n_seq_id", self._counts),
            ("seq_id", self._pointers),
            ("logits", self.output),
        ):
            setattr(self._batch, field, ctypes.cast(values.ctypes.data, types[field]))

    def decode(self, count: int) -> int:
        """Run the first *count* rows of the batch arrays. llama.cpp's code: 0 done, 1 no room, <0 failed."""
        self._batch.n_tokens = count
        return int(self._decode(self._context, self._batch))

    def logits(self, count: int) -> Floats:
        """The *count* output rows of the last decode, in batch order: llama.cpp's own memory, valid until the next."""
        address = self._logits_address(self._context)
        if self._rows_key != (address, count):
            self._rows = self._view(address, count, self.vocab_size)
            self._rows_key = (address, count)
        return self._rows

    @staticmethod
    def _view(address: int, rows: int, columns: int) -> Floats:
        block = (ctypes.c_float * (rows * columns)).from_address(address)
        return np.ctypeslib.as_array(block).reshape(rows, columns)

    def pooled(self, sequence: int, width: int) -> Floats:
        """A copy of the pooled output of one sequence; for rank pooling, its scores."""
        pointer = self._llama.llama_get_embeddings_seq(self._context, sequence)
        if not pointer:
            raise RuntimeError(f"llama.cpp gave no embedding for sequence {sequence}")
        return np.ctypeslib.as_array(pointer, (width,)).astype(np.float32, copy=True)

    def cut(self, sequence: int, start: int) -> bool:
        """Forget positions from *start* on; False if this memory cannot be cut there (then nothing changed)."""
        return bool(self._llama.llama_memory_seq_rm(self._memory, sequence, start, -1))

    def copy(self, source: int, target: int) -> None:
        """Make sequence *target*, which must be empty, a copy of *source*."""
        self._llama.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def first(self, sequence: int) -> int:
        """The first position still in memory; above 0 when a sliding window has dropped older ones; -1: empty."""
        return int(self._llama.llama_memory_seq_pos_min(self._memory, sequence))

    def clear(self) -> None:
        """Forget all sequences."""
        if self._memory:
            self._llama.llama_memory_clear(self._memory, True)

    def synchronize(self) -> None:
        self._llama.llama_synchronize(self._context)

    def free(self) -> None:
        """Free the context, and the model once no thread reads its vocabulary. Idempotent."""
        context, self._context = self._context, None
        model, self._model = self._model, None
        if context:
            self._llama.llama_free(context)
        self._guard.shut()
        if model:
            self._llama.llama_model_free(model)
