"""What the conformance kit must try in a process of its own: light imports, and a missing engine.

The child prints one JSON line, marked, since a plugin may print too.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

from anyform.contract.facts import BackendInfo

MARK = "anyform-testing: "
LIMIT_S = 60.0
FEW = 1000
"""Places of a source that are asked for: it may not end."""


def imported(module: str) -> list[str]:
    """The modules that `import module` adds to those of the contract."""
    names: list[str] = _child("import", module)
    return names


def imported_by_hooks(module: str, format_module: str, folders: Sequence[Path], tables: Mapping[str, Any]) -> list[str]:
    """The modules that asking every hook that may not import an engine adds. *tables*: of *module*'s settings."""
    names: list[str] = _child("hooks", module, format_module, json.dumps(dict(tables)), *map(str, folders))
    return names


def found_by_sources(module: str) -> list[dict[str, Any]]:
    """For each source of *module*, as it is found in this environment: its name, what find() raised ("" for nothing),
    and the paths that it names where nothing lies.
    """
    told: list[dict[str, Any]] = _child("sources", module)
    return told


def loaded_without(module: str, blocked: Sequence[str], plan_file: Path) -> dict[str, dict[str, Any]]:
    """How `probe_backend` and `load` end while the modules *blocked* cannot be imported; the plan is a wire frame."""
    outcome: dict[str, dict[str, Any]] = _child("load", module, ",".join(blocked), str(plan_file))
    return outcome


def engine_modules(backend: BackendInfo) -> list[str]:
    """The top-level modules of a backend's engine: as installed, else its name with underscores."""
    wanted = {name.lower().replace("_", "-") for name in backend.engine}
    owners = importlib.metadata.packages_distributions()
    installed = [top for top, names in owners.items() if wanted & {name.lower().replace("_", "-") for name in names}]
    return sorted({*installed, *(name.replace("-", "_") for name in backend.engine)})


def _child(*words: str) -> Any:
    command = [sys.executable, "-m", "anyform.testing.outside", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"{' '.join(words)} did not end within {LIMIT_S:g} s.") from None
    for line in done.stdout.splitlines():
        if line.startswith(MARK):
            return json.loads(line.removeprefix(MARK))
    how = f"exit code {done.returncode}" if done.returncode >= 0 else f"signal {-done.returncode}"
    raise AssertionError(f"{' '.join(words)} ended with {how}:\n{done.stderr[-2000:]}")


def _import(module: str) -> list[str]:
    importlib.import_module("anyform.contract.hooks")
    before = set(sys.modules)
    importlib.import_module(module)
    return sorted(set(sys.modules) - before)


def _hooks(module: str, format_module: str, tables: str, *folders: str) -> list[str]:
    from anyform.contract.facts import Settings
    from anyform.testing.asking import Asked, read

    importlib.import_module("anyform.workers.wire")
    before = set(sys.modules)
    plugin = Asked(module, json.loads(tables))
    reader = plugin if format_module == module else Asked(format_module)
    for hook in ("list_backends", "find_devices"):
        plugin.ask_if_there(hook)
    for source in plugin.ask_if_there("list_sources"):
        with suppress(Exception):  # which a check of sources tells
            list(islice(source.find(), FEW))
    for folder in folders:
        for files, match in read(reader, Path(folder)):
            reader.ask_if_there("validate", files=files, match=match)
            metadata = reader.ask("extract_metadata", files=files, match=match)
            for backend in plugin.ask_if_there("list_backends") or []:
                plugin.ask("estimate_memory", backend=backend, metadata=metadata, settings=Settings(context=64))
    return sorted(set(sys.modules) - before)


def _sources(module: str) -> list[dict[str, Any]]:
    from anyform.testing.asking import Asked

    return [_find(source) for source in Asked(module).ask("list_sources")]


def _find(source: Any) -> dict[str, Any]:
    try:
        places = list(islice(source.find(), FEW))
    except Exception as error:
        return {"source": source.name, "raised": f"{type(error).__name__}: {error}", "missing": []}
    return {"source": source.name, "raised": "", "missing": [str(p.path) for p in places if not p.path.exists()]}


def _load(module: str, blocked: str, plan_file: str) -> dict[str, dict[str, Any]]:
    from anyform.testing.asking import Asked
    from anyform.workers.wire import Decoder

    sys.meta_path.insert(0, _Blocked(blocked.split(",")))
    plugin = Asked(module)
    [plan] = Decoder().feed(Path(plan_file).read_bytes())
    backend = next(one for one in plugin.ask("list_backends") if one.name == plan.backend)
    return {"probe_backend": _end(plugin, "probe_backend", backend=backend), "load": _end(plugin, "load", plan=plan)}


def _end(plugin: Any, hook: str, **arguments: Any) -> dict[str, Any]:
    from anyform.contract.errors import Fault

    try:
        plugin.ask(hook, **arguments)
    except Fault as fault:
        return fault.as_dict()
    except BaseException as error:
        return {"raised": f"{type(error).__name__}: {error}"}
    return {"answered": True}


class _Blocked:
    """An import finder that makes some modules impossible to import."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = set(names)

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name.partition(".")[0] in self._names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    found = {"import": _import, "hooks": _hooks, "sources": _sources, "load": _load}[what](*rest)  # type: ignore[operator]
    sys.stdout.write(f"\n{MARK}{json.dumps(found)}\n")
