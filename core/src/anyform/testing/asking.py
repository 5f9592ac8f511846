"""Asks one plugin module its hooks directly, without the kernel's protection: a kit wants to see what it raises."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from anyform.contract import hooks
from anyform.contract.facts import FormatMatch, ModelFiles
from anyform.kernel.files import FolderFiles

IMPLEMENTATION = f"{hooks.PROJECT}_impl"
"""The attribute that pluggy leaves on a function marked with @hookimpl."""


class Asked:
    """A plugin's module and its hooks."""

    def __init__(self, module: str, tables: Mapping[str, Any] | None = None) -> None:
        """Imports *module*. *tables*: its part of the settings file, for the hooks that take one."""
        self.module = importlib.import_module(module)
        self._tables = dict(tables or {})

    def implementations(self) -> dict[str, Callable[..., Any]]:
        """Every function that is marked with @hookimpl, by the name of the hook that it means to implement."""
        marked = {name: member for name, member in vars(self.module).items() if hasattr(member, IMPLEMENTATION)}
        return {getattr(member, IMPLEMENTATION).get("specname") or name: member for name, member in marked.items()}

    def has(self, hook: str) -> bool:
        return hook in self.implementations()

    def ask(self, hook: str, **arguments: Any) -> Any:
        """The answer, given only the arguments that the implementation takes. KeyError where there is none."""
        implementation = self.implementations()[hook]
        arguments.setdefault("tables", self._tables)
        wanted = inspect.signature(implementation).parameters
        return implementation(**{name: value for name, value in arguments.items() if name in wanted})

    def ask_if_there(self, hook: str, **arguments: Any) -> Any:
        """`ask`, or [] where the hook is not implemented."""
        return self.ask(hook, **arguments) if self.has(hook) else []


def read(plugin: Asked, folder: Path) -> list[tuple[ModelFiles, FormatMatch]]:
    """The matches in *folder*, each with the files that it was found in."""
    files = FolderFiles(folder)
    return [(files, match) for match in plugin.ask("detect_format", files=files)]
