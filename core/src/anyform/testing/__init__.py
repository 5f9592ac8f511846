"""For plugin authors: the conformance kit, canned hardware, and writers of tiny model files. Needs pytest only.

The kit is imported on first use, so that the writers work without pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anyform.testing.conformance import PluginConformance as PluginConformance

__all__ = ["PluginConformance"]


def __getattr__(name: str) -> Any:
    """Import the kit when it is first asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'anyform.testing' has no attribute {name!r}")
    from anyform.testing.conformance import PluginConformance

    return PluginConformance
