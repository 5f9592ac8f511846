"""llama.cpp through llama-cpp-python's low-level API: what it can do here, and a model loaded into it.

The only file that imports `llama_cpp`; the others get the module handed in.
"""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path
from typing import Any

from anyform.contract.errors import EngineMissing, InvalidModel
from anyform.contract.facts import BackendInfo, Capabilities, Plan
from anyform.contract.model import LoadedModel
from anyform.text.enginethread import Host
from anyform_gguf_llamacpp import options as load_options
from anyform_gguf_llamacpp.accelerator import accelerators
from anyform_gguf_llamacpp.enginelog import EngineLog
from anyform_gguf_llamacpp.plugin import INSTALL

try:
    from anyform_gguf_llamacpp.loader import Loader
except ImportError as error:  # numpy, jinja2 or llguidance
    raise EngineMissing(f"what the engine needs cannot be imported: {error}.", f"Install it: {INSTALL}") from error

_LOG = EngineLog()


def probe(info: BackendInfo) -> Capabilities:
    """What the installed llama.cpp can use. Raises EngineMissing."""
    llama = _engine(info.install)
    kinds = tuple(dict.fromkeys(found.kind for found in accelerators(llama)))
    features = ["grammar", "logprobs", "lora", "schema", "thinking", "tools"]
    if _projection() is not None:
        features.append("vision")
    return Capabilities(
        engine_version=_version(llama),
        devices=("cpu", *kinds),
        features=tuple(features),
        spills=bool(kinds),
    )


def load(plan: Plan) -> LoadedModel:
    """Load *plan*'s model and decode one token with it. Raises Invalid, LoadFailed, OutOfMemory, Unsupported."""
    options = load_options.read(plan.settings.options)
    engine = _engine()
    return Host(Loader(engine, _projection, _LOG, plan, options).load).model()


def quantize(source: Path, target: Path, kind: str) -> None:
    """Write the GGUF *source* to *target* as *kind*, such as Q4_K_M. Raises EngineMissing, InvalidModel."""
    llama = _engine()
    wanted = llama.llama_model_quantize_default_params()
    wanted.ftype = getattr(llama, f"LLAMA_FTYPE_MOSTLY_{kind}")
    if llama.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(wanted)) != 0:
        raise InvalidModel(f"llama.cpp does not make it {kind}: {_LOG.errors(1) or 'it does not say why'}")


def _engine(install: str = INSTALL) -> Any:
    try:
        from llama_cpp import llama_cpp as llama
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineMissing(f"llama-cpp-python cannot be imported: {error}.", f"Install it: {install}") from error
    _LOG.attach(llama.llama_log_set, llama.llama_log_callback)
    llama.llama_backend_init()
    return llama


def _projection() -> Any:
    """The module that reads pictures; None if this build has none."""
    try:
        from llama_cpp import llama_cpp as llama
        from llama_cpp import mtmd_cpp
    except (ImportError, OSError, RuntimeError, AttributeError):
        return None
    _LOG.attach(mtmd_cpp.mtmd_helper_log_set, llama.llama_log_callback)
    return mtmd_cpp


def _version(llama: Any) -> str:
    import llama_cpp

    version: str = llama_cpp.__version__
    with contextlib.suppress(AttributeError):
        version += f" (llama.cpp {llama.llama_version().decode()})"
    return version
