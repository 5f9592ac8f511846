"""Writes folders of ONNX models, each broken in a way of its own, by which readers and servers are tried."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyform.testing.onnx import Constant, Graph, block, model, number, numbers, text, write_onnx
from anyform.testing.onnxdecoder import write_decoder
from anyform.testing.onnxencoder import write_encoder
from anyform.testing.onnxform import FORMS, IDS, LAYERS, MASK, SEQUENCE_LOGITS, cache, graph_of, write_form
from anyform.testing.safetensors import write_json

Damage = Callable[[Path], object]
GRAPH, DATA = "model.onnx", "model.onnx.data"
MANIFEST, GENAI_CONFIG, LIBRARY = "export.json", "genai_config.json", "evil.so"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 4938985352\n"
PAGE = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>\n"


@dataclass(frozen=True)
class Broken:
    """A sound folder, what is done to it, and what is said of it."""

    sound: Damage
    damage: Damage
    code: str
    """Of the finding, without `onnx.`; empty: only an engine sees it, when it loads the model."""
    said: tuple[str, ...] = ()
    """What is told: the file, the value."""
    task: str = "complete"
    """Empty: to be loaded is all that is asked of it."""


def decoder(folder: Path) -> Path:
    return write_decoder(folder, external=False)


def external(folder: Path) -> Path:
    write_decoder(folder, external=True)
    return folder


def genai(folder: Path) -> Path:
    return write_decoder(folder, layout="onnx_genai")


def export(folder: Path) -> Path:
    return write_decoder(folder, layout="onnx_export")


def embedding(folder: Path) -> Path:
    return write_encoder(folder, pooling="mean")


def classifier(folder: Path) -> Path:
    return write_encoder(folder, labels=["joy", "anger", "fear"])


def form(name: str, *entries: str) -> Damage:
    return lambda folder: write_form(folder, name, *entries)


def nothing(folder: Path) -> None:
    """It is broken as it is."""


def put(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content)


def drop(name: str) -> Damage:
    return lambda folder: shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()


def cut(name: str, share: float = 0.5) -> Damage:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * share)])

    return damage


def change(name: str, *keys: str, **fields: Any) -> Damage:
    """Other values in a JSON file, in the table that *keys* lead to."""

    def damage(folder: Path) -> None:
        content = table = json.loads((folder / name).read_text())
        for key in keys:
            table = table[key]
        table |= fields
        write_json(folder / name, content)

    return damage


def native(*, twice: bool = False, **model: Any) -> Damage:
    """A library named to onnxruntime-genai, after other values of *model*, or where Python's reader does not see it."""

    def damage(folder: Path) -> None:
        content = json.loads((folder / GENAI_CONFIG).read_text())
        options = content["model"]["decoder"].pop("session_options", {})
        content["model"]["decoder"]["session_options"] = {**options, "custom_ops_library": LIBRARY}
        content["model"] = {name: one for name, one in content["model"].items() if name not in model} | model
        said = json.dumps(content)
        named = f'"session_options": {json.dumps(content["model"]["decoder"]["session_options"])}'
        (folder / GENAI_CONFIG).write_text(said.replace(named, f'{named}, "session_options": {{}}') if twice else said)

    return damage


def graph(made: Graph, **how: Any) -> Damage:
    return lambda folder: write_onnx(folder / GRAPH, made, **how)


def _ends(outputs: int = 1) -> Graph:
    inputs = [IDS, MASK, ("position_ids", "I64", IDS[2]), *cache("past_key_values")]
    return graph_of(inputs, [SEQUENCE_LOGITS, *cache("present")][: outputs or None])


def _with(kind: str, domain: str = "") -> Graph:
    made = _ends(outputs=0)
    made.node(kind, "weight", domain=domain)
    return made


def _outside(place: str) -> Graph:
    made = _ends(outputs=0)
    made.constants.append(Constant("far", "F32", (4,), b"", {"location": place, "offset": "0", "length": "16"}))
    return made


def _short() -> Graph:
    made = _ends(outputs=0)
    made.weights("short", "F32", (1000, 1000), bytes(16))
    return made


def _nested(depth: int) -> bytes:
    """A graph in the attribute of a node of a graph, and so on."""
    inner = b""
    for _ in range(depth):
        inner = block(1, text(4, "If") + block(5, text(1, "then_branch") + block(6, inner) + number(20, 5)))
    return number(1, 8) + block(7, inner) + block(8, number(2, 17))


def _mismatched() -> Graph:
    """Matrices that do not fit together, which only the engine works out."""
    made = _ends(outputs=0)
    one = made.weights("one", "F32", (2, 3), numbers("F32", [0.0] * 6))
    other = made.weights("other", "F32", (5, 7), numbers("F32", [0.0] * 35))
    made.node("MatMul", one, other)
    return made


def _whisper(folder: Path) -> Path:
    write_form(folder, "speech", "onnx/encoder_model.onnx")
    one = FORMS["seq2seq"]
    write_onnx(folder / "onnx/decoder_model_merged.onnx", graph_of(one.inputs, one.outputs))
    return folder


def _decode_alone(folder: Path) -> Path:
    """Of an export the one graph, as if it were all."""
    export(folder)
    for name in (MANIFEST, "prefill.onnx", "prefill.onnx.data"):
        (folder / name).unlink()
    return (folder / "decode.onnx").rename(folder / GRAPH).parent


_STRANGE = {"org.example": 1}
BROKEN: Mapping[str, Broken] = {
    "an empty graph": Broken(decoder, put(GRAPH, b""), "truncated", (GRAPH,)),
    "a graph cut in half": Broken(decoder, cut(GRAPH), "truncated", (GRAPH, "cut off")),
    "a graph cut at its end": Broken(decoder, cut(GRAPH, 0.999), "truncated", (GRAPH,)),
    "random bytes": Broken(decoder, put(GRAPH, random.Random(1).randbytes(9000)), "damaged", (GRAPH,)),
    "zeros": Broken(decoder, put(GRAPH, bytes(9000)), "damaged", (GRAPH,)),
    "a pointer of Git": Broken(decoder, put(GRAPH, POINTER), "git_lfs", (GRAPH, "git lfs pull")),
    "a web page": Broken(decoder, put(GRAPH, PAGE), "web_page", (GRAPH, "web page")),
    "graphs in graphs": Broken(decoder, put(GRAPH, _nested(40)), "too_deep", (GRAPH, "16 deep")),
    "a weight without its numbers": Broken(form("decoder"), graph(_short()), "bad_size", ("short", "4000000")),
    "a type that nobody has": Broken(
        decoder, put(GRAPH, model(_ends()) + block(7, block(5, number(2, 77)))), "unknown_dtype", ("77",)
    ),
    "no outputs": Broken(decoder, put(GRAPH, model(graph_of([IDS], []))), "damaged", (GRAPH, "no outputs")),
    "no numbers beside": Broken(external, lambda folder: drop(_data(folder))(folder), "missing_external", ("missing",)),
    "fewer numbers beside": Broken(external, lambda folder: cut(_data(folder))(folder), "truncated", ("cut off",)),
    "numbers from elsewhere": Broken(
        form("decoder"), graph(_outside("../../etc/passwd")), "bad_external", ("../../etc/passwd", "outside")
    ),
    "operators of a stranger": Broken(
        form("decoder"), graph(_with("Mystery", "org.example"), domains=_STRANGE), "unknown_operators", ("org.example",)
    ),
    "compiled for one device": Broken(
        form("decoder"), graph(_with("EPContext", "com.microsoft"), domains={"com.microsoft": 1}), "compiled", (GRAPH,)
    ),
    "no tokenizer": Broken(decoder, drop("tokenizer.json"), "missing_tokenizer", ("tokenizer.json",)),
    "half a tokenizer": Broken(decoder, cut("tokenizer.json"), "bad_json", ("tokenizer.json",)),
    "a config that is none": Broken(decoder, put("config.json", b'{"a"'), "bad_json", ("config.json",)),
    "a config of another model": Broken(
        decoder, change("config.json", num_hidden_layers=LAYERS + 30), "config_mismatch", ("32", GRAPH)
    ),
    "another vocabulary": Broken(decoder, change("config.json", vocab_size=99_999), "config_mismatch", ("99999",)),
    "no genai_config": Broken(genai, put(GENAI_CONFIG, b"{"), "bad_json", (GENAI_CONFIG,)),
    "an empty genai_config": Broken(genai, put(GENAI_CONFIG, b"{}"), "bad_config", (GENAI_CONFIG,)),
    "a graph that is not there": Broken(
        genai, change(GENAI_CONFIG, "model", "decoder", filename="other.onnx"), "missing_graph", ("other.onnx",)
    ),
    "other heads": Broken(
        genai, change(GENAI_CONFIG, "model", "decoder", num_key_value_heads=77), "config_mismatch", ("77",)
    ),
    "a cache of exabytes": Broken(
        genai, change(GENAI_CONFIG, "model", context_length=1 << 50), "bad_value", ("context_length", str(1 << 50))
    ),
    "native code": Broken(
        genai, change(GENAI_CONFIG, "model", "decoder", session_options={"custom_ops_library": LIBRARY}),
        "brings_code", (LIBRARY,),
    ),
    "native code behind many values": Broken(
        genai, native(eos_token_id=[2] * 20_001), "too_big", (GENAI_CONFIG, "20000", "native code")
    ),
    "native code under a key that comes twice": Broken(
        genai, native(twice=True), "repeated_key", (GENAI_CONFIG, "session_options")
    ),
    "a profile of the run": Broken(
        genai, change(GENAI_CONFIG, "model", "decoder", session_options={"enable_profiling": "../../trace"}),
        "writes_files", ("../../trace",),
    ),
    "a model that sees": Broken(genai, change(GENAI_CONFIG, "model", type="phi3v"), "unsupported_role", ("pictures",)),
    "no components": Broken(export, change(MANIFEST, components={}), "bad_config", (MANIFEST,)),
    "no prefill": Broken(export, drop("prefill.onnx"), "missing_graph", ("prefill.onnx",)),
    "a decoder of single tokens": Broken(_decode_alone, nothing, "no_prefill", ("one token at a time",)),
    "components from elsewhere": Broken(
        export, change(MANIFEST, "components", "decode", file="/etc/passwd"), "bad_value", ("/etc/passwd",)
    ),
    "no KV cache": Broken(form("uncached_decoder"), nothing, "unsupported_role", ("KV cache",)),
    "Whisper": Broken(_whisper, nothing, "unsupported_role", ("speech", "CTranslate2")),
    "a translator": Broken(form("seq2seq"), nothing, "unsupported_role", ("translation",)),
    "fills in words": Broken(form("masked_lm"), nothing, "unsupported_role", ("feature-extraction",)),
    "no known kind": Broken(form("unknown"), nothing, "unknown_role", ("takes x F32",)),
    "other labels": Broken(
        classifier, change("config.json", id2label={"0": "a"}), "config_mismatch", ("3 labels",), "classify"
    ),
    "no processor": Broken(
        form("image_classifier"), drop("preprocessor_config.json"), "missing_processor", ("preprocessor",), ""
    ),
    "steps that are none": Broken(embedding, put("modules.json", b"{}"), "bad_modules", ("modules.json",), "embed"),
    "no pooling": Broken(embedding, drop("1_Pooling"), "missing_module", ("1_Pooling",), "embed"),
    "an operator that ONNX does not have": Broken(form("decoder"), graph(_with("Mystery")), ""),
    "matrices that do not fit": Broken(form("decoder"), graph(_mismatched()), ""),
    "an opset of tomorrow": Broken(form("decoder"), graph(_ends(outputs=0), opset=99), "", ("99",)),
    "a tokenizer of nonsense": Broken(decoder, put("tokenizer.json", b'{"model": {"type": "Nonsense"}}'), ""),
}  # fmt: skip
"""By name; each but the last few is known for what it is before an engine is needed."""


def _data(folder: Path) -> str:
    """The file with a graph's numbers."""
    (found,) = (path.name for path in folder.iterdir() if path.name.endswith("data"))
    return found
