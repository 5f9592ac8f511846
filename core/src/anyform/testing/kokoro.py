"""Writes a stand-in for Kokoro in pure Python: its files, inputs, outputs and shapes; what it says is a row of tones.

Each token is a tone of its own pitch, swelling and fading; a style says how loud its overtones are, speed how long a
token lasts. Before and after all of them lies near-silence. The style goes in linearly, so that the sound of a blend
of voices is the blend of their sounds.
"""

from __future__ import annotations

import io
import json
import math
import random
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anyform.testing.onnx import Graph, numbers, write_onnx
from anyform.testing.safetensors import write_json

RATE = 24_000
VOICES = ("af_heart", "af_bella", "am_adam", "bf_emma")
ROWS, WIDTH = 510, 256
"""Of a voice: a row of style for each number of tokens."""
TOKEN_SAMPLES = 1200
"""Of a token at speed 1; less, in whole samples, at a higher one."""
SILENT_TOKENS = 3
"""Added before the first token and after the last one, which are silent as well: token 0."""
TOKENS, POSITIONS = 178, 512
"""More fail, as in the real one."""
LOWEST_HZ, STEP_HZ = 120.0, 7.0
"""The tone of token 0, and how far those of two neighbours lie apart."""
OVERTONES = 8
QUIET = 1e-4
STANDIN = "A stand-in for Kokoro made by anyform.testing: it has its inputs and outputs, and beeps."


def write_kokoro(
    folder: Path,
    *,
    voices: Sequence[str] = VOICES,
    layout: str = "npz",
    variants: Sequence[str] = ("",),
    tokens: str = "tokens",
    duration: bool = False,
    whole_speed: bool = False,
    vocabulary: Mapping[str, int] | None = None,
    ballast_bytes: int = 0,
    seed: int = 0,
) -> Path:
    """A folder with a stand-in, which onnxruntime and kokoro-onnx run.

    *layout*: "npz" as kokoro-onnx publishes it, "folder" as onnx-community does (onnx/model*.onnx, voices/*.bin).
    *variants*: endings of the models' names, such as "fp16"; all are F32 here. *tokens*: what that input is called.
    *duration*: whether tokens' durations are given back as well. *whole_speed*: an I32, as in v1.1-zh. *vocabulary*: to
    be stated in the model's metadata. *ballast_bytes*: of weights that change nothing.
    """
    styles = {name: style(name, seed) for name in voices}
    told = {"standin": "true", "model": "kokoro"}
    if vocabulary is not None:
        told["kokoro_config"] = json.dumps({"vocab": dict(vocabulary)})
    if layout == "folder":
        names = [f"onnx/model{f'_{variant}' if variant else ''}.onnx" for variant in variants]
        write_json(folder / "config.json", {"model_type": "style_text_to_speech_2"})
        write_voices(folder / "voices", styles)
        tokens = "input_ids"
    else:
        names = [f"kokoro-v1.0{f'.{variant}' if variant else ''}.onnx" for variant in variants]
        write_npz(folder / "voices-v1.0.bin", styles)
    for name in names:
        graph = speaker(tokens, "waveform" if layout == "folder" else "audio", duration, whole_speed, ballast_bytes)
        write_onnx(folder / name, graph, metadata=told, doc=STANDIN)
    return folder


def style(name: str, seed: int = 0) -> list[float]:
    """A voice, 510 rows of 256: each voice has its own overtones, and each row differs a little from the one before."""
    chance = random.Random(f"{name} {seed}")
    part = WIDTH // OVERTONES
    loud = [chance.uniform(0.2, 1.0) / (place + 1) for place in range(OVERTONES)]
    share = 0.5 / sum(loud)
    first = [value * share + chance.gauss(0, 0.01) for value in loud for _ in range(part)]
    return [value * (1 - row / (4 * ROWS)) for row in range(ROWS) for value in first]


def speaker(tokens: str, audio: str, duration: bool, whole_speed: bool, ballast_bytes: int = 0) -> Graph:
    """The graph: *tokens* and *audio* are what its first input and its first output are called."""
    graph = Graph("kokoro", doc=STANDIN)
    graph.input(tokens, "I64", (1, "tokens"))
    graph.input("style", "F32", (1, WIDTH))
    graph.input("speed", "I32" if whole_speed else "F32", (1,))
    speed = graph.node("Cast", "speed", to=1)
    each = graph.node("Cast", graph.node("Floor", graph.node("Div", graph.constant([TOKEN_SAMPLES]), speed)), to=7)
    spoken, place = placed(graph, _padded(graph, tokens), each)
    tone = graph.node("Mul", graph.node("Cast", spoken, to=1), graph.constant(STEP_HZ))
    pitch = graph.node("Add", tone, graph.constant(LOWEST_HZ))
    sound = overtones(graph, pitch, place, RATE, _loudness(graph, ballast_bytes))
    loud = graph.node("Gather", graph.constant([QUIET] + [1.0] * (TOKENS - 1)), spoken)
    graph.node("Mul", graph.node("Mul", sound, loud), swell(graph, place, each), called=audio)
    graph.output(audio, "F32", ("samples",))
    if duration:
        _durations(graph, tokens, speed)
    return graph


def _padded(graph: Graph, tokens: str) -> str:
    """[tokens], with silent ones around it; fails for more tokens than the real one has positions for."""
    flat = graph.node("Reshape", tokens, graph.constant([-1], "I64"))
    count = graph.node("Squeeze", graph.node("Shape", flat))
    zero, one = graph.constant(0, "I64"), graph.constant(1, "I64")
    positions = graph.node("Range", zero, count, one)
    known = graph.node("Gather", graph.constant([0] * POSITIONS, "I64"), positions)
    silent = graph.constant([0] * SILENT_TOKENS, "I64")
    return graph.node("Concat", silent, graph.node("Add", flat, known), silent, axis=0)


def _loudness(graph: Graph, ballast_bytes: int) -> str:
    """[OVERTONES]: the mean of each eighth of the style."""
    style = "style"
    if ballast_bytes:
        style = _ballast(graph, style, ballast_bytes)
    rows = graph.node("Reshape", style, graph.constant([OVERTONES, -1], "I64"))
    return graph.node("ReduceMean", rows, axes=[1], keepdims=0)


def _ballast(graph: Graph, style: str, wanted: int) -> str:
    """The same style, to which a product with matrices of zeros was added."""
    side = WIDTH * 4 * WIDTH * 4
    for layer in range(max(1, wanted // (2 * side))):
        up = graph.weights(f"ballast.{layer}.up", "F32", (WIDTH, WIDTH * 4), bytes(side))
        down = graph.weights(f"ballast.{layer}.down", "F32", (WIDTH * 4, WIDTH), bytes(side))
        style = graph.node("Add", style, graph.node("MatMul", graph.node("MatMul", style, up), down))
    return style


def _durations(graph: Graph, tokens: str, speed: str) -> None:
    """[tokens], in frames: the silent ones last longer."""
    frames = graph.node(
        "Max", graph.node("Round", graph.node("Div", graph.constant([2.0]), speed)), graph.constant(1.0)
    )
    flat = graph.node("Reshape", tokens, graph.constant([-1], "I64"))
    silent = graph.node("Equal", flat, graph.constant(0, "I64"))
    share = graph.node("Where", silent, graph.constant(1 + SILENT_TOKENS, "I64"), graph.constant(1, "I64"))
    graph.node("Mul", share, graph.node("Cast", frames, to=7), called="duration")
    graph.output("duration", "I64", ("tokens",))


def placed(graph: Graph, ids: str, each: str) -> tuple[str, str]:
    """Of each sample its id, and where in it: two I64 [samples], where each of *ids* lasts *each* ([1]) samples."""
    count = graph.node("Mul", graph.node("Shape", ids), each)
    zero, one = graph.constant(0, "I64"), graph.constant(1, "I64")
    samples = graph.node("Range", zero, graph.node("Squeeze", count), one)
    which = graph.node("Div", samples, each)
    return graph.node("Gather", ids, which), graph.node("Sub", samples, graph.node("Mul", which, each))


def overtones(graph: Graph, pitch: str, place: str, rate: int, loudness: str) -> str:
    """The sum of tones of 1, 2, … times *pitch* (Hz, [samples]), each as loud as *loudness* says."""
    turn = graph.node("Mul", pitch, graph.constant(2 * math.pi / rate))
    phase = graph.node("Mul", turn, graph.node("Cast", place, to=1))
    column = graph.node("Reshape", phase, graph.constant([-1, 1], "I64"))
    count = graph.constant([float(number + 1) for number in range(OVERTONES)], shape=(1, OVERTONES))
    return graph.node("MatMul", graph.node("Sin", graph.node("Mul", column, count)), loudness)


def swell(graph: Graph, place: str, each: str) -> str:
    """From nothing to 1 and back within one id, so that neighbours meet without a click."""
    middle = graph.node("Add", graph.node("Cast", place, to=1), graph.constant(0.5))
    share = graph.node("Div", middle, graph.node("Cast", each, to=1))
    half = graph.node("Sin", graph.node("Mul", share, graph.constant(math.pi)))
    return graph.node("Mul", half, half)


def write_npz(path: Path, styles: Mapping[str, Sequence[float]]) -> Path:
    """Voices as one archive of arrays, float32 [510, 1, 256] each, stored as `numpy.savez` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, values in styles.items():
            archive.writestr(f"{name}.npy", npy("<f4", (ROWS, 1, WIDTH), numbers("F32", values)))
    return path


def write_voices(folder: Path, styles: Mapping[str, Sequence[float]]) -> Path:
    """Voices as a file each of nothing but little-endian float32."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in styles.items():
        (folder / f"{name}.bin").write_bytes(numbers("F32", values))
    return folder


def npy(kind: str, shape: Sequence[int], data: bytes, **said: Any) -> bytes:
    """An array, version 1.0 of https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html."""
    header = repr({"descr": kind, "fortran_order": False, "shape": tuple(shape), **said}).encode()
    out = io.BytesIO()
    padding = -(10 + len(header) + 1) % 64
    out.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + padding + 1))
    out.write(header + b" " * padding + b"\n" + data)
    return out.getvalue()
