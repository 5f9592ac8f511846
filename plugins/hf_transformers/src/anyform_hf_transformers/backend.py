"""torch and transformers: what they can do here, and a model loaded into them.

The only file that imports them; the others take them from here, and are imported once they are known to be there.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from anyform.contract.errors import EngineMissing
from anyform.contract.facts import BackendInfo, Capabilities, Plan
from anyform.contract.model import LoadedModel
from anyform.picture.backend import library
from anyform_hf_transformers import options as load_options
from anyform_hf_transformers.info import INSTALL, PEFT_INSTALL

try:
    import torch as torch
    import transformers as transformers
    from safetensors.torch import load_file as load_file
    from tokenizers import normalizers as normalizers

    from anyform.text.enginethread import Host
except (ImportError, OSError, RuntimeError) as error:  # torch's libraries may be missing, or of another machine
    raise EngineMissing(f"what the engine needs cannot be imported: {error}.", f"Install it: {INSTALL}") from error

pillow: Any
"""The module PIL.Image; None: Pillow is not there, and models that see nothing do without it."""
try:
    pillow = library()
except EngineMissing:
    pillow = None


def peft() -> Any:
    """The library of adapters. Raises EngineMissing."""
    try:
        import peft as library
    except (ImportError, OSError) as error:
        raise EngineMissing(
            f"what applies adapters cannot be imported: {error}.", f"Install it: {PEFT_INSTALL}"
        ) from error
    return library


def probe(info: BackendInfo | None = None) -> Capabilities:
    """What the installed torch and transformers can use."""
    kinds = ["cpu"]
    if torch.cuda.is_available():
        kinds.append("cuda")
    if torch.backends.mps.is_available():
        kinds.append("metal")
    return Capabilities(
        engine_version=f"{transformers.__version__} (torch {torch.__version__})",
        devices=tuple(kinds),
        features=("grammar", "logprobs", "schema", "thinking", "tools", *(("vision",) if pillow else ())),
    )


def load(plan: Plan) -> LoadedModel:
    """Load *plan*'s model and run it once. Raises EngineMissing, Invalid, LoadFailed, OutOfMemory, Unsupported."""
    options = load_options.read(plan.settings.options)
    try:
        from anyform_hf_transformers import loading
    except ImportError as error:  # jinja2, llguidance, or a part of transformers
        raise EngineMissing(f"what the engine needs cannot be imported: {error}.", f"Install it: {INSTALL}") from error
    return Host(partial(loading.load, plan, options)).model()
