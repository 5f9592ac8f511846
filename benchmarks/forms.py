"""The forms that one decoder may have, how each is made of its Hugging Face folder, and which backend runs it.

Forms whose names begin with `onnx` are written by anyform.testing, without torch; `builder` and `exporter` are what
onnxruntime-genai's and transformers' own exporters write, in seconds each; `int8` and `int4` hold other numbers.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.machinery import PathFinder
from pathlib import Path

from anyform.testing.onnxdecoder import write_decoder

BESIDE = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")
"""What transformers' exporter leaves to whoever calls it."""


@dataclass(frozen=True)
class Form:
    """One form. `make`: from the folder and a place to write in to what is served."""

    backend: str
    needs: Sequence[str]
    """Modules."""
    make: Callable[[Path, Path], Path]
    exact: bool = True
    """Whether its numbers are those of the folder, or differ by what arithmetic in another order makes of them."""

    def missing(self) -> list[str]:
        """Modules that are not installed; files beside this one are called as some of them are."""
        places = [place for place in sys.path if Path(place).resolve() != Path(__file__).parent.resolve()]
        return [name for name in self.needs if PathFinder.find_spec(name, places) is None]


def _itself(source: Path, place: Path) -> Path:
    return source


def _written(source: Path, place: Path, *, layout: str = "onnx", precision: str = "F32") -> Path:
    return write_decoder(place, source, layout=layout, precision=precision)


def build(source: Path, place: Path, *, precision: str = "fp32") -> Path:
    """What `onnxruntime_genai.models.builder` writes. Raises CalledProcessError."""
    where = ["-i", str(source), "-o", str(place), "-c", str(place.with_name(f"{place.name}-cache"))]
    _run(place.parent, "-m", "onnxruntime_genai.models.builder", *where, "-p", precision, "-e", "cpu")
    return place


def export(source: Path, place: Path) -> Path:
    """What `transformers.exporters.OnnxExporter` writes, and the tokenizer's files. Raises CalledProcessError."""
    _run(place.parent, "-c", _EXPORT, str(source), str(place))
    for name in BESIDE:
        if (source / name).is_file():
            shutil.copyfile(source / name, place / name)
    return place


def quantize(source: Path, place: Path) -> Path:
    """What `onnxruntime.quantization.quantize_dynamic` makes of the form `onnx`."""
    plain = write_decoder(place.with_name(f"{place.name}-plain"), source)
    write_decoder(place, source)
    _run(place.parent, "-c", _QUANTIZE, str(plain / "model.onnx"), str(place / "model.onnx"))
    return place


_QUANTIZE = """
import sys
from onnxruntime.quantization import QuantType, quantize_dynamic

quantize_dynamic(sys.argv[1], sys.argv[2], weight_type=QuantType.QInt8, per_channel=True)
"""
_EXPORT = """
import sys
import torch
from transformers import AutoModelForCausalLM
from transformers.exporters import OnnxConfig, OnnxExporter

model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
tokens = torch.arange(8)[None]
exporter = OnnxExporter()
inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
exporter.export_for_generation(model, inputs, config=OnnxConfig(dynamic=True)).save_pretrained(sys.argv[2])
"""


def _run(place: Path, *words: str) -> None:
    """Python with *words* in *place*, since a file here is called as the package is; shows what it said if it fails."""
    done = subprocess.run([sys.executable, *words], check=False, capture_output=True, text=True, cwd=place)
    if done.returncode:
        sys.stderr.write(done.stderr[-4000:])
        done.check_returncode()


_ONNX, _GENAI = ("onnxruntime", "tokenizers"), ("onnxruntime_genai", "tokenizers")
_TORCH = ("torch", "transformers", "onnx", "onnxscript")
FORMS = {
    "safetensors": Form("transformers", ("torch", "transformers"), _itself),
    "onnx": Form("onnxruntime", _ONNX, _written),
    "onnx_export": Form("onnxruntime", _ONNX, partial(_written, layout="onnx_export")),
    "onnx_genai": Form("onnxruntime_genai", _GENAI, partial(_written, layout="onnx_genai")),
    "builder": Form("onnxruntime_genai", (*_GENAI, *_TORCH), build),
    "exporter": Form("onnxruntime", (*_ONNX, *_TORCH), export),
    "onnx_int8": Form("onnxruntime", _ONNX, partial(_written, precision="I8"), exact=False),
    "int8": Form("onnxruntime", (*_ONNX, "onnx"), quantize, exact=False),
    "int4": Form("onnxruntime_genai", (*_GENAI, *_TORCH), partial(build, precision="int4"), exact=False),
}
