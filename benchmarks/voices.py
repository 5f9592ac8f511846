"""Writes models that hear and that speak, of the size of real ones, with random weights: speed does not depend on them.

`python benchmarks/voices.py` prints two folders under .bench/models, each made on first use: a Whisper of base's shape
(72 M parameters) as CTranslate2 keeps it, which says 60 words of each half minute whatever it hears; and a stand-in for
Kokoro with the real one's inputs and outputs, which computes as much for each phoneme as the real one takes time for.
Needs ctranslate2 and numpy.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from anyform.testing import kokoro, onnx
from anyform.testing.whisper import TEXT, TIMES, vocabulary

FOLDER = Path(__file__).resolve().parent.parent / ".bench" / "models"
WIDTH, LAYERS, HEADS, BANDS, POSITIONS = 512, 6, 8, 80, 448
TOKENS = 51_865
"""As many as every multilingual Whisper has up to large-v2."""
PROMPT = 3
"""Tokens before an answer: what begins it, the language, the task."""
WORDS = 60
"""Tokens that answer half a minute of sound, as two words a second would."""
SPREAD = 3.0
"""Standard deviation of the logits: wide enough for a clear best token, as in a trained model."""
SHARPNESS = 8.0
"""Of the attention to the sound: so high that what is said depends on it."""
SIDE, STEPS = 1024, 96
"""The load of one phoneme: so many products with two matrices of SIDE x 4 SIDE, 17 million operations each."""


def whisper(quantization: str = "int8", folder: Path = FOLDER) -> Path:
    """The Whisper's folder. *quantization*: one of CTranslate2's."""
    return _made(folder / f"whisper-random-base-{quantization}", lambda place: write_whisper(place, quantization))


def speaker(folder: Path = FOLDER, steps: int = STEPS) -> Path:
    """The folder of what speaks. *steps*: how much it computes for a phoneme."""
    return _made(folder / f"kokoro-standin-{steps}", lambda place: write_speaker(place, steps))


def hide() -> None:
    """Let later imports find nothing here: there is a transformers.py."""
    here = Path(__file__).resolve().parent
    sys.path[:] = [place for place in sys.path if Path(place).resolve() != here]


def _made(target: Path, write: Callable[[Path], None]) -> Path:
    if not target.exists():
        partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
        try:
            partial.mkdir(parents=True)
            write(partial)
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return target


def write_whisper(folder: Path, quantization: str) -> None:
    """model.bin, config.json, the vocabulary, and what makes features and text."""
    tokens = _tokens()
    spec = _spec(tokens.index("<|endoftext|>"))
    spec.register_vocabulary(tokens)
    spec.config.suppress_ids = [*range(256), *range(tokens.index("<|startoftranscript|>"), TOKENS - TIMES)]
    spec.config.suppress_ids_begin = [256, tokens.index("<|endoftext|>")]
    spec.config.lang_ids = [at for at, token in enumerate(tokens) if token.startswith("<|") and len(token) == 6]
    spec.config.alignment_heads = [[LAYERS - 1, 0]]
    spec.validate()
    spec.optimize(quantization)
    spec.save(str(folder))
    _put(folder / "tokenizer.json", _tokenizer(tokens))
    _put(
        folder / "preprocessor_config.json",
        {"chunk_length": 30, "feature_size": BANDS, "hop_length": 160, "n_fft": 400, "sampling_rate": 16_000},
    )


def _tokens() -> list[str]:
    """All bytes and many words, the last of them empty, as a multilingual model has it; then marks and times."""
    small = vocabulary(english=False)
    words = [f"\u0120w{number}" for number in range(256, TOKENS - len(small) + TEXT - 1)]
    return [*small[:256], *words, "", *small[TEXT:]]


def _tokenizer(tokens: list[str]) -> dict[str, Any]:
    first = tokens.index("<|endoftext|>")
    added = [
        {"id": first + at, "content": one, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": at < len(tokens) - TIMES - first} for at, one in enumerate(tokens[first:])
    ]  # fmt: skip
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    vocab = {token: at for at, token in enumerate(tokens[:first])}
    model = {"type": "BPE", "byte_fallback": False, "fuse_unk": False, "vocab": vocab, "merges": []}
    return {"version": "1.0", "added_tokens": added, "pre_tokenizer": level, "decoder": level, "model": model}


def _spec(end: int) -> Any:
    """An answer ends at its 60th token, since all later places point to *end*, and nothing else does."""
    hide()
    from ctranslate2.specs import WhisperSpec

    rng = np.random.default_rng(1)
    spec = WhisperSpec(LAYERS, HEADS, LAYERS, HEADS)
    ending = rng.standard_normal(WIDTH).astype(np.float32)
    ending = (ending - ending.mean()) / ending.std()
    encoder, decoder = spec.encoder, spec.decoder
    for conv, width in ((encoder.conv1, BANDS), (encoder.conv2, WIDTH)):
        conv.weight, conv.bias = _matrix(rng, WIDTH, width * 3).reshape(WIDTH, width, 3), _flat(WIDTH)
    encoder.position_encodings.encodings = _matrix(rng, 1500, WIDTH)
    decoder.embeddings.weight = SPREAD * _matrix(rng, TOKENS, WIDTH)
    decoder.embeddings.weight[-TIMES:] *= 0.1  # seldom said: each window is one segment
    decoder.embeddings.weight[end] = ending * SPREAD / WIDTH**0.5
    decoder.position_encodings.encodings = rng.standard_normal((POSITIONS, WIDTH), dtype=np.float32)
    decoder.position_encodings.encodings[PROMPT + WORDS :] = 100 * ending
    decoder.projection.weight = decoder.embeddings.weight
    for part in (encoder, decoder):
        _norm(part.layer_norm)
        for layer in part.layer:
            _attention(rng, layer.self_attention)
            if part is decoder:
                _attention(rng, layer.attention)
                layer.attention.linear[0].weight *= SHARPNESS
            _norm(layer.ffn.layer_norm)
            _linear(rng, layer.ffn.linear_0, 4 * WIDTH, WIDTH)
            _linear(rng, layer.ffn.linear_1, WIDTH, 4 * WIDTH)
    return spec


def _attention(rng: np.random.Generator, spec: Any) -> None:
    _norm(spec.layer_norm)
    rows = (3, 1) if len(spec.linear) == 2 else (1, 2, 1)
    for linear, many in zip(spec.linear, rows, strict=True):
        _linear(rng, linear, many * WIDTH, WIDTH)


def _linear(rng: np.random.Generator, spec: Any, rows: int, columns: int) -> None:
    spec.weight, spec.bias = _matrix(rng, rows, columns), _flat(rows)


def _norm(spec: Any) -> None:
    spec.gamma, spec.beta = _flat(WIDTH, 1.0), _flat(WIDTH)


def _matrix(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    return rng.standard_normal((rows, columns), dtype=np.float32) / np.float32(columns**0.5)


def _flat(size: int, value: float = 0.0) -> np.ndarray:
    return np.full(size, value, np.float32)


def write_speaker(folder: Path, steps: int) -> None:
    """The tests' stand-in, to whose sound nothing is added: of as much computing for each phoneme as *steps* says."""
    kokoro.write_kokoro(folder, voices=("af_heart",))
    graph = kokoro.speaker("tokens", "bare", duration=False, whole_speed=False)
    graph.outputs.clear()
    rng = np.random.default_rng(1)

    def matrix(name: str, rows: int, columns: int) -> str:
        return graph.weights(name, "F32", (rows, columns), _matrix(rng, columns, rows).T.tobytes())

    flat = graph.node("Reshape", "tokens", graph.constant([-1], "I64"))
    state = graph.node("Gather", matrix("load.table", kokoro.TOKENS, SIDE), flat)
    up, down = matrix("load.up", SIDE, 4 * SIDE), matrix("load.down", 4 * SIDE, SIDE)
    for _ in range(steps):
        state = graph.node("Tanh", graph.node("MatMul", graph.node("MatMul", state, up), down))
    nothing = graph.node("Mul", graph.node("ReduceMean", state, keepdims=0), graph.constant(0.0))
    graph.node("Add", "bare", nothing, called="audio")
    graph.output("audio", "F32", ("samples",))
    onnx.write_onnx(
        folder / "kokoro-v1.0.onnx", graph, metadata={"standin": "true", "model": "kokoro"}, doc=kokoro.STANDIN
    )


def _put(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def main() -> None:
    """Print where they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args()
    print(whisper(folder=options.folder))
    print(speaker(options.folder))


if __name__ == "__main__":
    main()
