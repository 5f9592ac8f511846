"""What a Whisper says of itself, as `Metadata`: headers and small files; no weights, no engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from anyform.contract.facts import FormatMatch, Metadata, ModelFiles
from anyform_audio.hearing import binary, configuration, network, safetensors
from anyform_audio.hearing.binary import KINDS, Binary
from anyform_audio.hearing.detection import CONFIG, CTRANSLATE2, GENERATION, TOKENIZER, VOCABULARIES, at, folder_of
from anyform_audio.hearing.network import Network
from anyform_audio.hearing.vocabulary import Vocabulary, vocabulary

RATE = 16_000
"""Samples a second, of every Whisper."""
SIZES: Mapping[tuple[int, int], str] = {
    (384, 4): "tiny", (512, 6): "base", (768, 12): "small", (1024, 24): "medium", (1280, 32): "large",
}  # fmt: skip
"""(width, layers of the encoder) -> what OpenAI calls it: https://github.com/openai/whisper#available-models."""
TURBO_LAYERS = 4
"""Of the decoder of large-v3-turbo; Distil-Whisper has fewer than its teacher, too."""
NEW_BANDS = 128
"""Since large-v3."""


def extract(files: ModelFiles, match: FormatMatch) -> Metadata:
    """Metadata of a match; fields that the files do not tell are None or empty, also in a broken folder.

    `extra` has, where the files tell them: size (tiny … large-v3, turbo, distil-…), languages (codes), multilingual,
    sample_rate, mel_bands, layers and encoder_layers, heads, embedding_length, feed_forward_length, word_times (whether
    words can be timed), variable_types or tensor_types (how many there are of each).
    """
    if match.format == CTRANSLATE2:
        return _binary(files, match)
    return _tensors(files, match) if match.format == "whisper" else _stranger(files, match)


def _stranger(files: ModelFiles, match: FormatMatch) -> Metadata:
    found = binary.binary(files, match.entry)
    return Metadata(
        name=match.name,
        version=str(found.version or ""),
        architecture=found.spec.removesuffix("Spec").lower(),
        parameters=_parameters(found),
        quantization=_quantization(found),
        weight_bytes=sum(one.size for one in found.variables.values()) or None,
        tensors=len(found.variables) or None,
    )


def _binary(files: ModelFiles, match: FormatMatch) -> Metadata:
    folder, found = folder_of(match.entry), binary.binary(files, match.entry)
    shape = network.of_binary(found)
    name = next((at(folder, one) for one in VOCABULARIES if at(folder, one) in files.files), "")
    words = vocabulary(files, name) if name else Vocabulary()
    heads = files.json(at(folder, CONFIG)).get("alignment_heads")
    kinds = Counter(KINDS[one.kind][0] for one in found.variables.values())
    return Metadata(
        name=match.name,
        version=f"{found.version}.{found.revision}" if found.version else "",
        parameters=_parameters(found),
        quantization=_quantization(found),
        weight_bytes=sum(one.size for one in found.variables.values()) if found.read else _rest(files, match),
        tensors=len(found.variables) if found.read else None,
        **_common(shape, words.languages, words.multilingual, bool(heads), {"variable_types": dict(kinds)}),
    )


def _tensors(files: ModelFiles, match: FormatMatch) -> Metadata:
    folder = folder_of(match.entry)
    generation = files.json(at(folder, GENERATION))
    shape, _ = configuration.described(files.json(at(folder, CONFIG)))
    names = [name for name in match.files if name.endswith(safetensors.SUFFIX)]
    found = [tensor for name in names for tensor in safetensors.header(files, name).tensors]
    kinds: Counter[str] = Counter()
    for tensor in found:
        kinds[tensor.dtype] += tensor.end - tensor.begin
    each = {**safetensors.SIZES, **safetensors.OTHERS}
    said = generation.get("is_multilingual")
    told = said is False or (said is True and "lang_to_id" in generation)
    tokenizer = b"" if told else files.head(at(folder, TOKENIZER), configuration.TOKENIZER_BYTES)
    multilingual = configuration.is_multilingual(generation, tokenizer)
    types = {"tensor_types": dict(Counter(tensor.dtype for tensor in found))}
    return Metadata(
        name=match.name,
        parameters=sum(size // each.get(kind, 4) for kind, size in kinds.items()) or None,
        quantization=kinds.most_common(1)[0][0] if kinds else "",
        weight_bytes=kinds.total() or _rest(files, match),
        tensors=len(found) or None,
        # conversion takes the later half of the layers where none are named
        **_common(shape, configuration.languages(generation, tokenizer), multilingual, True, types),
    )


def _common(
    shape: Network, languages: Iterable[str], multilingual: bool, timed: bool, types: Mapping[str, Any]
) -> dict[str, Any]:
    """What both formats tell, by the names of Metadata."""
    facts = {
        "size": size(shape, multilingual),
        "languages": list(languages) if multilingual else ["en"],
        "multilingual": multilingual,
        "sample_rate": RATE,
        "mel_bands": shape.bands,
        "layers": shape.decoder_layers,
        "encoder_layers": shape.encoder_layers,
        "heads": shape.heads,
        "embedding_length": shape.width,
        "feed_forward_length": shape.forward,
        "word_times": timed,
        **types,
    }
    return {
        "architecture": "whisper",
        "tasks": ("transcribe", "translate") if multilingual else ("transcribe",),
        "context": shape.positions or None,
        "vocab_size": shape.vocabulary or None,
        "features": ("audio",),
        "extra": {name: value for name, value in facts.items() if value not in (0, "", [], {}) or value is False},
    }


def size(shape: Network, multilingual: bool) -> str:
    """What OpenAI and Distil-Whisper call a model of this shape; empty: neither has such."""
    name = SIZES.get((shape.width, shape.encoder_layers), "")
    if not name:
        return ""
    name = f"{name}-v3" if name == "large" and shape.bands == NEW_BANDS else name
    if shape.decoder_layers != shape.encoder_layers:
        turbo = name == "large-v3" and shape.decoder_layers == TURBO_LAYERS
        name = f"{name}-turbo" if turbo else f"distil-{name}"
    return name if multilingual or name.startswith(("large", "distil-large")) else f"{name}.en"


def _parameters(found: Binary) -> int | None:
    """Numbers that were learnt; scales of quantized ones are none."""
    learnt = (one.elements for one in found.variables.values() if one.shape and not one.name.endswith("_scale"))
    return sum(learnt) or None if found.read else None


def _quantization(found: Binary) -> str:
    """As CTranslate2 calls it: float16, int8_float16, …: the type of most of the matrices, then that of the rest."""
    elements: Counter[str] = Counter()
    for one in found.variables.values():
        if len(one.shape) > 1 and one.name.endswith("/weight"):
            elements[KINDS[one.kind][0]] += one.elements
    main = elements.most_common(1)[0][0] if elements else ""
    if main != "int8":
        return main
    plain = Counter(KINDS[one.kind][0] for one in found.variables.values() if one.name.endswith(("/bias", "/gamma")))
    return f"{main}_{plain.most_common(1)[0][0]}" if plain else main


def _rest(files: ModelFiles, match: FormatMatch) -> int | None:
    """About the bytes of weights where the header could not be read: the files' own."""
    weights = (name for name in match.files if name.endswith((binary.FILE, safetensors.SUFFIX)))
    return sum(files.files.get(name, 0) for name in weights) or None
