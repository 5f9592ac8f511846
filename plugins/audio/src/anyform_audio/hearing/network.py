"""What arrays a Whisper is made of, by CTranslate2's names and by transformers'; and whether they fit each other.

Checked as a whole, since the engine does not: one that is too small ends the process, or lies outside its memory.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from anyform.contract.facts import Finding
from anyform_audio.finding import AGAIN, critical
from anyform_audio.hearing.binary import KINDS, Binary, Variable

MOST_LAYERS = 256
LAYER = re.compile(r"(encoder|decoder)/layer_(\d{1,3})/")
WINDOW = 1500
"""Positions of the encoder: what becomes of 30 seconds; the engine gives it no shorter sound."""
FLOATS = ("float32", "float16", "bfloat16")
Lengths = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Network:
    """The numbers that describe a Whisper. 0: not told."""

    width: int = 0
    forward: int = 0
    """Of a layer's widest part."""
    bands: int = 0
    """Of the sound's spectrum."""
    heads: int = 0
    encoder_layers: int = 0
    decoder_layers: int = 0
    positions: int = 0
    """Tokens of a text and what comes before it."""
    vocabulary: int = 0


def of_binary(found: Binary) -> Network:
    """What the variables' shapes tell; nothing of it is checked."""
    embedding, sound = _shape(found, "decoder/embeddings/weight", 2), _shape(found, "encoder/conv1/weight", 3)
    return Network(
        width=embedding[1],
        forward=_shape(found, "encoder/layer_0/ffn/linear_0/weight", 2)[0],
        bands=sound[1],
        heads=heads(found, "decoder"),
        encoder_layers=_layers(found, "encoder"),
        decoder_layers=_layers(found, "decoder"),
        positions=_shape(found, "decoder/position_encodings/encodings", 2)[0],
        vocabulary=embedding[0],
    )


def heads(found: Binary, part: str) -> int:
    """How many attention heads *part* has; 0: it does not say."""
    said = found.get(f"{part}/num_heads")
    return struct.unpack("<h", said.value)[0] if said is not None and len(said.value) == 2 else 0


def _shape(found: Binary, name: str, dimensions: int) -> Lengths:
    one = found.get(name)
    return one.shape if one is not None and len(one.shape) == dimensions else (0,) * dimensions


def _layers(found: Binary, part: str) -> int:
    named = (LAYER.match(name) for name in (*found.variables, *found.aliases))
    return max((int(one[2]) + 1 for one in named if one and one[1] == part), default=0)


def check_binary(found: Binary, name: str) -> Iterator[Finding]:
    """What is wrong with the variables of a Whisper, taken together."""
    network = of_binary(found)
    if not (network.encoder_layers and network.decoder_layers and network.width and network.bands):
        yield critical("ctranslate2.not_whole", f"{name} has no layers, or no embeddings, of a Whisper. {AGAIN}")
        return
    if max(network.encoder_layers, network.decoder_layers) > MOST_LAYERS:
        text = f"{name} has a layer {max(network.encoder_layers, network.decoder_layers)}. {AGAIN}"
        yield critical("ctranslate2.too_many_layers", text)
        return
    for part in ("encoder", "decoder"):
        count = heads(found, part)
        if count < 1 or network.width % count:
            text = (
                f"{name}: {part}/num_heads is {count or 'missing'}; {network.width} numbers have to be shared evenly."
            )
            yield critical("ctranslate2.bad_heads", f"{text} {AGAIN}")
    for variable, shape in _variables(network):
        yield from _check_variable(found, name, variable, shape)


def _check_variable(found: Binary, name: str, variable: str, shape: Lengths) -> Iterator[Finding]:
    one = found.get(variable)
    if one is None:
        if not variable.endswith("/bias"):
            yield critical("ctranslate2.missing_variable", f"{name} lacks {variable}. {AGAIN}")
        return
    if one.shape != shape:
        said = f"{name}: {variable} has the shape {list(one.shape)}; the rest of the model needs {list(shape)}."
        yield critical("ctranslate2.bad_shape", f"{said} {AGAIN}")
    kind = KINDS[one.kind][0]
    if kind in FLOATS:
        return
    scale = found.get(f"{one.name}_scale")
    if kind not in ("int8", "int16") or not variable.endswith("/weight"):
        text = f"{name}: {variable} is {kind}; it has to be one of {', '.join(FLOATS)}"
        yield critical("ctranslate2.unknown_quantization", f"{text}{', int8, int16' if _is_weight(one) else ''}.")
    elif scale is None or scale.shape != (() if kind == "int16" else shape[:1]):
        has = "has none" if scale is None else f"has them in the shape {list(scale.shape)}"
        yield critical("ctranslate2.bad_scale", f"{name}: {variable} is {kind}, and needs scales; it {has}. {AGAIN}")


def _is_weight(one: Variable) -> bool:
    return one.name.endswith("/weight")


def _variables(network: Network) -> Iterator[tuple[str, Lengths]]:
    """Name and shape of all that a Whisper needs, as CTranslate2 keeps it."""
    width, words = network.width, network.vocabulary
    yield from _linear("encoder/conv1", (width, network.bands, 3))
    yield from _linear("encoder/conv2", (width, width, 3))
    yield "encoder/position_encodings/encodings", (WINDOW, width)
    yield "decoder/position_encodings/encodings", (network.positions, width)
    yield "decoder/embeddings/weight", (words, width)
    yield "decoder/projection/weight", (words, width)
    for part, count in (("encoder", network.encoder_layers), ("decoder", network.decoder_layers)):
        yield from _norm(f"{part}/layer_norm", width)
        for number in range(count):
            yield from _layer(f"{part}/layer_{number}", network, part == "decoder")


def _layer(scope: str, network: Network, listens: bool) -> Iterator[tuple[str, Lengths]]:
    width, forward = network.width, network.forward
    yield from _linear(f"{scope}/self_attention/linear_0", (3 * width, width))
    yield from _linear(f"{scope}/self_attention/linear_1", (width, width))
    yield from _norm(f"{scope}/self_attention/layer_norm", width)
    if listens:
        for number, rows in enumerate((width, 2 * width, width)):
            yield from _linear(f"{scope}/attention/linear_{number}", (rows, width))
        yield from _norm(f"{scope}/attention/layer_norm", width)
    yield from _linear(f"{scope}/ffn/linear_0", (forward, width))
    yield from _linear(f"{scope}/ffn/linear_1", (width, forward))
    yield from _norm(f"{scope}/ffn/layer_norm", width)


def _linear(scope: str, shape: Lengths) -> Iterator[tuple[str, Lengths]]:
    yield f"{scope}/weight", shape
    yield f"{scope}/bias", shape[:1]


def _norm(scope: str, width: int) -> Iterator[tuple[str, Lengths]]:
    yield f"{scope}/gamma", (width,)
    yield f"{scope}/beta", (width,)


def tensors(network: Network) -> Mapping[str, Lengths]:
    """Name and shape of all that a Whisper needs, as transformers keeps it (modeling_whisper.py)."""
    width = network.width
    found: dict[str, Lengths] = {
        "model.encoder.conv1.weight": (width, network.bands, 3),
        "model.encoder.conv2.weight": (width, width, 3),
        "model.encoder.embed_positions.weight": (WINDOW, width),
        "model.decoder.embed_positions.weight": (network.positions, width),
        "model.decoder.embed_tokens.weight": (network.vocabulary, width),
        **{f"model.encoder.conv{number}.bias": (width,) for number in (1, 2)},
    }
    for part, count in (("encoder", network.encoder_layers), ("decoder", network.decoder_layers)):
        found |= _normal(f"model.{part}.layer_norm", width)
        for number in range(count):
            found |= _parts(f"model.{part}.layers.{number}", network, part == "decoder")
    return found


def _parts(scope: str, network: Network, listens: bool) -> dict[str, Lengths]:
    width, forward = network.width, network.forward
    found: dict[str, Lengths] = {}
    for attention in ("self_attn", "encoder_attn") if listens else ("self_attn",):
        found |= _normal(f"{scope}.{attention}_layer_norm", width)
        for letter in ("q_proj", "k_proj", "v_proj", "out_proj"):
            found[f"{scope}.{attention}.{letter}.weight"] = (width, width)
            found |= {} if letter == "k_proj" else {f"{scope}.{attention}.{letter}.bias": (width,)}
    found |= {f"{scope}.fc1.weight": (forward, width), f"{scope}.fc1.bias": (forward,)}
    found |= {f"{scope}.fc2.weight": (width, forward), f"{scope}.fc2.bias": (width,)}
    return found | _normal(f"{scope}.final_layer_norm", width)


def _normal(scope: str, width: int) -> dict[str, Lengths]:
    return {f"{scope}.weight": (width,), f"{scope}.bias": (width,)}
