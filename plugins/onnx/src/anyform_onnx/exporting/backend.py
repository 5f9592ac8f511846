"""Exports one model: a program for an environment with torch and transformers, in which anyform is not installed.

`python backend.py KIND SOURCE TARGET PRECISION DEVICE`; nothing is fetched and no code of the model is run.
"""

from __future__ import annotations

import importlib.util
import inspect
import runpy
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

OPSET = 18
MODULES = ("torch", "transformers", "onnx", "onnxscript", "onnx_ir", "onnxruntime", "onnxruntime_genai")
COPIED = {".json", ".txt", ".jinja", ".model", ".tiktoken", ".spm"}
"""Configuration, tokenizers, vocabularies, templates: what comes along, with licenses and the card."""
NOTICES = ("README", "LICENSE", "LICENCE", "NOTICE", "USE_POLICY")
TEXTS, PICTURES = {"input_ids", "attention_mask", "token_type_ids"}, {"pixel_values"}
KINDS = {
    "embedding": ("AutoModel", TEXTS, ("last_hidden_state",)),
    "classifier": ("AutoModelForSequenceClassification", TEXTS, ("logits",)),
    "image_classifier": ("AutoModelForImageClassification", PICTURES, ("logits",)),
    "dual": ("AutoModel", TEXTS | PICTURES, ("logits_per_image", "logits_per_text", "text_embeds", "image_embeds")),
}
"""transformers' class, inputs and outputs, these named and ordered as optimum does."""
SUFFIXES = {"fp32": "", "fp16": "_fp16", "int8": "_int8"}
LARGEST_BYTES = 1_500_000_000
"""What a protobuf holds is less than 2 GiB; larger weights go to a file beside it."""


def main(kind: str, source: str, target: str, precision: str, device: str) -> None:
    """Write the model of the folder *source*, for onnxruntime, into the folder *target*. Raises SystemExit."""
    _check_packages()
    if kind == "decoder":
        _decoder(source, target, precision, device)
    else:
        _encoder(kind, Path(source), Path(target), precision)


def _check_packages() -> None:
    """Raise SystemExit that names the modules which this Python lacks."""
    lacks = [name for name in MODULES if importlib.util.find_spec(name) is None]
    if lacks:
        raise SystemExit(f"{sys.executable} lacks {', '.join(lacks)}: install them there, or leave out --python")


def _decoder(source: str, target: str, precision: str, device: str) -> None:
    """By onnxruntime-genai's own builder, which is a program."""
    with tempfile.TemporaryDirectory() as cache:
        sys.argv = ["builder", "-i", source, "-o", target, "-p", precision, "-e", device, "-c", cache]
        sys.argv += ["--extra_options", "hf_remote=false"]  # transformers' trust_remote_code
        runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__", alter_sys=True)


def _encoder(kind: str, source: Path, target: Path, precision: str) -> None:
    """By torch's exporter: `onnx/model.onnx`, named after its precision, with the model's own files above it."""
    import torch
    import transformers

    automatic, _, outputs = KINDS[kind]
    _say("loading")
    model = getattr(transformers, automatic).from_pretrained(
        str(source),
        dtype=torch.float16 if precision == "fp16" else torch.float32,
        attn_implementation="eager",  # operators that every opset has
        trust_remote_code=False,
        local_files_only=True,
    )
    inputs, shapes = _example(kind, model)
    folder = target / "onnx"
    folder.mkdir(parents=True)
    path = folder / f"model{SUFFIXES[precision]}.onnx"
    _say("exporting")
    with tempfile.TemporaryDirectory(dir=target) as scratch, torch.no_grad():
        written = Path(scratch) / "model.onnx" if precision == "int8" else path
        torch.onnx.export(
            _selecting(model, tuple(inputs), outputs),
            kwargs=inputs,
            f=str(written),
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            external_data=sum(one.nbytes for one in model.parameters()) > LARGEST_BYTES,
        )
        if precision == "int8":
            import onnx
            from onnxruntime.quantization import QuantType, quantize_dynamic

            _say("quantizing")
            whole = onnx.load(str(written))
            del whole.graph.value_info[:]  # the shapes of weights too, some of which quantizing turns over
            quantize_dynamic(whole, path, weight_type=QuantType.QInt8)
    _copy(source, target)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _selecting(model: Any, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Any:
    """A module of *model* that takes *inputs* and gives *outputs*, both by name; for use, not for training."""
    import torch

    class Selecting(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, **given: Any) -> tuple[Any, ...]:
            found = self.model(**given)
            return tuple(getattr(found, name) for name in outputs)

    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    parameters += [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in inputs]
    Selecting.forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return Selecting().eval()


def _example(kind: str, model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """(inputs to trace with, which of their sides differ from call to call)."""
    import torch

    takes, config = KINDS[kind][1], model.config
    rows, tokens = torch.export.Dim("batch_size"), torch.export.Dim("sequence_length")
    inputs: dict[str, Any] = {}
    shapes: dict[str, Any] = {}
    names = ["input_ids", "attention_mask"] if takes & TEXTS else []
    if getattr(config, "type_vocab_size", 0) > 1 and "token_type_ids" in inspect.signature(model.forward).parameters:
        names.append("token_type_ids")
    for name in names:
        inputs[name] = torch.zeros(2, 7, dtype=torch.long) if name == "token_type_ids" else torch.ones(2, 7).long()
        shapes[name] = {0: rows, 1: tokens}
    if takes & PICTURES:
        vision = getattr(config, "vision_config", config)
        side = vision.image_size if isinstance(vision.image_size, int) else vision.image_size[0]
        inputs["pixel_values"] = torch.zeros(3, getattr(vision, "num_channels", 3), side, side, dtype=model.dtype)
        shapes["pixel_values"] = {0: torch.export.Dim("pictures")}
    return inputs, shapes


def _copy(source: Path, target: Path) -> None:
    """Configuration, tokenizer, labels, pooling: no weights, no code, and nothing from outside of *source*."""
    homes = _homes(source)
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        inside = any(path.resolve().is_relative_to(home) for home in homes)
        if inside and path.is_file() and _belongs(name):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / name)


def _belongs(name: Path) -> bool:
    if any(part.startswith(".") for part in name.parts) or name.name.endswith(".index.json"):
        return False
    return name.suffix in COPIED or (name.suffix in {"", ".md"} and name.name.upper().startswith(NOTICES))


def _homes(source: Path) -> list[Path]:
    """Where the files of *source* may lie: in it; of a snapshot in the Hugging Face cache, among its blobs too."""
    source = source.absolute()
    caches = [path.parent for path in source.parents if path.name == "snapshots"]
    return [source.resolve(), *((cache / "blobs").resolve() for cache in caches if cache.name.startswith("models--"))]


if __name__ == "__main__":
    main(*sys.argv[1:])
