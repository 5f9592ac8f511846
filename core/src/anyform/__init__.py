"""anyform runs a model of any form. Public names are imported on first use, so that `import anyform` is light."""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself would cost a third of what `import anyform` may

__version__ = "0.1.0"

if TYPE_CHECKING:
    from anyform.assembly import start as start
    from anyform.contract.errors import Fault as Fault
    from anyform.contract.facts import Settings as Settings
    from anyform.contract.hooks import hookimpl as hookimpl
    from anyform.contract.model import LoadedModel as LoadedModel
    from anyform.contract.model import Stop as Stop
    from anyform.kernel.runtime import Runtime as Runtime

_HOMES = {
    "Fault": "anyform.contract.errors",
    "LoadedModel": "anyform.contract.model",
    "Runtime": "anyform.kernel.runtime",
    "Settings": "anyform.contract.facts",
    "Stop": "anyform.contract.model",
    "hookimpl": "anyform.contract.hooks",
    "start": "anyform.assembly",
}

__all__ = ["Fault", "LoadedModel", "Runtime", "Settings", "Stop", "hookimpl", "start"]


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'anyform' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
