"""Whether a Whisper is sound: everything that would fail, or end the process, once the engine loads it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from anyform.contract.facts import Finding, FormatMatch, ModelFiles
from anyform.finding import condensed
from anyform_audio.finding import AGAIN, critical, note, warning
from anyform_audio.hearing import binary, companion, network, safetensors
from anyform_audio.hearing.configuration import described
from anyform_audio.hearing.detection import (
    CONFIG,
    CTRANSLATE2,
    GENERATION,
    INDEX,
    OTHER,
    PREPROCESSOR,
    TOKENIZER,
    VOCABULARIES,
    WHISPER,
    at,
    folder_of,
)
from anyform_audio.hearing.network import Network
from anyform_audio.hearing.vocabulary import vocabulary

BANDS = 80
"""What the engine takes where nothing says how a sound is prepared."""
PREPARATION: Mapping[str, int] = {"sampling_rate": 16_000, "hop_length": 160, "chunk_length": 30, "n_fft": 400}
"""The same for every Whisper."""
GET = "Get the whole model."
SHOWN = re.compile(r"[\w.\-/]{1,200}")


def validate(files: ModelFiles, match: FormatMatch) -> list[Finding]:
    """Findings for all files of *match*. Bounded: headers and small files; no weights."""
    return list(condensed(_findings(files, match)))


def _findings(files: ModelFiles, match: FormatMatch) -> Iterator[Finding]:
    form, folder = match.format, folder_of(match.entry)
    broken: set[str] = set()
    for name in match.files:
        for finding in _file(files, name, form) if name in files.files else ():
            broken.add(name)
            yield finding
    if form == OTHER:
        yield _stranger(files, match)
        return
    for name in (CONFIG, TOKENIZER):
        if at(folder, name) not in files.files:
            text = f"{at(folder, name)} is missing, without which nothing can be written down. {GET}"
            yield critical(f"{form}.missing_{'config' if name == CONFIG else 'tokenizer'}", text)
    if form == CTRANSLATE2 and match.entry not in broken:
        yield from _binary(files, match, folder, broken)
    elif form == WHISPER:
        yield from _tensors(files, match, folder, broken)


def _file(files: ModelFiles, name: str, form: str) -> Iterator[Finding]:
    """What is wrong with one file by itself."""
    last = name.rpartition("/")[2]
    other = companion.substitute(files, name, form)
    if other is not None:
        yield other
    elif name.endswith(safetensors.SUFFIX):
        yield from safetensors.header(files, name).troubles
    elif last == binary.FILE:
        yield from _kind(files, name)
    elif last in VOCABULARIES:
        trouble = vocabulary(files, name).trouble
        if trouble:
            yield critical(f"{form}.bad_vocabulary", f"{name} {trouble}. {AGAIN}")
    else:
        yield from companion.check(files, name, form)


def _kind(files: ModelFiles, name: str) -> Iterator[Finding]:
    found = binary.binary(files, name)
    if not found.spec:
        start = files.head(name)[:16]
        yield critical("ctranslate2.no_magic", f"{name} begins with {start!r}: it is no model of CTranslate2. {AGAIN}")
    yield from found.troubles


def _stranger(files: ModelFiles, match: FormatMatch) -> Finding:
    kind = binary.spec(files.head(match.entry))
    text = f"{match.entry} is a CTranslate2 model of the kind {kind}; of those only {binary.WHISPER} is run."
    return warning("ctranslate2.other_kind", text)


def _binary(files: ModelFiles, match: FormatMatch, folder: str, broken: set[str]) -> Iterator[Finding]:
    found = binary.binary(files, match.entry)
    if not 1 <= found.revision <= binary.NEWEST_REVISION:
        text = f"{match.entry} is revision {found.revision} of {found.spec}; 1 to {binary.NEWEST_REVISION} are known."
        yield critical("ctranslate2.wrong_revision", f"{text} Convert the model again.")
        return
    if not found.read:
        return  # it lies elsewhere
    yield from network.check_binary(found, match.entry)
    shape = network.of_binary(found)
    yield from _vocabulary(files, folder, shape, broken)
    yield from _preprocessor(files, match.format, folder, shape.bands, broken)
    if at(folder, CONFIG) in files.files and at(folder, CONFIG) not in broken:
        yield from _stated(files.json(at(folder, CONFIG)), at(folder, CONFIG), shape)


def _vocabulary(files: ModelFiles, folder: str, shape: Network, broken: set[str]) -> Iterator[Finding]:
    name = next((at(folder, one) for one in VOCABULARIES if at(folder, one) in files.files), "")
    if not name:
        yield critical("ctranslate2.missing_vocabulary", f"{at(folder, VOCABULARIES[0])} is missing. {GET}")
    elif name not in broken:
        words = vocabulary(files, name)
        if words.count != shape.vocabulary:
            text = (
                f"{name} has {words.count} tokens, and the model knows {shape.vocabulary}: they do not belong together."
            )
            yield critical("ctranslate2.other_vocabulary", f"{text} {GET}")
        elif words.lacks:
            text = f"{name} lacks {', '.join(words.lacks)}, which every Whisper has. {GET}"
            yield critical("ctranslate2.missing_token", text)


def _preprocessor(files: ModelFiles, form: str, folder: str, bands: int, broken: set[str]) -> Iterator[Finding]:
    """How a sound is prepared has to be what the model was made for."""
    name = at(folder, PREPROCESSOR)
    if name not in files.files:
        if bands != BANDS:
            text = f"{name} is missing: without it sounds are prepared in {BANDS} bands, and the model hears {bands}."
            yield critical(f"{form}.missing_preprocessor", f"{text} {GET}")
        else:
            yield note(f"{form}.missing_preprocessor", f"{name} is missing: sounds are prepared in {BANDS} bands.")
        return
    said = {} if name in broken else files.json(name)
    for key, wanted in {**PREPARATION, "feature_size": bands}.items():
        if said.get(key, wanted) != wanted:
            text = f"{name}: {key} is {said[key]!r:.60}, and the model needs {wanted}. {GET}"
            yield critical(f"{form}.other_preprocessor", text)


def _stated(config: Mapping[str, Any], name: str, shape: Network) -> Iterator[Finding]:
    """What config.json of CTranslate2 says: tokens that are not to be said, languages, and what times words."""
    for key in ("suppress_ids", "suppress_ids_begin", "lang_ids"):
        said = config.get(key, [] if key == "lang_ids" else None)
        if not _are_below(said, shape.vocabulary):
            text = f"{name}: {key} is {said!r:.60}; it has to be a list of numbers below {shape.vocabulary}. {AGAIN}"
            yield critical("ctranslate2.bad_config", text)
    said = config.get("alignment_heads")
    if said is None or said == []:
        text = f"{name} names no alignment_heads: segments have times, single words have none. Converting again helps."
        yield note("ctranslate2.no_word_times", text)
    elif not _are_heads(said, shape):
        text = f"{name}: alignment_heads is {said!r:.60}; it has to be pairs of a layer below {shape.decoder_layers}"
        yield critical("ctranslate2.bad_config", f"{text} and a head below {shape.heads}. {AGAIN}")


def _are_below(said: Any, end: int) -> bool:
    return isinstance(said, list) and all(type(one) is int and -1 <= one < end for one in said)


def _are_heads(said: Any, shape: Network) -> bool:
    ends = (shape.decoder_layers, shape.heads)
    return isinstance(said, list) and all(
        isinstance(pair, list)
        and len(pair) == 2
        and all(type(one) is int and 0 <= one < end for one, end in zip(pair, ends, strict=True))
        for pair in said
    )


def _tensors(files: ModelFiles, match: FormatMatch, folder: str, broken: set[str]) -> Iterator[Finding]:
    if match.entry.endswith(INDEX) and match.entry not in broken:
        yield from _shards(files, match, folder)
    config = at(folder, CONFIG)
    if config not in files.files or config in broken:
        return
    said = files.json(config)
    shape, trouble = described(said)
    if trouble:
        yield critical("whisper.bad_config", f"{config}: {trouble}. {AGAIN}")
        return
    if isinstance(said.get("quantization_config"), dict):
        text = f"{config} says that the weights are quantized; only {', '.join(safetensors.SIZES)} can be converted."
        yield critical("whisper.quantized", text)
    yield from _preprocessor(files, match.format, folder, shape.bands, broken)
    if at(folder, GENERATION) not in files.files:
        text = f"{at(folder, GENERATION)} is missing: which tokens are left out, and what times words, is guessed."
        yield warning("whisper.missing_generation", text)
    headers = [safetensors.header(files, name) for name in match.files if name.endswith(safetensors.SUFFIX)]
    if headers and all(header.read for header in headers):
        yield from _network([tensor for header in headers for tensor in header.tensors], shape, match.entry)


def _shards(files: ModelFiles, match: FormatMatch, folder: str) -> Iterator[Finding]:
    """The files that an index names, each in the folder itself."""
    mapped = files.json(match.entry).get("weight_map")
    if not isinstance(mapped, dict) or not mapped or not all(isinstance(name, str) for name in mapped.values()):
        yield critical("whisper.bad_index", f"{match.entry} has no weight_map from tensors to files. {AGAIN}")
        return
    for name in sorted(set(mapped.values())):
        if PurePosixPath(name).name != name or not SHOWN.fullmatch(name):
            yield critical(
                "whisper.bad_index", f"{match.entry} names {name[:60]!r}, which is no file beside it. {AGAIN}"
            )
        elif at(folder, name) not in match.files:
            yield critical("whisper.missing_shard", f"{at(folder, name)} is missing: {match.entry} names it. Fetch it.")


def _network(found: Sequence[safetensors.Tensor], shape: Network, entry: str) -> Iterator[Finding]:
    known = {tensor.name: tensor for tensor in found}
    for name, lengths in network.tensors(shape).items():
        tensor = known.get(name)
        if tensor is None:
            yield critical("whisper.missing_tensor", f"{entry}: the tensor {name} is missing. {GET}")
        elif tensor.shape != lengths:
            text = f"{entry}: {name} has the shape {list(tensor.shape)}, and {CONFIG} says {list(lengths)}. {AGAIN}"
            yield critical("whisper.bad_shape", text)
        elif tensor.dtype not in safetensors.SIZES:
            text = f"{entry}: {name} is {tensor.dtype}; only {', '.join(safetensors.SIZES)} can be converted."
            yield critical("whisper.quantized", text)
