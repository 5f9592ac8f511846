"""The hooks: routes, and nothing else."""

from __future__ import annotations

from anyform.contract.hooks import Routes, Runtime, hookimpl

ANYFORM_CONTRACT = 1


@hookimpl
def add_routes(routes: Routes, runtime: Runtime) -> None:
    """Those of the dialect."""
    from anyform_lmstudio_api.routes import add

    add(routes)
