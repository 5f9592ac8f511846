"""onnxruntime-genai: what it can do here, and a model loaded into it. The only file that imports it."""

from __future__ import annotations

from functools import partial

from anyform.contract.errors import EngineMissing
from anyform.contract.facts import BackendInfo, Capabilities, Plan
from anyform.contract.model import LoadedModel
from anyform_onnx import options as load_options
from anyform_onnx.info import ENGINE
from anyform_onnx.wheel import settled

try:
    import onnxruntime_genai as og

    from anyform.text.enginethread import Host
except (ImportError, OSError, RuntimeError) as error:  # its libraries may be missing, or of another machine
    raise EngineMissing(
        f"what the engine needs cannot be imported: {error}.", f"Install it: {settled(ENGINE).install}"
    ) from error

__all__ = ["load", "og", "probe"]


def probe(info: BackendInfo | None = None) -> Capabilities:
    """What the installed onnxruntime-genai can use."""
    kinds = ["cpu"]
    if og.is_cuda_available():
        kinds.append("cuda")
    return Capabilities(
        engine_version=og.__version__,
        devices=tuple(kinds),
        features=("grammar", "logprobs", "schema", "thinking", "tools"),
    )


def load(plan: Plan) -> LoadedModel:
    """Load *plan*'s model and run it once. Raises EngineMissing, Invalid, LoadFailed, OutOfMemory, Unsupported."""
    options = load_options.read(plan.settings.options)
    try:
        from anyform_onnx.genai import loading
    except ImportError as error:
        raise EngineMissing(
            f"what the engine needs cannot be imported: {error}.", f"Install it: {settled(ENGINE).install}"
        ) from error
    return Host(partial(loading.load, plan, options)).model()
