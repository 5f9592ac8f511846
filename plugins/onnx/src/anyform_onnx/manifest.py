"""What genai_config.json and export.json say, and whether it can be so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from anyform.contract.facts import Finding, FormatMatch, ModelFiles
from anyform.onnx import graph
from anyform.pretrained.layout import is_inside
from anyform_onnx import layout, role
from anyform_onnx.finding import AGAIN, critical, warning

GENAI_VERSION = "0.18"
LARGEST = 1 << 31
"""What a number of genai_config.json stays below: it is kept in 32 bits, and caches are made by it."""
SIZES = ("vocab_size", "context_length")
DECODER_SIZES = ("head_size", "hidden_size", "num_attention_heads", "num_hidden_layers", "num_key_value_heads")
LIBRARY = re.compile(r"\.(so(\.\d+)*|dll|dylib)\Z", re.IGNORECASE)
LIBRARY_KEY = "custom_ops_library"
PROFILE_KEY = "enable_profiling"
MOST_VALUES = 20_000
"""Of a genai_config.json; what has more is refused. The builder writes some hundred."""
MOST_BYTES = 16 << 20
_PAST = ("past_key_names", "past_value_names")
_DEFAULTS: Mapping[str, str] = {
    "past_key_names": "past_key_values.%d.key", "past_value_names": "past_key_values.%d.value",
}  # fmt: skip
"""onnxruntime-genai's, where the file does not say."""


def check_genai(files: ModelFiles, match: FormatMatch) -> Iterator[Finding]:
    """What is wrong with a genai_config.json that is a JSON object."""
    entry, model = match.entry, layout.genai(files, match.entry)
    try:
        said = strict(files.head(entry, MOST_BYTES))
    except ValueError as error:
        yield critical("repeated_key", f"{entry} {error}. {AGAIN}")
        return
    kind = model.get("type")
    if not isinstance(kind, str) or not isinstance(model.get("decoder"), dict):
        lacks = "a model" if not model else "model.type" if not isinstance(kind, str) else "model.decoder"
        yield critical("bad_config", f"{entry} does not say {lacks}. {AGAIN}")
        return
    yield from harm(entry, said)
    known = role.of_genai(model)
    if not known:
        text = f"{entry}: model.type is {kind!r:.60}, which onnxruntime-genai {GENAI_VERSION} does not know"
        yield warning("unknown_architecture", f"{text}: it needs a later one, if any has it.")
    yield from _named(files, match)
    if known in ("", role.DECODER):
        if model["decoder"].get("filename") in (None, ""):
            yield critical("bad_value", f"{entry} has no model.decoder.filename: it names no graph. {AGAIN}")
        yield from _sizes(entry, "model", model, SIZES)
        yield from _sizes(entry, "model.decoder", model["decoder"], DECODER_SIZES)


def check_export(files: ModelFiles, match: FormatMatch) -> Iterator[Finding]:
    """What is wrong with an export.json that is a JSON object."""
    entry, said = match.entry, files.json(match.entry)
    version = said.get("schema_version", layout.SCHEMA)
    if type(version) is not int or version < 1:
        yield critical("bad_value", f"{entry}: schema_version is {version!r:.60}; it has to be 1 or more. {AGAIN}")
    elif version > layout.SCHEMA:
        text = f"{entry} has schema_version {version}, and {layout.SCHEMA} is known here: its graphs are read by their"
        yield warning("new_schema", f"{text} own inputs and outputs, what else it says may be missed.")
    if not layout.components(files, entry):
        yield critical("bad_config", f"{entry} names no components: it does not say which graphs there are. {AGAIN}")
        return
    yield from _named(files, match)


def _named(files: ModelFiles, match: FormatMatch) -> Iterator[Finding]:
    """Each graph that is named lies in the folder."""
    stated = layout.stated(files, match.format, match.entry)
    if len(stated) > layout.MOST_GRAPHS:
        text = f"{match.entry} names {len(stated)} graphs; no model has more than {layout.MOST_GRAPHS}. {AGAIN}"
        yield critical("too_many_graphs", text)
        return
    for part, name in stated.items():
        if not isinstance(name, str) or not is_inside(name):
            text = f"{match.entry} names {repr(name)[:100]} as the graph of {part:.60}, which is no file of the model."
            yield critical("bad_value", f"{text} {AGAIN}")
        elif layout.beside(match.entry, name) not in files.files:
            text = f"{layout.beside(match.entry, name):.200} is missing, which {match.entry} names as its {part:.60}"
            yield critical("missing_graph", f"{text}: fetch it into the same folder.")


def strict(content: bytes) -> Any:
    """A JSON value in which no object has a key twice: Python keeps the last of them, onnxruntime-genai joins them.

    Raises ValueError, in words that follow a file's name.
    """
    try:
        return json.loads(content, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is no JSON: {error}") from None


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"has the key {twice!r:.60} twice in one object, of which readers take one or the other")
    return found


def harm(entry: str, said: Any) -> Iterator[Finding]:
    """What *said*, a genai_config.json, has done beyond running a model.

    onnxruntime-genai loads native code that the file names, also from the model's own folder, and writes where it says.
    """
    values = _values(said)
    for _, (key, value) in zip(range(MOST_VALUES), values, strict=False):
        named = isinstance(value, str) and ("\0" in value or LIBRARY.search(value))
        if key == LIBRARY_KEY or named:
            text = f"{entry} has native code loaded: {key:.60} is {value!r:.100}. It could do anything here."
            yield critical("brings_code", f"{text} Take that line out if the model works without it.")
        elif key == PROFILE_KEY and value:
            text = f"{entry} has a file written: {key} is {value!r:.100}. Take that line out."
            yield critical("writes_files", text)
    if next(values, None) is not None:
        text = f"{entry} holds more than {MOST_VALUES} values, of which the rest is not looked at; it might name"
        yield critical("too_big", f"{text} native code. {AGAIN}")


def _values(said: Any) -> Iterator[tuple[str, Any]]:
    """(key, value) of all in a JSON value, however deep."""
    left = [("", said)]
    while left:
        key, value = left.pop()
        yield key, value
        if isinstance(value, dict):
            left += value.items()
        elif isinstance(value, list):
            left += ((key, one) for one in value)


def _sizes(entry: str, part: str, said: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[Finding]:
    for name in names:
        value = said.get(name)
        if type(value) is not int or not 0 < value < LARGEST:
            text = f"{entry}: {part}.{name} is {value!r:.60}; it has to be a whole number from 1."
            yield critical("bad_value", f"{text} {AGAIN}")


def pasts(model: Mapping[str, Any]) -> list[str]:
    """The inputs that a decoder's caches have by genai_config.json, of all layers.

    Empty: it does not say rightly, or keeps keys and values in one (GPT-2's `past_names`).
    """
    decoder = model.get("decoder")
    decoder = decoder if isinstance(decoder, dict) else {}
    stated, count = decoder.get("inputs"), decoder.get("num_hidden_layers")
    stated = stated if isinstance(stated, dict) else {}
    if "past_names" in stated:
        return []
    patterns = [stated.get(name, _DEFAULTS[name]) for name in _PAST]
    if type(count) is not int or not 0 < count <= graph.MOST_TOLD:
        return []
    sound = [one for one in patterns if isinstance(one, str) and one.count("%d") == 1]
    return [one.replace("%d", str(layer)) for layer in range(count) for one in sound]
