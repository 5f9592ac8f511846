"""Pictures for a chat: llama.cpp's projector (mtmd) turns them into embeddings that the model reads like tokens."""

from __future__ import annotations

import ctypes
import hashlib
import secrets
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from anyform.contract.errors import Invalid
from anyform.text.slot import Media, stand_in
from anyform_gguf_llamacpp.guard import Guard

_TEXT, _IMAGE = 0, 1
"""mtmd_input_chunk_type (mtmd.h)."""


def open_projector(
    mtmd: Any, path: str, model: Any, context: Any, guard: Guard, *, threads: int, gpu: bool, ubatch: int
) -> Projector | None:
    """A Projector for the mmproj file at *path*; None if llama.cpp refuses it or it does not see."""
    marker = f"<__media_{secrets.token_hex(8)}__>"  # one that no message can contain
    params = mtmd.mtmd_context_params_default()
    params.use_gpu = gpu
    params.n_threads = threads
    params.print_timings = False
    params.media_marker = marker.encode()
    handle = mtmd.mtmd_init_from_file(path.encode(), model, params)
    if not handle:
        return None
    if not mtmd.mtmd_support_vision(handle):
        mtmd.mtmd_free(handle)
        return None
    return Projector(mtmd, handle, context, guard, marker, ubatch)


class Projector:
    """One mmproj file, opened for one context. Any thread may call `tokenize`, only the engine's the rest."""

    def __init__(self, mtmd: Any, handle: Any, context: Any, guard: Guard, marker: str, ubatch: int) -> None:
        self.marker = marker
        """What stands for a picture in the prompt's text."""
        self._mtmd = mtmd
        self._handle = handle
        self._context = context
        self._guard = guard
        self._ubatch = ubatch

    def tokenize(self, text: str, pictures: Sequence[bytes]) -> tuple[list[int], tuple[Media, ...]]:
        """Tokens of *text*, whose markers stand for *pictures* (encoded: PNG, JPEG, ...); where they lie in it.

        A picture's tokens are below 0 and depend on its content, so that a shared prefix is found over pictures too.
        Raises Invalid for a picture that cannot be read.
        """
        mtmd = self._mtmd
        chunks = mtmd.mtmd_input_chunks_init()
        owner = _Chunks()
        weakref.finalize(owner, mtmd.mtmd_input_chunks_free, chunks)
        data = text.encode("utf-8", "replace")
        asked = mtmd.mtmd_input_text(data, len(data), True, True)
        with self._guard, self._bitmaps(pictures) as bitmaps:
            handles = (ctypes.c_void_p * len(bitmaps))(*bitmaps)
            code = mtmd.mtmd_tokenize(self._handle, chunks, ctypes.byref(asked), handles, len(bitmaps))
            if not code:
                return self._collect(owner, chunks, hashlib.sha256(b"\0".join(pictures)).digest())
        raise Invalid(f"the pictures could not be prepared (mtmd_tokenize gave {code}).", "Send other pictures.")

    @contextmanager
    def _bitmaps(self, pictures: Sequence[bytes]) -> Iterator[list[Any]]:
        made: list[Any] = []
        try:
            for place, data in enumerate(pictures):
                buffer = (ctypes.c_uint8 * max(len(data), 1)).from_buffer_copy(data or b"\0")
                bitmap = self._mtmd.mtmd_helper_bitmap_init_from_buf(self._handle, buffer, len(data), False)
                if not bitmap:
                    raise Invalid(f"picture {place} ({len(data)} bytes) cannot be read.", "Send PNG, JPEG, GIF or BMP.")
                made.append(bitmap)
            yield made
        finally:
            for bitmap in made:
                self._mtmd.mtmd_bitmap_free(bitmap)

    def _collect(self, owner: _Chunks, chunks: Any, digest: bytes) -> tuple[list[int], tuple[Media, ...]]:
        mtmd = self._mtmd
        tokens: list[int] = []
        media: list[Media] = []
        for place in range(mtmd.mtmd_input_chunks_size(chunks)):
            chunk = mtmd.mtmd_input_chunks_get(chunks, place)
            if mtmd.mtmd_input_chunk_get_type(chunk) == _TEXT:
                count = ctypes.c_size_t()
                ids = mtmd.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
                tokens.extend(ids[: count.value])
                continue
            size = int(mtmd.mtmd_input_chunk_get_n_tokens(chunk))
            self._check_size(chunk, size)
            start = len(tokens)
            tokens.extend(stand_in(digest, offset, place) for offset in range(size))
            positions = int(mtmd.mtmd_input_chunk_get_n_pos(chunk))
            media.append(Media(start, len(tokens), positions, (owner, chunk)))
        return tokens, tuple(media)

    def _check_size(self, chunk: Any, size: int) -> None:
        if size > self._ubatch and self._mtmd.mtmd_decode_use_non_causal(self._handle, chunk):
            raise Invalid(
                f"a picture takes {size} tokens, which this model must read at once; it was loaded for {self._ubatch}.",
                f"Load it with the options ubatch={size} and batch={size}, or send a smaller picture.",
            )

    def read(self, chunk: Any, sequence: int, position: int) -> int:
        """Decode a picture into *sequence* at *position*; 0, or llama.cpp's code."""
        past = ctypes.c_int32(position)
        return int(
            self._mtmd.mtmd_helper_eval_chunk_single(
                self._handle, self._context, chunk[1], position, sequence, self._ubatch, False, ctypes.byref(past)
            )
        )

    def free(self) -> None:
        """Free the projector once no thread prepares a prompt with it. Idempotent."""
        self._guard.shut()
        handle, self._handle = self._handle, None
        if handle:
            self._mtmd.mtmd_free(handle)


class _Chunks:
    """Keeps mtmd's chunks alive as long as a prompt refers to them."""
