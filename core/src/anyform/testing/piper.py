"""Writes a stand-in for a Piper voice in pure Python: its files, inputs, outputs and shapes; it beeps.

Each id is a tone of its own pitch, which a speaker moves; `scales` say how loud two overtones are and how long an id
lasts. The ids that are no phonemes (padding, beginning, end) are nearly silent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anyform.testing.kokoro import QUIET, overtones, placed, swell
from anyform.testing.onnx import Graph, write_onnx
from anyform.testing.safetensors import write_json

RATE = 22_050
ID_SAMPLES = 512
"""Of an id at a length scale of 1."""
IDS = 256
LOWEST_HZ, STEP_HZ, SPEAKER_HZ = 110.0, 6.0, 45.0
LETTERS = (
    "_^$ !'(),-.:;?abcdefhijklmnopqrstuvwxyz\u00e6\u00e7\u00f0\u00f8\u0127\u014b\u0153\u01c0\u01c1\u01c2\u01c3\u0250"
    "\u0251\u0252\u0253\u0254\u0255\u0256\u0257\u0258\u0259\u025a\u025b\u025c\u025e\u025f\u0260\u0261\u0262\u0263"
    "\u0264\u0265\u0266\u0267\u0268\u026a\u026b\u026c\u026d\u026e\u026f\u0270\u0271\u0272\u0273\u0274\u0275\u0276"
    "\u0278\u0279\u027a\u027b\u027d\u027e\u0280\u0281\u0282\u0283\u0284\u0288\u0289\u028a\u028b\u028c\u028d\u028e"
    "\u028f\u0290\u0291\u0292\u0294\u0295\u0298\u0299\u029b\u029c\u029d\u029f\u02a1\u02a2\u02b2\u02c8\u02cc\u02d0"
    '\u02d1\u02de\u03b2\u03b8\u03c7\u1d7b\u2c710123456789\u0327\u0303\u032a\u032f\u0329\u02b0\u02e4\u03b5\u2193#"'
    "\u2191\u033a\u033bg\u02a6X\u031d\u030a\u025d\u02b7"
)
"""Phonemes in the order of their ids, as Piper has numbered them."""
ESPEAK = {"en_US": "en-us", "en_GB": "en-gb-x-rp"}
"""What espeak-ng calls a language, where it is not the language's code."""
STANDIN = "A stand-in for a Piper voice made by anyform.testing: it has its inputs and outputs, and beeps."


def write_piper(
    folder: Path, name: str = "en_US-standin-medium", *, speakers: int = 1, rate: int = RATE, **changes: Any
) -> Path:
    """A folder with NAME.onnx and NAME.onnx.json, which onnxruntime and piper-tts run. *changes*: to the JSON."""
    write_onnx(folder / f"{name}.onnx", speaker(speakers, rate), metadata={"standin": "true"}, doc=STANDIN)
    write_json(folder / f"{name}.onnx.json", described(name, speakers, rate) | changes)
    return folder


def described(name: str, speakers: int, rate: int) -> dict[str, Any]:
    """The JSON beside a voice called LANGUAGE_REGION-NAME-QUALITY."""
    code, dataset, quality = name.split("-")
    family, _, region = code.partition("_")
    return {
        "audio": {"sample_rate": rate, "quality": quality},
        "espeak": {"voice": ESPEAK.get(code, family)},
        "inference": {"noise_scale": 0.667, "length_scale": 1, "noise_w": 0.8},
        "phoneme_type": "espeak", "phoneme_map": {}, "num_symbols": IDS, "num_speakers": speakers,
        "phoneme_id_map": {letter: [number] for number, letter in enumerate(LETTERS)},
        "speaker_id_map": {f"speaker_{number}": number for number in range(speakers)} if speakers > 1 else {},
        "piper_version": "1.0.0", "dataset": dataset,
        "language": {"code": code, "family": family, "region": region, "name_native": "", "name_english": ""},
    }  # fmt: skip


def speaker(speakers: int, rate: int) -> Graph:
    """The graph; of several speakers each has its own pitch."""
    graph = Graph("piper", doc=STANDIN)
    graph.input("input", "I64", ("batch_size", "phonemes"))
    graph.input("input_lengths", "I64", ("batch_size",))
    graph.input("scales", "F32", (3,))
    noise, length, width = graph.nodes_of("Split", ["scales"], ["noise", "length", "width"], attributes={"axis": 0})
    each = graph.node("Cast", graph.node("Floor", graph.node("Mul", length, graph.constant([ID_SAMPLES]))), to=7)
    flat = graph.node("Reshape", "input", graph.constant([-1], "I64"))
    ids = graph.node("Slice", flat, graph.constant([0], "I64"), "input_lengths")
    spoken, place = placed(graph, ids, each)
    tone = graph.node("Mul", graph.node("Cast", spoken, to=1), graph.constant(STEP_HZ))
    pitch = graph.node("Add", tone, graph.constant(LOWEST_HZ))
    if speakers > 1:
        graph.input("sid", "I64", ("batch_size",))
        moved = graph.constant([SPEAKER_HZ * number for number in range(speakers)])
        pitch = graph.node("Add", pitch, graph.node("Gather", moved, "sid"))
    rest = graph.constant([0.1, 0.05, 0.04, 0.03, 0.02])
    loudness = graph.node("Concat", graph.constant([0.5]), noise, width, rest, axis=0)
    sound = overtones(graph, pitch, place, rate, loudness)
    loud = graph.node("Gather", graph.constant([QUIET] * 3 + [0.5] * (IDS - 3)), spoken)
    whole = graph.node("Mul", graph.node("Mul", sound, loud), swell(graph, place, each))
    graph.node("Reshape", whole, graph.constant([1, 1, 1, -1], "I64"), called="output")
    graph.output("output", "F32", ("batch_size", "time", 1, "samples"))
    return graph
