"""Which module of this plugin stands around which engine; nothing is imported before it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

from anyform.contract.facts import BackendInfo, Capabilities, Plan
from anyform.contract.model import LoadedModel

_PLACES = {"onnxruntime": "anyform_onnx.backend", "onnxruntime_genai": "anyform_onnx.genai.backend"}


class Engine(Protocol):
    """A `backend.py`."""

    def probe(self, info: BackendInfo) -> Capabilities:
        """What the installed engine can use. Raises EngineMissing."""

    def load(self, plan: Plan) -> LoadedModel:
        """Load *plan*'s model and run it once. Raises EngineMissing, Invalid, LoadFailed, OutOfMemory, Unsupported."""


def of(backend: str) -> Engine:
    """The engine of the backend called *backend*. Raises EngineMissing."""
    return cast(Engine, import_module(_PLACES[backend]))
