"""Checks of a plugin's module: what it imports, what it states."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from anyform.contract import hooks
from anyform.contract.facts import Device
from anyform.kernel.plugins import hook_names
from anyform.testing import outside
from anyform.testing.asking import Asked
from anyform.testing.subject import Subject, check_wire


class ModuleChecks(Subject):
    """Light, with a contract, hooks as specified, backends stated."""

    def test_import_is_light(self) -> None:
        heavy = self._heavy(outside.imported(self.module))
        assert not heavy, (
            f"`import {self.module}` imports {', '.join(heavy)}. A plugin's module may import the standard library and "
            f"anyform.contract only: import the rest inside load() and probe_backend(), from a module of their own."
        )

    def test_hooks_do_not_import_the_engine(self, folders: list[Path], tables: Mapping[str, Any]) -> None:
        reader = self.format_module or self.module
        heavy = self._heavy(outside.imported_by_hooks(self.module, reader, folders, tables))
        assert not heavy, (
            f"asking the hooks of {self.module} imports {', '.join(heavy)}. Only load() and probe_backend() may: read "
            f"headers with the standard library, and state BackendInfo without asking the engine."
        )

    def test_contract_is_stated(self, asked: Asked) -> None:
        stated = getattr(asked.module, "ANYFORM_CONTRACT", None)
        assert stated == hooks.CONTRACT, (
            f"{self.module} states ANYFORM_CONTRACT = {stated!r}; this anyform has {hooks.CONTRACT}. "
            f"Write ANYFORM_CONTRACT = {hooks.CONTRACT} in it."
        )

    def test_signatures_equal_the_specs(self, asked: Asked) -> None:
        found = asked.implementations()
        assert found, f"{self.module} has no function marked with @hookimpl."
        for name, function in found.items():
            assert name in hook_names(), f"there is no hook {name!r}. The hooks are {', '.join(hook_names())}."
            given = list(signature(function).parameters)
            known = list(signature(getattr(hooks, name)).parameters)
            unknown = [argument for argument in given if argument not in known]
            assert not unknown, (
                f"{name} takes {', '.join(unknown)}, which the hook does not give: "
                f"it gives {', '.join(known) or 'nothing'}."
            )
        unmarked = [name for name in hook_names() if name not in found and _is_own_function(asked, name)]
        assert not unmarked, f"{', '.join(unmarked)} in {self.module} lacks the @hookimpl mark, so nobody will call it."

    def test_backends_are_stated(self, asked: Asked) -> None:
        for backend in self._backends(asked):
            assert backend.name, "a BackendInfo has no name."
            assert backend.reads or backend.converts, f"backend {backend.name} reads no format."
            assert backend.tasks, f"backend {backend.name} does no task."
            assert backend.install or not backend.engine, (
                f"backend {backend.name} needs {', '.join(backend.engine)} but its `install` is empty. "
                f"State the command that installs the engine; it is quoted to the user."
            )
            for hook in ("estimate_memory", "probe_backend", "load"):
                assert asked.has(hook), f"{self.module} lists backend {backend.name} but does not implement {hook}."

    def test_a_format_is_whole(self, asked: Asked) -> None:
        if asked.has("detect_format"):
            missing = [hook for hook in ("validate", "extract_metadata") if not asked.has(hook)]
            assert not missing, f"{self.module} detects a format but does not implement {' and '.join(missing)}."

    def test_devices_are_plain(self, asked: Asked) -> None:
        for device in asked.ask_if_there("find_devices"):
            assert isinstance(device, Device), f"find_devices returned {type(device).__name__}, not Device."
            assert device.kind == device.kind.lower(), f"device kind {device.kind!r} is not lower case."
            assert 0 <= device.free_bytes <= device.total_bytes, f"{device.id}: {device.free_bytes} bytes free is odd."
            check_wire(device)

    def _heavy(self, modules: Sequence[str]) -> list[str]:
        own = self.module.partition(".")[0]
        allowed = {*sys.stdlib_module_names, *self.light, own, "anyform", "pluggy"}
        tops = {name.partition(".")[0] for name in modules}
        inner = {name for name in modules if name.startswith(("anyform.kernel", "anyform.workers", "anyform.http"))}
        return sorted({top for top in tops - allowed if not top.startswith("_")} | inner)


def _is_own_function(asked: Asked, name: str) -> bool:
    member = getattr(asked.module, name, None)
    return callable(member) and getattr(member, "__module__", "") == asked.module.__name__
