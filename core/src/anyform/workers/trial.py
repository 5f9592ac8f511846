"""Trial imports: a plugin is first imported in a throw-away process, since an import can abort, exit or hang."""

from __future__ import annotations

import sys
from pathlib import Path

from anyform.kernel.fingerprint import fingerprint
from anyform.kernel.plugins import TRIAL_S, Candidate, Plugins
from anyform.workers.memo import Memo

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


def discover(state: Path | None) -> Plugins:
    """Every installed plugin; what was never seen in its present form is imported for trial first.

    *state*: the folder that remembers which came through.
    """
    return Plugins.discover(Trials(state))


class Trials:
    """Runs trial imports and remembers which plugins came through, by their version and their file's time and size."""

    def __init__(self, state: Path | None) -> None:
        self._memo = Memo(state / "plugins.json" if state else None)
        self.marks: dict[str, str] = {}
        """The fingerprints of the last candidates, by name."""

    def run(self, candidates: list[Candidate]) -> dict[str, str]:
        """Name -> what happened, for each candidate whose import ended its process or hung.

        An import that merely raises is not reported here: importing it again tells more.
        """
        self.marks = {name: fingerprint(module, version) for name, module, version in candidates}
        fresh = [one for one in candidates if self._memo.get(one[0]) != self.marks[one[0]]]
        failed: dict[str, str] = {}
        while fresh:
            fresh, name, reason = _try(fresh)
            if name:
                failed[name] = reason
        self._memo.update({name: mark for name, mark in self.marks.items() if name not in failed})
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
