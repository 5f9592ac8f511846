"""diffusers, transformers and torch: what they can do here, and a model loaded into them.

The only file that imports them; the others take them from here, and are imported once they are known to be there.
"""

from __future__ import annotations

from functools import partial

from anyform.contract.errors import EngineMissing
from anyform.contract.facts import BackendInfo, Capabilities, Plan
from anyform.contract.model import LoadedModel
from anyform.text.enginethread import Host
from anyform_diffusers import options as load_options
from anyform_diffusers.info import INSTALL

try:
    import diffusers as diffusers
    import safetensors as safetensors
    import torch as torch
    import transformers as transformers
except (ImportError, OSError, RuntimeError) as error:  # torch's libraries may be missing, or of another machine
    raise EngineMissing(f"what the engine needs cannot be imported: {error}.", f"Install it: {INSTALL}") from error


def probe(info: BackendInfo | None = None) -> Capabilities:
    """What the installed torch and diffusers can use."""
    kinds = ["cpu"]
    if torch.cuda.is_available():
        kinds.append("cuda")
    if torch.backends.mps.is_available():
        kinds.append("metal")
    return Capabilities(
        engine_version=f"{diffusers.__version__} (torch {torch.__version__})",
        devices=tuple(kinds),
        spills="cuda" in kinds,  # parts that do not compute may lie in main memory
    )


def load(plan: Plan) -> LoadedModel:
    """Load *plan*'s model and run it once. Raises EngineMissing, Invalid, LoadFailed, OutOfMemory, Unsupported."""
    options = load_options.read(plan.settings.options)
    from anyform_diffusers import loading

    return Host(partial(loading.load, plan, options)).model()
