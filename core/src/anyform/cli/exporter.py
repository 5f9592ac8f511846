"""The exporters that plugins bring, and the Python environments that they run in, which are none of anyform's own.

An exporter is a module under the entry points `anyform.exporters`, named after the form that it writes; `Exporter` says
what it has. It is imported by `anyform export` alone, and imports nothing heavy: what is heavy runs where it tells.
"""

from __future__ import annotations

import glob
import json
import re
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Protocol, cast

from anyform.config import cache_folder, environment
from anyform.contract.errors import Area, Category, Fault, Invalid, PluginFault
from anyform.contract.facts import Metadata, Severity
from anyform.sources import hublock

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

    @contextmanager
    def used(self, packages: Sequence[str], constraint: Path | None, tell: Tell, anew: bool = False) -> Iterator[Path]:
        """Its interpreter, made first if need be or *anew*; nobody makes it again before the block ends.

        Blocks while another process makes it, and *anew* while another uses it. Raises ExportFailed.
        """
        with ExitStack() as held:
            with self._alone("making", lambda: tell("waiting for another anyform that makes it")):
                if anew or not self.has(packages, constraint):
                    self._make(packages, constraint, tell)
                held.enter_context(self._use())
            yield self.python

    def _make(self, packages: Sequence[str], constraint: Path | None, tell: Tell) -> None:
        with ExitStack() as held:
            for number in range(self._uses()):
                held.enter_context(self._alone(f"use-{number}", lambda: tell("waiting for an export that uses it")))
            self.remove()
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            ours = find_spec("pip") is not None  # a pip of its own takes longer than many an export
            made = [sys.executable, "-m", "venv", *(["--without-pip"] if ours else []), str(self.folder)]
            run(made, tell, "the environment could not be made", {})
            if packages:
                outside = [sys.executable, "-m", "pip", "--python", str(self.python)]
                pip = outside if ours else [str(self.python), "-m", "pip"]
                limits = ["--constraint", str(constraint)] if constraint else []
                asked = ["install", "--disable-pip-version-check", "--progress-bar", "off", *limits, *packages]
                run([*pip, *asked], tell, "pip could not install what the export needs", {})
            (self.folder / _MARK).write_text(json.dumps(_made_of(packages, constraint)), encoding="utf-8")

    def remove(self) -> None:
        """Delete it, and first of all what says that it is whole."""
        (self.folder / _MARK).unlink(missing_ok=True)
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def _alone(self, what: str, wait: Callable[[], None]) -> AbstractContextManager[None]:
        """One of its locks, which all end with their process. They lie beside it, and are never deleted."""
        return hublock.alone(self.folder.parent, f"{self.folder.name}.{what}", wait)

    @contextmanager
    def _use(self) -> Iterator[None]:
        """Hold one of the locks that say that it is used: the first that nobody else holds."""
        with ExitStack() as held:
            for number in count():
                with suppress(_TakenError):
                    held.enter_context(self._alone(f"use-{number}", _refuse))
                    break
            yield

    def _uses(self) -> int:
        """How many processes ever used it at once."""
        return len([*(self.folder.parent / hublock.FOLDER).glob(f"{glob.escape(self.folder.name)}.use-*.lock")])


class _TakenError(Exception):
    """Another process holds the lock."""


def _refuse() -> None:
    raise _TakenError


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
