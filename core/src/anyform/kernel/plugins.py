"""Finds plugins and asks them. The only file of the kernel that touches pluggy.

Each entry point of the group `anyform.plugins` is imported alone; whatever is wrong with one is
recorded and costs only that one. `refresh` looks again, and never under a call that is under way.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import sys
import threading
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import pluggy

from anyform.contract import hooks
from anyform.contract.errors import Fault, Invalid, PluginFault
from anyform.contract.facts import fact
from anyform.kernel.fingerprint import fingerprint

GROUP = "anyform.plugins"
TRIAL_S = 10.0
"""How long one plugin's import may take."""

Candidate = tuple[str, str, str]
"""name, module, version"""


class Trials(Protocol):
    """Imports plugins for trial, where a crash or a hang costs nothing."""

    marks: dict[str, str]
    """The fingerprints of the last candidates, by name."""

    def run(self, candidates: list[Candidate]) -> dict[str, str]:
        """Name -> what happened, for each candidate whose import ended its process or hung."""


@fact
class PluginRecord:
    """One plugin that was found, sound or broken."""

    name: str
    module: str
    distribution: str = ""
    version: str = ""
    sound: bool = True
    reason: str = ""
    """Why it is broken, and what to do; empty when sound."""
    hooks: tuple[str, ...] = ()


class Plugins:
    """All plugins of this process. Safe between threads."""

    def __init__(self) -> None:
        self.records: list[PluginRecord] = []
        self.failures: list[PluginFault] = []
        """What collected hooks raised since the start; each also cost that plugin's answer."""
        self.tables: Mapping[str, Mapping[str, Any]] = {}
        """What the user's settings say for plugins, by their names."""
        self._lock = threading.Lock()
        self._trials: Trials | None = None
        self._manager = pluggy.PluginManager(hooks.PROJECT)
        self._manager.add_hookspecs(hooks)

    @classmethod
    def discover(cls, trials: Trials | None = None, only: str | None = None) -> Plugins:
        """Every installed plugin, in name order; with *only*, just the one of that name.

        *trials*: try each first in a throw-away process, since an import can also abort or hang; None: in this one
        at once, which is for workers, which may die.
        """
        self = cls()
        self._trials = trials
        self._admit_all(_found(only))
        return self

    def refresh(self) -> dict[str, list[str]]:
        """Look again: admit what was installed since, drop what is gone. Names of plugins, by added, removed, changed.

        Calls under way end with the plugins that they began with. A plugin whose version or file changed is imported
        anew, beside its old module, which lives as long as somebody holds it. Plugins given as objects stay. Blocks
        while new ones are tried.
        """
        with self._lock:
            old = {record.name: record for record in self.records}
            if self._trials is None:
                return {"added": [], "removed": [], "changed": []}
            importlib.invalidate_caches()
            found, marks = _found(), self._trials.marks
            now = {record.name: fingerprint(record.module, record.version) for record in found}
            stale = {name for name in old if now.get(name) != marks.get(name)}
            for name in stale:
                _forget(old[name].module)
            fresh = Plugins()
            fresh._trials = self._trials
            fresh._admit_all(found)
            self._manager, self.records = fresh._manager, fresh.records
            self.failures[:] = [fault for fault in self.failures if fault.details["plugin"] not in stale]
            differ = stale | {record.name for record in self.records if record != old.get(record.name)}
            added, removed = now.keys() - old, old.keys() - now
            return {"added": sorted(added), "removed": sorted(removed), "changed": sorted(differ - added - removed)}

    @classmethod
    def of(cls, modules: Mapping[str, object]) -> Plugins:
        """Plugins given as objects by name; for tests and embedders."""
        self = cls()
        for name, module in sorted(modules.items()):
            self._add(PluginRecord(name=name, module=getattr(module, "__name__", type(module).__name__)), module)
        return self

    def names(self) -> list[str]:
        """The sound ones, sorted."""
        return [record.name for record in self.records if record.sound]

    def record(self, name: str) -> PluginRecord | None:
        return next((record for record in self.records if record.name == name), None)

    def _admit_all(self, found: list[PluginRecord]) -> None:
        tried = [(record.name, record.module, record.version) for record in found]
        failed = self._trials.run(tried) if self._trials else {}
        for record in found:
            self._admit(record, failed.get(record.name, ""))

    def _admit(self, record: PluginRecord, reason: str) -> None:
        if reason:
            self._reject(record, reason)
            return
        module, reason = _import(record.module)
        if module is None:
            self._reject(record, reason)
        else:
            self._add(record, module)

    def _add(self, record: PluginRecord, module: object) -> None:
        reason = _contract_trouble(module) or self._register(record.name, module)
        if reason:
            self._reject(record, reason)
            return
        callers = self._manager.get_hookcallers(self._manager.get_plugin(record.name)) or []
        self.records.append(_replace(record, hooks=tuple(sorted(caller.name for caller in callers))))

    def _reject(self, record: PluginRecord, reason: str) -> None:
        self.records.append(_replace(record, sound=False, reason=reason))

    def _register(self, name: str, module: object) -> str:
        """Register and check the hooks; the trouble in words, or "" when sound."""
        try:
            self._manager.register(module, name=name)
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            self._manager.unregister(name=name)
            return f"{_in_words(error, module)} See the hooks in docs/contract.md."
        return ""

    def ask_all(self, hook: str, **arguments: Any) -> list[tuple[str, Any]]:
        """(plugin, answer) for each sound plugin that implements *hook*, in name order.

        A plugin that raises costs only its own answer; the fault is kept in `failures`.
        """
        answers: list[tuple[str, Any]] = []
        for name in self.names():
            if not self.implements(name, hook):
                continue
            try:
                answers.append((name, self.ask_one(name, hook, **arguments)))
            except Fault as fault:
                self._note(fault if isinstance(fault, PluginFault) else PluginFault(name, hook, fault))
        return answers

    def _note(self, fault: PluginFault) -> None:
        if fault.message not in {known.message for known in self.failures}:
            self.failures.append(fault)

    def implements(self, name: str, hook: str) -> bool:
        record = self.record(name)
        return record is not None and record.sound and hook in record.hooks

    def ask_one(self, plugin: str, hook: str, **arguments: Any) -> Any:
        """The answer of *plugin*. Raises its Fault, or PluginFault around anything else that it raised."""
        if not self.implements(plugin, hook) or (manager := self._manager).get_plugin(plugin) is None:
            raise PluginFault(plugin, hook, "it is broken, absent, or does not implement the hook")
        if hook in ("list_backends", "find_devices", "detect_format", "validate"):
            arguments["tables"] = self.tables.get(plugin, {})
        others = [other for name, other in manager.list_name_plugin() if name != plugin and other is not None]
        try:
            answers = manager.subset_hook_caller(hook, remove_plugins=others)(**arguments)
        except Fault:
            raise
        except Exception as error:
            raise PluginFault(plugin, hook, error) from error
        if not answers:
            if hook.startswith(("list_", "find_", "detect_", "validate", "add_")):
                return []
            raise PluginFault(plugin, hook, "it answered None")
        return answers[0]


def _replace(record: PluginRecord, **changes: Any) -> PluginRecord:
    from dataclasses import replace

    return replace(record, **changes)


def _found(only: str | None = None) -> list[PluginRecord]:
    """What is installed, in name order; with *only*, just the one of that name. Imports nothing."""
    points = sorted(importlib.metadata.entry_points(group=GROUP), key=lambda point: point.name)
    return [_record(point) for point in _distinct(point for point in points if only in (None, point.name))]


def _distinct(points: Iterable[importlib.metadata.EntryPoint]) -> list[importlib.metadata.EntryPoint]:
    """The first of each name: an editable install and its build folder may both list one."""
    found: dict[str, importlib.metadata.EntryPoint] = {}
    for point in points:
        found.setdefault(point.name, point)
    return list(found.values())


def _record(point: importlib.metadata.EntryPoint) -> PluginRecord:
    """What is known of a plugin before it is imported."""
    about = point.dist.metadata if point.dist else None  # parsed anew at each look
    return PluginRecord(
        name=point.name,
        module=point.value.partition(":")[0].strip(),
        distribution=about["Name"] if about else "",
        version=about["Version"] if about else "",
    )


def _import(module: str) -> tuple[object | None, str]:
    """Import *module* in a thread, so that a hang costs TRIAL_S seconds and not the program."""
    if module in sys.modules:
        return sys.modules[module], ""
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append(importlib.import_module(module))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=work, name=f"import {module}", daemon=True)
    thread.start()
    thread.join(TRIAL_S)
    if not outcome:
        return (
            None,
            f"importing {module} took over {TRIAL_S:g} s. Remove the plugin, or ask its author to import lightly.",
        )
    if isinstance(outcome[0], BaseException):
        return None, f"importing {module} raised {type(outcome[0]).__name__}: {outcome[0]}. Reinstall or remove it."
    return outcome[0], ""


def _forget(module: str) -> None:
    """Let *module*'s package be imported anew; anyform's own stays."""
    top = module.partition(".")[0]
    for name in [name for name in sys.modules if name.partition(".")[0] == top != "anyform"]:
        del sys.modules[name]


def _contract_trouble(module: object) -> str:
    stated = getattr(module, "ANYFORM_CONTRACT", None)
    if stated == hooks.CONTRACT:
        return ""
    if stated is None:
        return f"it does not state its contract. Its module needs the line ANYFORM_CONTRACT = {hooks.CONTRACT}."
    advice = "Upgrade the plugin." if isinstance(stated, int) and stated < hooks.CONTRACT else "Upgrade anyform."
    return f"it was written for contract {stated!r}; this anyform has {hooks.CONTRACT}. {advice}"


def _in_words(error: pluggy.PluginValidationError, module: object) -> str:
    """Pluggy's message in one line, with the nearest hook for a misspelt one."""
    for name, member in inspect.getmembers(module):
        if getattr(member, f"{hooks.PROJECT}_impl", None) is not None and not hasattr(hooks, name):
            from difflib import get_close_matches

            near = get_close_matches(name, hook_names(), n=1)
            return f"there is no hook {name!r}" + (f"; did it mean {near[0]!r}?" if near else ".")
    return " ".join(str(error).split()) + "."


def hook_names() -> list[str]:
    """The hooks of the contract, sorted."""
    return sorted(name for name, member in vars(hooks).items() if hasattr(member, f"{hooks.PROJECT}_spec"))


def require(plugins: Plugins, name: str) -> None:
    """Raise Invalid unless a plugin or backend *name* is known; for options that name one."""
    known = {record.name: None for record in plugins.records}
    if name not in known:
        known |= {info.name: None for _, answer in plugins.ask_all("list_backends") for info in answer}
    if name not in known:
        raise Invalid(f"there is no plugin {name!r}, and no backend.", f"There are {', '.join(known)}.")
