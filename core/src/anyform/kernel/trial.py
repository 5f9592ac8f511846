"""Trial imports: a plugin is first imported in a throw-away process, since an import can abort, exit or hang."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path

from anyform.kernel.memo import Memo

TRIAL_S = 10.0
"""How long one plugin's import may take."""

Candidate = tuple[str, str, str]
"""name, module, version"""

_CODE = """
import importlib, os, sys
for module in sys.argv[1:]:
    print("try", module, file=sys.__stdout__, flush=True)
    try:
        importlib.import_module(module)
    except Exception:
        pass
    print("end", module, file=sys.__stdout__, flush=True)
os._exit(0)
"""


class Trials:
    """Runs trial imports and remembers which plugins came through, by their version and their file's time and size."""

    def __init__(self, state: Path | None) -> None:
        self._memo = Memo(state / "plugins.json" if state else None)

    def run(self, candidates: list[Candidate]) -> dict[str, str]:
        """Name -> what happened, for each candidate whose import ended its process or hung.

        An import that merely raises is not reported here: importing it again tells more.
        """
        prints = {name: fingerprint(module, version) for name, module, version in candidates}
        fresh = [one for one in candidates if self._memo.get(one[0]) != prints[one[0]]]
        failed: dict[str, str] = {}
        while fresh:
            fresh, name, reason = _try(fresh)
            if name:
                failed[name] = reason
        self._memo.update({name: mark for name, mark in prints.items() if name not in failed})
        return failed


def _try(candidates: list[Candidate]) -> tuple[list[Candidate], str, str]:
    """Import all in one process; when it dies: the candidates after the culprit, the culprit, the reason."""
    import subprocess

    modules = [module for _, module, _ in candidates]
    command = [sys.executable, "-c", _CODE, *modules]
    limit = TRIAL_S + len(modules)
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit, stdin=subprocess.DEVNULL, check=False)
        output, how = done.stdout, _ending(done.returncode)
    except subprocess.TimeoutExpired as late:
        output, how = late.stdout or b"", f"took over {limit:g} s"
    lines = output.decode(errors="replace").splitlines()
    ended = sum(line.startswith("end ") for line in lines)
    if ended >= len(candidates):
        return [], "", ""
    name, module, _ = candidates[ended]
    return candidates[ended + 1 :], name, f"importing {module} {how}. Remove the plugin, or ask its author."


def _ending(code: int) -> str:
    return f"ended the process by signal {-code}" if code < 0 else f"ended the process with exit code {code}"


def fingerprint(module: str, version: str) -> str:
    """What changes when the plugin changes, found without importing it."""
    parts = [sys.version, module, version]
    for file in _files(module):
        try:
            stat = file.stat()
            parts.append(f"{file}:{stat.st_mtime_ns}:{stat.st_size}")
        except OSError:
            continue
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:24]


def _files(module: str) -> list[Path]:
    """The module's own file and its packages' `__init__`, located from the top-level package alone."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return []
    files = [Path(spec.origin)] if spec and spec.origin else []
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place)
        for step in rest[:-1]:
            folder /= step
            files.append(folder / "__init__.py")
        if rest:
            files += [folder / f"{rest[-1]}.py", folder / rest[-1] / "__init__.py"]
    return files
