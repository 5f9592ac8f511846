"""The exporters that plugins bring, and the Python environments that they run in, which are none of anyform's own.

An exporter is a module under the entry points `anyform.exporters`, named after the form that it writes; `Exporter` says
what it has. It is imported by `anyform export` alone, and imports nothing heavy: what is heavy runs where it tells.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, cast

from anyform.config import cache_folder, environment
from anyform.contract.errors import Area, Category, Fault, Invalid, PluginFault
from anyform.contract.facts import Metadata, Severity

GROUP = "anyform.exporters"
KEPT_LINES = 400
SHOWN_LINES = 12
_MARK = "anyform-exporter.json"
"""In an environment that is whole: what it was made of."""
_OFFLINE: Mapping[str, str] = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
"""The model is here already, and an exporter has nothing else to fetch."""
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

Tell = Callable[[str], None]
"""Is told each line of progress."""


class Exporter(Protocol):
    """What an exporter's module has."""

    READS: Sequence[str]
    """Formats of models that it exports."""
    INSTEAD: str
    """What to do about any other, in a sentence."""
    PACKAGES: Sequence[str]
    """What pip installs into its environment."""
    PRECISIONS: Sequence[str]
    """The first is the usual one."""
    DEVICES: Sequence[str]
    """What a result may be made for; the first is the usual one."""

    def command(self, source: Path, target: Path, metadata: Metadata, precision: str, device: str) -> Sequence[str]:
        """What the environment's Python is told, to write the model in *source* into *target*, which is empty.

        Raises Invalid, Unsupported.
        """

    def size(self, metadata: Metadata, precision: str) -> int:
        """About how many bytes the result takes; 0: not known."""


class ExportFailed(Fault):
    """What an exporter runs ended badly."""

    code = "export_failed"
    category, area, severity = Category.UNAVAILABLE, Area.FORMAT, Severity.WARNING


def names() -> list[str]:
    """The forms that something can be exported to."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def found(name: str) -> Exporter:
    """The exporter called *name*. Raises Invalid, PluginFault."""
    point = next(iter(entry_points(group=GROUP, name=name)), None)
    if point is None:
        known = f"It can be {', '.join(names())}" if names() else "No installed plugin exports anything"
        raise Invalid(
            f"--to is {name!r}, and no installed plugin exports to that.",
            f"{known}; anyform-{name} may bring it: `anyform plugins` shows what is installed.",
        )
    return _imported(point)


def _imported(point: EntryPoint) -> Exporter:
    try:
        return cast(Exporter, point.load())
    except Exception as error:
        raise PluginFault(point.dist.name if point.dist else point.value, "export", error) from error


class Environment:
    """A Python with the packages of one exporter."""

    def __init__(self, name: str, folder: Path | None = None) -> None:
        """*folder*: where it lies; None: with what anyform can make again."""
        version = f"py{sys.version_info.major}.{sys.version_info.minor}"
        self.folder = folder or cache_folder() / "exporters" / f"{name}-{version}"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        inside = ("Scripts", "python.exe") if sys.platform == "win32" else ("bin", "python")
        return self.folder.joinpath(*inside)

    def has(self, packages: Sequence[str], constraint: Path | None) -> bool:
        """Whether it is whole, and made of the same."""
        try:
            made = json.loads((self.folder / _MARK).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return bool(made == _made_of(packages, constraint)) and self.python.exists()

    def make(self, packages: Sequence[str], constraint: Path | None, tell: Tell) -> None:
        """Make it anew, which fetches *packages*. What is left of an earlier try is deleted. Raises ExportFailed."""
        self.remove()
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        ours = find_spec("pip") is not None  # a pip of its own takes longer than many an export
        made = [sys.executable, "-m", "venv", *(["--without-pip"] if ours else []), str(self.folder)]
        run(made, tell, "the environment could not be made", {})
        if packages:
            pip = (
                [sys.executable, "-m", "pip", "--python", str(self.python)] if ours else [str(self.python), "-m", "pip"]
            )
            limits = ["--constraint", str(constraint)] if constraint else []
            asked = ["install", "--disable-pip-version-check", "--progress-bar", "off", *limits, *packages]
            run([*pip, *asked], tell, "pip could not install what the export needs", {})
        (self.folder / _MARK).write_text(json.dumps(_made_of(packages, constraint)), encoding="utf-8")

    def remove(self) -> None:
        """Delete it."""
        if self.folder.exists():
            shutil.rmtree(self.folder)


def _made_of(packages: Sequence[str], constraint: Path | None) -> dict[str, object]:
    limits = constraint.read_text(encoding="utf-8") if constraint else ""
    return {"packages": list(packages), "constraint": limits}


def run(command: Sequence[str], tell: Tell, what: str, more: Mapping[str, str] = _OFFLINE) -> None:
    """Run *command*, telling each line of it. *what*: what it means if it fails. *more*: variables over anyform's own.

    It is ended with this, whatever ends this. Raises ExportFailed with its last lines.
    """
    last: deque[str] = deque(maxlen=KEPT_LINES)
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(more)
        )
    except OSError as error:
        raise ExportFailed(f"{what}: {command[0]} cannot be run: {error.strerror or error}.") from error
    with child:
        try:
            assert child.stdout is not None
            rest = b""
            while data := child.stdout.read1(1 << 16):  # type: ignore[attr-defined]
                *lines, rest = re.split(rb"[\r\n]+", rest + data)  # a bar of progress ends with a return alone
                for line in lines:
                    _heard(line, last, tell)
            _heard(rest, last, tell)
            status = child.wait()
        except BaseException:
            child.kill()
            raise
    if status:
        said = "\n".join([*last][-SHOWN_LINES:])
        raise ExportFailed(f"{what} (exit code {status}).", f"It said last:\n{said}" if said else "", status=status)


def _heard(line: bytes, last: deque[str], tell: Tell) -> None:
    text = _ESCAPES.sub("", line.decode(errors="replace")).strip()
    if text:
        last.append(text)
        tell(text)
