"""Writes a tiny Whisper folder of random numbers and sounds that it can be given, in pure Python: nothing is imported.

Special tokens stand in OpenAI's order, behind a few hundred tokens of text; what is said depends on the sound.
"""

from __future__ import annotations

import io
import math
import random
import struct
import wave
from array import array
from pathlib import Path
from typing import Any

from anyform.testing import bytelevel
from anyform.testing.safetensors import Tensor, write_json, write_safetensors

LANGUAGES = ("en", "zh", "de", "es", "fr")
TEXT = 400
"""Tokens of text: all bytes, then words, some with a space before them."""
TIMES = 1501
RATE = 16_000
WIDTH, POSITIONS, BANDS = 32, 64, 80
SPREAD = 0.3
"""Of the random weights: so large that attention is not even, and answers differ."""
HEADS = ((0, 1), (1, 0), (1, 1))
"""Layer and head of those that words are timed with."""


def write_whisper(
    folder: Path, *, english: bool = False, heads: bool = True, bands: int = BANDS, positions: int = POSITIONS,
    seed: int = 0, **changes: Any,
) -> Path:  # fmt: skip
    """A Whisper that transformers loads. *heads*: whether words can be timed. *changes*: to generation_config.json.

    *bands*: of the sound's spectrum, 80 or 128. *positions*: how many tokens an answer and its prompt may have.
    """
    words = vocabulary(english)
    ids = {name: TEXT + place for place, name in enumerate(words[TEXT:-TIMES])}
    write_json(
        folder / "config.json", _config(ids, len(words)) | {"num_mel_bins": bands, "max_target_positions": positions}
    )
    write_json(folder / "generation_config.json", generation(english, heads) | {"max_length": positions - 4} | changes)
    write_preparation(folder, english, bands)
    write_safetensors(folder / "model.safetensors", tensors(len(words), bands, positions, seed))
    return folder


def write_preparation(folder: Path, english: bool, bands: int) -> None:
    """What turns sound into numbers and numbers into text: preprocessor_config.json and tokenizer.json."""
    write_json(folder / "preprocessor_config.json", _PREPROCESSOR | {"feature_size": bands})
    _write_tokenizer(folder, vocabulary(english))


def vocabulary(english: bool) -> list[str]:
    """Every token in the order of ids: TEXT of text, special ones, TIMES times of 20 ms."""
    return [*_words(english), *_specials(english), *(f"<|{place * 0.02:.2f}|>" for place in range(TIMES))]


def _specials(english: bool) -> list[str]:
    """Those of an English-only model are the same but for the languages."""
    spoken = [] if english else [f"<|{code}|>" for code in LANGUAGES]
    marks = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
    return ["<|endoftext|>", "<|startoftranscript|>", *spoken, *(f"<|{mark}|>" for mark in marks)]


def _config(ids: dict[str, int], size: int) -> dict[str, Any]:
    end = ids["<|endoftext|>"]
    return {
        "architectures": ["WhisperForConditionalGeneration"], "model_type": "whisper", "vocab_size": size,
        "d_model": WIDTH, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": WIDTH, "decoder_ffn_dim": WIDTH, "num_mel_bins": BANDS,
        "num_hidden_layers": 1, "max_source_positions": 1500, "max_target_positions": POSITIONS,
        "is_encoder_decoder": True, "median_filter_width": 7, "torch_dtype": "float32", "bos_token_id": end,
        "eos_token_id": end, "pad_token_id": end, "decoder_start_token_id": ids["<|startoftranscript|>"],
    }  # fmt: skip


def generation(english: bool, heads: bool = True) -> dict[str, Any]:
    """generation_config.json."""
    ids = {name: TEXT + place for place, name in enumerate(_specials(english))}
    end = ids["<|endoftext|>"]
    said: dict[str, Any] = {
        "bos_token_id": end, "eos_token_id": end, "pad_token_id": end, "is_multilingual": not english,
        "decoder_start_token_id": ids["<|startoftranscript|>"], "prev_sot_token_id": ids["<|startofprev|>"],
        "no_timestamps_token_id": ids["<|notimestamps|>"], "max_initial_timestamp_index": 50,
        "begin_suppress_tokens": [256, end],
        "suppress_tokens": [*range(256), *range(end + 1, TEXT + len(ids))],
    }  # fmt: skip
    if not english:
        said["lang_to_id"] = {f"<|{code}|>": ids[f"<|{code}|>"] for code in LANGUAGES}
        said["task_to_id"] = {task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")}
    return said | ({"alignment_heads": [list(head) for head in HEADS]} if heads else {})


_PREPROCESSOR = {
    "feature_extractor_type": "WhisperFeatureExtractor", "processor_class": "WhisperProcessor", "feature_size": BANDS,
    "hop_length": 160, "n_fft": 400, "sampling_rate": RATE, "chunk_length": 30, "n_samples": 30 * RATE,
    "nb_max_frames": 3000, "padding_side": "right", "padding_value": 0.0, "return_attention_mask": False,
}  # fmt: skip


def _write_tokenizer(folder: Path, tokens: list[str]) -> None:
    words, specials, times = tokens[:TEXT], tokens[TEXT:-TIMES], tokens[-TIMES:]
    added = [(TEXT + place, name, place < len(specials)) for place, name in enumerate([*specials, *times])]
    content = bytelevel.content({word: id for id, word in enumerate(words)}, added)
    write_json(folder / "tokenizer.json", content)
    end = "<|endoftext|>"
    said = {"tokenizer_class": "WhisperTokenizer", "bos_token": end, "eos_token": end, "unk_token": end}
    write_json(folder / "tokenizer_config.json", said | {"pad_token": end, "extra_special_tokens": specials[1:]})


def _words(english: bool) -> list[str]:
    """Bytes as GPT-2 writes them, then whole words; a third of them go on with the one before.

    The last of a multilingual model is empty, as OpenAI's is: CTranslate2 knows by it that there are languages
    (https://github.com/OpenNMT/CTranslate2/blob/master/src/models/whisper.cc).
    """
    texts = [f"{'Ġ' if number % 3 else ''}w{number}" for number in range(256, TEXT)]
    texts[-1] = texts[-1] if english else ""
    return [*bytelevel.spelling(), *texts]


def tensors(size: int, bands: int = BANDS, positions: int = POSITIONS, seed: int = 0) -> list[Tensor]:
    """The weights of one layer of encoder and two of decoder; *size*: tokens."""
    shapes: dict[str, tuple[int, ...]] = {
        "model.encoder.conv1.weight": (WIDTH, bands, 3),
        "model.encoder.conv1.bias": (WIDTH,),
        "model.encoder.conv2.weight": (WIDTH, WIDTH, 3),
        "model.encoder.conv2.bias": (WIDTH,),
        "model.decoder.embed_tokens.weight": (size, WIDTH),
        "model.decoder.embed_positions.weight": (positions, WIDTH),
    }
    shapes |= _layer("model.encoder.layers.0", ("self_attn",))
    for number in range(2):
        shapes |= _layer(f"model.decoder.layers.{number}", ("self_attn", "encoder_attn"))
    norms = [name for name in shapes if name.endswith("layer_norm.weight")]
    norms += ["model.encoder.layer_norm.weight", "model.decoder.layer_norm.weight"]
    made = [_random(name, shape, seed) for name, shape in shapes.items() if name not in norms]
    for name in norms:
        made.append(_numbers(name, (WIDTH,), [1.0] * WIDTH))
        made.append(_numbers(name.replace("weight", "bias"), (WIDTH,), [0.0] * WIDTH))
    return [*made, _numbers("model.encoder.embed_positions.weight", (1500, WIDTH), _waves(1500, WIDTH))]


def _layer(name: str, attentions: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {f"{name}.final_layer_norm.weight": (WIDTH,)}
    for attention in attentions:
        shapes[f"{name}.{attention}_layer_norm.weight"] = (WIDTH,)
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes[f"{name}.{attention}.{part}.weight"] = (WIDTH, WIDTH)
            if part != "k_proj":
                shapes[f"{name}.{attention}.{part}.bias"] = (WIDTH,)
    for part in ("fc1", "fc2"):
        shapes |= {f"{name}.{part}.weight": (WIDTH, WIDTH), f"{name}.{part}.bias": (WIDTH,)}
    return shapes


def _random(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    chance = random.Random(f"{name} {seed}")
    return _numbers(name, shape, [chance.gauss(0, SPREAD) for _ in range(math.prod(shape))])


def _waves(rows: int, width: int) -> list[float]:
    """Whisper's fixed positions: https://github.com/openai/whisper/blob/main/whisper/model.py (sinusoids)."""
    half = width // 2
    scales = [math.exp(-math.log(10_000) / (half - 1) * place) for place in range(half)]
    return [turn(row * scale) for row in range(rows) for turn in (math.sin, math.cos) for scale in scales]


def _numbers(name: str, shape: tuple[int, ...], numbers: list[float]) -> Tensor:
    return Tensor(name, shape, "F32", struct.pack(f"<{len(numbers)}f", *numbers))


def voice(seconds: float, seed: int = 0) -> array[float]:
    """Something like a voice: a tone that rises and falls, with pauses and a little noise; -1 to 1, RATE a second."""
    chance, phase = random.Random(seed), 0.0
    made = array("f")
    for place in range(int(seconds * RATE)):
        at = place / RATE
        phase += 2 * math.pi * (180 + 90 * math.sin(at * 1.3 + seed)) / RATE
        loud = 0.3 if math.sin(at * 2.1 + seed) > -0.3 else 0.0
        made.append(loud * math.sin(phase) + 0.02 * (chance.random() - 0.5))
    return made


def wave_file(samples: array[float], rate: int = RATE) -> bytes:
    """A WAV file of 16 bits."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(struct.pack(f"<{len(samples)}h", *(round(sample * 32767) for sample in samples)))
    return out.getvalue()
