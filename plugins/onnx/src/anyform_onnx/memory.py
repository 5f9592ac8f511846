"""How much memory the two engines take for a model: weights, KV cache, the numbers of a step, libraries."""

from __future__ import annotations

from collections.abc import Iterator

from anyform.contract.facts import MemoryEstimate, Metadata, Saving, Settings
from anyform.picture.memory import PHOTO_BYTES, SIDE, TOGETHER, TOGETHER_ON_DEVICE, patches
from anyform.picture.pixels import PREPARED
from anyform.text.processor import cores
from anyform_onnx import options as load_options
from anyform_onnx import role
from anyform_onnx.info import ENGINE
from anyform_onnx.options import Options

PROCESS_BYTES = 64 << 20
"""Python, numpy, onnxruntime's libraries: what the rest leaves of the VmHWM of processes that have loaded and run a
model (onnxruntime 1.31, onnxruntime-genai 0.18, Linux, x86)."""
TEXT_BYTES, GENAI_BYTES, WORD_BYTES = 28 << 20, 16 << 20, 1100
"""What those take in addition that generate text: templates, grammars; those of onnxruntime-genai; and for each token
of the vocabulary."""
DEVICE_BYTES = 500 << 20
"""What a CUDA context and its libraries take of an accelerator; a guess, not measured here."""
UNTOLD_CONTEXT, UNTOLD_PARALLEL = 8192, 4
"""As loading.py: what settings that name none get."""
LOADING, INLINE, INLINE_WHOLE = 0.5, 0.2, 0.75
"""Of weights in the graph's own file, what is there once more: while it is loaded, and afterwards, since matrices are
packed anew, those of whole numbers beside the old ones. External data are mapped: they take their size once."""
BLOCKWISE = 0.85
"""The same of matrices of four bits, wherever they lie."""
LOGITS_BYTES = 32 << 20
"""As generation.py: above it the logits of a prompt are not computed."""
COPIES = 2
"""Of the logits of a step: onnxruntime's and numpy's."""
SCORES = 5
"""Arrays of tokens x tokens for each head that are held at once, where attention is not fused."""
BLOCKS, JOINED_BLOCKS = 2, 3
"""Keys and values of what was and of what is new, where a graph gives back all of them at each step; and once more
where others join a batch, for which they are put together anew."""
BATCHES_AT_ONCE = 4
"""As vectorloading.py: of texts to embed or classify, where a CPU has so many cores; a longer text is alone."""
CHANNELS = 72
"""Numbers that a convolutional network holds for each pixel of a step: ResNet-50's."""
SMALL_BATCH = 64
EMBEDDED = (("F32", 4), ("F16", 2), ("BF16", 2))
NUMBER_BYTES = 4
"""A CPU computes in F32, whatever the weights are."""


def estimate(backend: str, metadata: Metadata, settings: Settings) -> MemoryEstimate:
    """Memory of a model with these settings.

    weights      as they lie in the files, which are mapped; embeddings that are mapped only while the rest is loaded,
                 since afterwards no more is read of them than the rows of tokens that occur; weights in the graph's
                 own file 1.5 times while it is loaded, and 1.2 times after (matrices are packed anew), 1.75 where
                 they are whole numbers; matrices of four bits 1.85 times
    cache        what the graph's inputs take for one token, for the whole context of each slot; in onnxruntime, where a
                 graph gives back what was together with what is new, twice that, and with several slots three times
    a step       `batch` tokens x (2 x feed-forward + 6 x width) x 4 bytes, and their logits, in onnxruntime twice and
                 of no more than 32 MiB where it can; where attention is not fused, 5 x heads x context numbers for
                 each token; of encoders a batch for each core, up to four, or one text of the longest; 16 pictures,
                 each of patches x (4 x feed-forward + 16 x width + 4 x heads x patches) numbers, or without heads
                 side x side x 72, and 120 MB for each that is decoded at once
    libraries    64 MiB; for text 28 MiB and 1100 bytes for each token of the vocabulary, for onnxruntime-genai 16 MiB;
                 on an accelerator 500 MiB

    Fitted to the VmHWM of processes with decoders of 27 and 125 million parameters (F32, INT4) and encoders of 26 and
    109 million (F32, INT8) that were made for it, run with all slots and batches full.

    Raises Invalid for an option that the backend does not know.
    """
    options = load_options.read(settings.options)
    on_cpu = settings.device in (None, "cpu")
    found = _Network(backend, metadata, settings, options)
    token_bytes = found.token_bytes()
    asked = (settings.context or 0) * (settings.parallel or 1)
    beyond = token_bytes * (found.context * found.parallel - asked)
    loading, kept = found.packed_again()
    overhead = max(loading, kept + found.step_bytes(on_cpu)) + (found.process_bytes() if on_cpu else DEVICE_BYTES)
    return MemoryEstimate(
        weights_bytes=found.weights,
        bytes_per_token=token_bytes,
        overhead_bytes=max(beyond + overhead, 0),
        confidence=0.6 if found.weights and (token_bytes or not found.decodes) else 0.3,
        why=_why(found),
        savings=tuple(_savings(found, on_cpu)),
    )


def _why(found: _Network) -> str:
    if not found.decodes:
        return "weights + one step's numbers, with attention not fused + libraries"
    twice = "" if found.shares else ", of what was and of what is new"
    return f"weights + keys and values of each token{twice} + a step's numbers and logits + libraries"


class _Network:
    """What of a model's metadata and settings decides on its memory."""

    def __init__(self, backend: str, metadata: Metadata, settings: Settings, options: Options) -> None:
        facts = metadata.extra
        self.facts, self.batch = facts, options.batch
        self.lanes = min(options.threads or cores(), BATCHES_AT_ONCE)
        self.genai = backend == ENGINE.name
        self.decodes = facts.get("role", role.DECODER) == role.DECODER
        self.sees = facts.get("role") in role.PICTORIAL
        self.weights = metadata.weight_bytes or 0
        self.vocabulary = metadata.vocab_size or 0
        self.width = self._number("embedding_length")
        self.context = settings.context or min(metadata.context or UNTOLD_CONTEXT, UNTOLD_CONTEXT)
        self.parallel = settings.parallel or (UNTOLD_PARALLEL if self.decodes else 1)
        self.blockwise = metadata.quantization.startswith(("INT4", "Q4"))
        self.whole = metadata.quantization in ("INT8", "UINT8")
        self.shares = self.genai or bool(facts.get("shares_cache"))

    def _number(self, name: str) -> int:
        value = self.facts.get(name)
        return value if type(value) is int else 0

    def token_bytes(self) -> int:
        """Keys and values of one token."""
        if not self.decodes:
            return 0
        told = self._number("cache_bytes") or (
            self._number("layers") * self._number("kv_heads") * 2 * self._number("head_size") * NUMBER_BYTES
        )
        return told * (1 if self.shares else BLOCKS if self.parallel == 1 else JOINED_BLOCKS)

    def packed_again(self) -> tuple[int, int]:
        """What weights take beyond their size: while they are loaded, and then."""
        mapped = min(self._number("external_bytes"), self.weights)
        inline, embedding = self.weights - mapped, self._embedding_bytes()
        unread = min(embedding, mapped)
        if self.blockwise:
            packed = round((self.weights - min(embedding, self.weights)) * BLOCKWISE)
            return packed, packed - unread
        return round(inline * LOADING), round(inline * (INLINE_WHOLE if self.whole else INLINE)) - unread

    def process_bytes(self) -> int:
        """What is there before any weights."""
        text = TEXT_BYTES + WORD_BYTES * self.vocabulary if self.decodes else 0
        return PROCESS_BYTES + text + (GENAI_BYTES if self.genai else 0)

    def _embedding_bytes(self) -> int:
        """A table that a graph reads rows of, in the first type of which there are so many numbers."""
        numbers, exported = self.vocabulary * self.width, self.facts.get("exported", {})
        each = next((size for name, size in EMBEDDED if exported.get(name, 0) >= numbers), 0)
        return numbers * each

    def step_bytes(self, on_cpu: bool, batch: int = 0) -> int:
        """What is computed at once; *batch*: instead of the option's."""
        batch = batch or self.batch
        if self.decodes:
            return self._decoding(batch)
        return self._seeing(on_cpu) if self.sees else self._encoding(batch * (self.lanes if on_cpu else 1))

    def _layer_bytes(self, tokens: int) -> int:
        numbers = tokens * (2 * self._number("feed_forward_length") + 6 * self.width)
        return round(numbers * NUMBER_BYTES * (1.5 if self.whole else 1))  # quantized, they are there in both types

    def _decoding(self, batch: int) -> int:
        tokens = min(batch, self.context)
        logits = tokens * self.vocabulary * NUMBER_BYTES
        if self.shares:
            return self._layer_bytes(tokens) + logits * (1 if self.genai else COPIES)
        bounded = min(logits, max(LOGITS_BYTES, self.parallel * self.vocabulary * NUMBER_BYTES))
        return self._layer_bytes(tokens) + bounded * COPIES + tokens * self._scores(self.context)

    def _encoding(self, batch: int) -> int:
        """Of texts that are as long as may be, which takes most."""
        tokens = max(batch, self.context)
        return self._layer_bytes(tokens) + tokens * self._scores(self.context)

    def _scores(self, tokens: int) -> int:
        """Of one token with all others of its text."""
        return SCORES * max(self._number("heads"), 1) * tokens * NUMBER_BYTES

    def _seeing(self, on_cpu: bool) -> int:
        """Of a step's pictures, and of those that are decoded meanwhile."""
        side, heads, count = self._number("image_size") or SIDE, self._number("heads"), patches(self.facts)
        numbers = count * (4 * self._number("feed_forward_length") + 16 * self.width) + 4 * heads * count**2
        if not self.width or not heads:
            numbers = side**2 * CHANNELS
        together = TOGETHER if on_cpu else TOGETHER_ON_DEVICE
        return together * numbers * NUMBER_BYTES + min(self.parallel, PREPARED) * PHOTO_BYTES


def _savings(found: _Network, on_cpu: bool) -> Iterator[Saving]:
    """What smaller steps leave free."""
    if found.batch > SMALL_BATCH:
        saved = found.step_bytes(on_cpu) - found.step_bytes(on_cpu, SMALL_BATCH)
        if saved > 0:
            yield Saving(
                options={"batch": SMALL_BATCH}, bytes=saved, why="smaller steps: prompts, and many texts, take longer"
            )
