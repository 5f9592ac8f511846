"""A Whisper of transformers' files as CTranslate2 keeps it, without torch: tensors renamed, joined and written.

The names are those of ctranslate2/specs/whisper_spec.py, what goes where that of ctranslate2/converters/transformers.py
(WhisperLoader), and the file's layout that of ctranslate2/specs/model_spec.py (ModelSpec._serialize), of which every
later CTranslate2 reads the same version.
"""

from __future__ import annotations

import json
import math
import shutil
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from anyform.contract.errors import LoadFailed, Unsupported
from anyform.contract.facts import Plan
from anyform_audio.hearing.tensors import Tensors
from anyform_audio.hearing.vocabulary import LANGUAGE

VERSION, REVISION, SPEC = 6, 3, "WhisperSpec"
KINDS = ("float32", "int8", "int16", "int32", "float16")
"""Of a variable, by the number that stands for each."""
GELU = 3
"""ctranslate2.specs.Activation."""
SPARE = 64 << 20
"""Bytes of a disk that are left free."""
PLACES = ("tokenizer.json", "preprocessor_config.json")
Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Network:
    """What config.json says of it."""

    encoder_layers: int
    encoder_heads: int
    decoder_layers: int
    decoder_heads: int
    vocabulary: int
    scale: float
    tied: bool


def convert(plan: Plan, folder: Path, out: Path) -> None:
    """Write into the folder *out* what CTranslate2 reads. Raises LoadFailed, Unsupported."""
    said, generation = _read(folder / "config.json"), _read(folder / "generation_config.json", absent_is_empty=True)
    tensors = Tensors(folder, _weights(plan, folder))
    _check_room(tensors, out)
    try:
        network = _network(said)
        words = _words(folder, network.vocabulary)
        _check_languages(words, generation, plan.model)
        with (out / "model.bin").open("wb") as file:
            _write_model(file, tensors, network)
    except (KeyError, ValueError, TypeError) as error:
        raise LoadFailed(
            f"{plan.model} is no Whisper as transformers keeps it: {type(error).__name__}: {error}.", "Get it again."
        ) from error
    _write(out / "vocabulary.json", words)
    _write(out / "config.json", _config(said, generation, network, words))
    for name in PLACES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)


def _weights(plan: Plan, folder: Path) -> Sequence[str]:
    """Names of the safetensors files of the plan's variant; they lie in *folder*."""
    inside = Path(plan.path).absolute()
    named = [inside / name for name in plan.match.files if name.endswith(".safetensors")]
    return [path.name for path in named if path.parent == folder]


def _check_room(tensors: Tensors, out: Path) -> None:
    free = shutil.disk_usage(out).free
    needs = tensors.size_bytes * 2 if tensors.grows else tensors.size_bytes
    if needs + SPARE > free:
        raise LoadFailed(
            f"the model must be converted, which takes {needs / 2**30:.1f} GiB in {out.parent}; {free / 2**30:.1f} GiB"
            " are free there.",
            "Free some, set TMPDIR to a folder with more, or get the model in CTranslate2's format.",
        )


def _network(said: Mapping[str, Any]) -> Network:
    if said.get("activation_function", "gelu") != "gelu":
        raise Unsupported(
            f"the activation of this model is {said['activation_function']}; CTranslate2's Whisper has gelu.",
            "Run it with transformers.",
        )
    return Network(
        encoder_layers=int(said["encoder_layers"]),
        encoder_heads=int(said["encoder_attention_heads"]),
        decoder_layers=int(said["decoder_layers"]),
        decoder_heads=int(said["decoder_attention_heads"]),
        vocabulary=int(said["vocab_size"]),
        scale=math.sqrt(int(said["d_model"])) if said.get("scale_embedding") else 1.0,
        tied=bool(said.get("tie_word_embeddings", True)),
    )


def _words(folder: Path, size: int) -> list[str]:
    """Every token in the order of ids; what the tokenizer lacks is times."""
    said = _read(folder / "tokenizer.json")
    known: dict[int, str] = {id: word for word, id in said["model"]["vocab"].items()}
    known |= {one["id"]: one["content"] for one in said.get("added_tokens", ())}
    words = [known[id] for id in sorted(known)][:size]
    words += [f"<|{place * 0.02:.2f}|>" for place in range(size - len(words))]
    return words


def _check_languages(words: Sequence[str], generation: Mapping[str, Any], name: str) -> None:
    """Refuse what CTranslate2 would take for an English model, which may have marks of languages, too."""
    several = generation.get("is_multilingual", bool(generation.get("lang_to_id")))
    if several and "" not in words:
        raise LoadFailed(
            f"the vocabulary of {name} lacks the empty token, by which CTranslate2 knows that there are languages.",
            "Run it with transformers.",
        )


def _config(
    said: Mapping[str, Any], generation: Mapping[str, Any], network: Network, words: Sequence[str]
) -> Mapping[str, Any]:
    """CTranslate2's config.json. Where no heads are named, they are all those of the upper half of the layers; where no
    languages are, they are those of the tokens.
    """
    source = generation or said
    upper = range(network.decoder_layers // 2, network.decoder_layers)
    every = [[layer, head] for layer in upper for head in range(network.decoder_heads)]
    named = sorted((generation.get("lang_to_id") or {}).values())
    return {
        "alignment_heads": generation.get("alignment_heads") or every,
        "lang_ids": named or [id for id, word in enumerate(words) if LANGUAGE.fullmatch(word)],
        "suppress_ids": source.get("suppress_tokens") or [],
        "suppress_ids_begin": source.get("begin_suppress_tokens") or [],
    }


def _write_model(file: IO[bytes], tensors: Tensors, network: Network) -> None:
    """A variable after the other, in the order of names; no more of them in memory than one."""
    variables: dict[str, np.generic | Sequence[str]] = {**_numbers(network), **_places(network)}
    aliases = {} if not network.tied else {"decoder/projection/weight": "decoder/embeddings/weight"}
    file.write(struct.pack("<I", VERSION) + _text(SPEC) + struct.pack("<II", REVISION, len(variables)))
    for name in sorted(variables):
        parts = variables[name]
        _write_variable(file, name, parts if isinstance(parts, np.generic) else _joined(tensors, parts))
    file.write(struct.pack("<I", len(aliases)))
    for pair in aliases.items():
        file.write(b"".join(map(_text, pair)))


def _write_variable(file: IO[bytes], name: str, value: Array | np.generic) -> None:
    file.write(_text(name) + struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape))
    file.write(struct.pack("<BI", KINDS.index(value.dtype.name), value.nbytes))
    file.write(np.ascontiguousarray(value).data if value.ndim else value.tobytes())


def _text(text: str) -> bytes:
    data = text.encode() + b"\0"
    return struct.pack("<H", len(data)) + data


def _joined(tensors: Tensors, parts: Sequence[str]) -> Array:
    """*parts* one below the other; keys have no bias, which stands as zeros."""
    found = [tensors.get(part) for part in parts]
    like = next((one for one in found if one is not None), None)
    if like is None:
        raise KeyError(parts[0])
    if len(found) == 1:
        return like
    for part, one in zip(parts, found, strict=True):
        if one is None and not part.endswith("k_proj.bias"):
            raise KeyError(part)
    return np.concatenate([np.zeros_like(like) if one is None else one for one in found])


def _numbers(network: Network) -> Mapping[str, np.generic]:
    """What the network is like: TransformerDecoderSpec and WhisperEncoderSpec."""
    return {
        "encoder/num_heads": np.int16(network.encoder_heads),
        "decoder/num_heads": np.int16(network.decoder_heads),
        "decoder/pre_norm": np.int8(1),
        "decoder/activation": np.int8(GELU),
        "decoder/alignment_layer": np.int16(-1),
        "decoder/alignment_heads": np.int16(1),
        "decoder/scale_embeddings": np.float32(network.scale) if network.scale != 1 else np.int8(0),
        "decoder/alibi": np.int8(0),
        "decoder/alibi_use_positive_positions": np.int8(0),
        "decoder/scale_alibi": np.int8(0),
        "decoder/start_from_zero_embedding": np.int8(0),
    }


def _places(network: Network) -> dict[str, tuple[str, ...]]:
    """CTranslate2's name -> the tensors that it is made of."""
    made = {
        "encoder/position_encodings/encodings": ("encoder.embed_positions.weight",),
        "decoder/position_encodings/encodings": ("decoder.embed_positions.weight",),
        "decoder/embeddings/weight": ("decoder.embed_tokens.weight",),
        **_norm("encoder/layer_norm", "encoder.layer_norm"),
        **_norm("decoder/layer_norm", "decoder.layer_norm"),
        **_linear("encoder/conv1", "encoder.conv1"),
        **_linear("encoder/conv2", "encoder.conv2"),
    }
    if not network.tied:
        made["decoder/projection/weight"] = ("proj_out.weight",)
    for side, layers in (("encoder", network.encoder_layers), ("decoder", network.decoder_layers)):
        for layer in range(layers):
            made |= dict(_layer(f"{side}/layer_{layer}", f"{side}.layers.{layer}", crossed=side == "decoder"))
    return made


def _layer(name: str, source: str, *, crossed: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield from _attention(f"{name}/self_attention", f"{source}.self_attn", ("qkv",))
    if crossed:
        yield from _attention(f"{name}/attention", f"{source}.encoder_attn", ("q", "kv"))
    yield from _norm(f"{name}/ffn/layer_norm", f"{source}.final_layer_norm").items()
    yield from _linear(f"{name}/ffn/linear_0", f"{source}.fc1").items()
    yield from _linear(f"{name}/ffn/linear_1", f"{source}.fc2").items()


def _attention(name: str, source: str, groups: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """*groups*: which of queries, keys and values stand as one matrix."""
    yield from _norm(f"{name}/layer_norm", f"{source}_layer_norm").items()
    for place, group in enumerate(groups):
        yield from _linear(f"{name}/linear_{place}", *(f"{source}.{letter}_proj" for letter in group)).items()
    yield from _linear(f"{name}/linear_{len(groups)}", f"{source}.out_proj").items()


def _linear(name: str, *sources: str) -> dict[str, tuple[str, ...]]:
    return {f"{name}/{last}": tuple(f"{source}.{last}" for source in sources) for last in ("weight", "bias")}


def _norm(name: str, source: str) -> dict[str, tuple[str, ...]]:
    return {f"{name}/gamma": (f"{source}.weight",), f"{name}/beta": (f"{source}.bias",)}


def _read(path: Path, absent_is_empty: bool = False) -> Mapping[str, Any]:
    if absent_is_empty and not path.is_file():
        return {}
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise LoadFailed(f"{path.name} cannot be read: {error}.", "Get the model again.") from error
    if not isinstance(said, dict):
        raise LoadFailed(f"{path.name} holds no object.", "Get the model again.")
    return said


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
