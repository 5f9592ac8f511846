"""onnxruntime: what it can do here, and a model loaded into it.

The only file beside genai/backend.py that imports engines; the others take them from here.
"""

from __future__ import annotations

from functools import partial

from anyform.contract.errors import EngineMissing
from anyform.contract.facts import BackendInfo, Capabilities, Plan
from anyform.contract.model import LoadedModel
from anyform.picture.backend import library
from anyform_onnx import options as load_options
from anyform_onnx.info import RUNTIME
from anyform_onnx.wheel import settled

try:
    import onnxruntime as onnxruntime
    import tokenizers as tokenizers

    from anyform.text.enginethread import Host
except (ImportError, OSError, RuntimeError) as error:  # its libraries may be missing, or of another machine
    raise EngineMissing(
        f"what the engine needs cannot be imported: {error}.", f"Install it: {settled(RUNTIME).install}"
    ) from error

onnxruntime.set_default_logger_severity(3)  # errors alone: it warns on stderr of machines without accelerators


def probe(info: BackendInfo | None = None) -> Capabilities:
    """What the installed onnxruntime can use."""
    from anyform_onnx import provider

    try:
        sees = bool(library())
    except EngineMissing:
        sees = False
    return Capabilities(
        engine_version=onnxruntime.__version__,
        devices=provider.devices(onnxruntime.get_available_providers()),
        features=("grammar", "logprobs", "schema", "thinking", "tools", *(("vision",) if sees else ())),
    )


def load(plan: Plan) -> LoadedModel:
    """Load *plan*'s model and run it once. Raises EngineMissing, Invalid, LoadFailed, OutOfMemory, Unsupported."""
    options = load_options.read(plan.settings.options)
    try:
        from anyform_onnx import loading
    except ImportError as error:  # jinja2, llguidance or numpy
        raise EngineMissing(
            f"what the engine needs cannot be imported: {error}.", f"Install it: {settled(RUNTIME).install}"
        ) from error
    return Host(partial(loading.load, plan, options)).model()
