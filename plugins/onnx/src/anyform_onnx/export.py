"""What `anyform export --to onnx` asks for: which models, the packages of its environment, and the command in it.

Nothing heavy is imported: torch and transformers are in that environment alone, where exporting/backend.py runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from anyform.contract.errors import Invalid, Unsupported
from anyform.contract.facts import Metadata

READS = ("safetensors", "pytorch")
"""Formats of models that can be exported."""
INSTEAD = (
    "Export the model that it was made from: the folder with config.json and *.safetensors. What was quantized for "
    "another engine is not turned back."
)
"""What to do about any other."""
PACKAGES = ("torch", "transformers>=4.57", "onnx", "onnxscript", "onnx-ir", "onnxruntime", "onnxruntime-genai>=0.18")
"""What pip installs into the environment."""
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "int4")
DEVICES = ("cpu", "cuda", "dml")

DECODER, EMBEDDING, CLASSIFIER, IMAGE_CLASSIFIER, DUAL = (
    "decoder",
    "embedding",
    "classifier",
    "image_classifier",
    "dual",
)
_DECODERS: Mapping[str, tuple[str, ...]] = {
    "cpu": ("fp32", "int8", "int4"),
    "cuda": ("fp32", "fp16", "bf16", "int8", "int4"),
    "dml": ("fp16", "int4"),
}
"""Device -> what onnxruntime-genai 0.18's builder makes for it."""
_ENCODERS = ("fp32", "fp16", "int8")
_BYTES = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "int8": 1.1, "int4": 0.7}
_SCRIPT = Path(__file__).parent / "exporting" / "backend.py"


def command(source: Path, target: Path, metadata: Metadata, precision: str, device: str) -> Sequence[str]:
    """What the environment's Python is told: to read the folder *source* and write into *target*, which is empty.

    Raises Invalid for a precision that there is not, Unsupported for a model of another kind.
    """
    kind = _kind(metadata)
    known = _DECODERS[device] if kind == DECODER else _ENCODERS
    if precision not in known:
        what = "a model that generates text" if kind == DECODER else "this kind of model"
        raise Invalid(f"--precision is {precision}.", f"For {what} and --device {device} it can be {', '.join(known)}.")
    return str(_SCRIPT), kind, str(source), str(target), precision, device


def size(metadata: Metadata, precision: str) -> int:
    """About how many bytes the result takes; 0: not known."""
    return round((metadata.parameters or 0) * _BYTES[precision])


def _kind(metadata: Metadata) -> str:
    task, sees = (metadata.tasks or ("",))[0], "vision" in metadata.features
    if sees:
        kinds = {"classify": IMAGE_CLASSIFIER, "zero_shot": DUAL}
    else:
        kinds = dict.fromkeys(("chat", "complete"), DECODER) | {"embed": EMBEDDING}
        kinds |= dict.fromkeys(("rerank", "classify", "zero_shot"), CLASSIFIER)
    if task not in kinds:
        does = f"{metadata.architecture or 'it'} is for {task or 'nothing that is known'}{' with pictures' * sees}"
        raise Unsupported(
            f"no export to onnx is known for such a model: {does}.",
            "Known are models that generate text, embed, rerank or classify texts, classify pictures, and CLIP.",
        )
    return kinds[task]
