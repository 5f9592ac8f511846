"""Asks format plugins about files, and remembers each answer for as long as the files stay as they are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Protocol, TypeVar

from anyform.contract.facts import BackendInfo, Finding, FormatMatch, Metadata
from anyform.kernel.entry import Entry
from anyform.kernel.files import FolderFiles
from anyform.kernel.plugins import Plugins
from anyform.sources import detect

THREADS = 4
"""More wait for each other: what plugins do is mostly Python."""
FEW = 16
"""Up to so many things are done one after the other: threads would cost more."""
ELSEWHERE = "_elsewhere"
"""How codes of findings end that hang on files beside the model's: they are not remembered, for those may come."""
SETTLED = ("detect_format", "validate")
"""Hooks that are given settings of this machine: what they answer holds for as long as its backends state the same."""

T = TypeVar("T")
U = TypeVar("U")


class Memory(Protocol):
    """What outlives the process. Losing it costs time only, so neither method raises."""

    def recall(self, question: str, plugin: str, about: str, stamp: str) -> Any:
        """What was remembered under the same *stamp*; None for nothing."""

    def remember(self, question: str, plugin: str, about: str, stamp: str, answer: Any) -> None:
        """*answer*: facts and JSON values. *plugin*: whose answer it is; empty: all of them had a say."""

    def renew(self) -> None:
        """The plugins may be others than before: what those said that changed counts no more."""

    def close(self) -> None:
        """Nothing more will be asked."""


class Reader:
    """Safe between threads; two that ask the same at once may both do the work."""

    def __init__(self, plugins: Plugins, memory: Memory | None = None) -> None:
        self.plugins, self.memory = plugins, memory
        self._known: dict[tuple[str, str, str], tuple[str, Any]] = {}
        self._marks: dict[str, str] | None = None

    def matches(self, files: FolderFiles) -> list[detect.Found]:
        """`detect.matches`, remembered."""
        about = "\0".join((str(files.path), files.target or "", *files.only))
        found = self.remembered("detect_format", "", about, files.stamp, lambda: detect.matches(self.plugins, files))
        return [(plugin, match) for plugin, match in found]

    def metadata(self, entry: Entry, plugin: str, match: FormatMatch) -> Metadata:
        """What one form of the model says of itself. Raises PluginFault."""
        found: Metadata = self._asker(entry, plugin, match)("extract_metadata")
        return found

    def findings(self, entry: Entry, plugin: str, match: FormatMatch) -> list[Finding]:
        """What validation of one form remarks. Raises PluginFault."""
        return list(self._asker(entry, plugin, match)("validate"))

    def model(self, entry: Entry, plugin: str, match: FormatMatch) -> tuple[FormatMatch, Metadata, list[Finding]]:
        """One form of the model with both, its files listed and looked at once. Raises PluginFault."""
        ask = self._asker(entry, plugin, match)
        return match, ask("extract_metadata"), list(ask("validate"))

    def forget(self) -> None:
        """Ask anew: the plugins are others. What is being asked now is not remembered."""
        self._known = {}
        self.look_around()
        if self.memory is not None:
            self.memory.renew()

    def look_around(self) -> None:
        """See anew what backends state of this machine."""
        self._marks = None

    def together(self, work: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
        """`map`, by several threads where there is much to do."""
        return together(work, items)

    def close(self) -> None:
        if self.memory is not None:
            self.memory.close()

    def _asker(self, entry: Entry, plugin: str, match: FormatMatch) -> Callable[[str], Any]:
        """Asks hooks about one form of the model, of the same files."""
        about = "\0".join((entry.path, match.entry, match.format))
        stamp = stamp_of(entry.path, match.files or (match.entry,))
        files = cache(entry.files)

        def ask(hook: str) -> Any:
            return self.remembered(
                hook, plugin, about, stamp, lambda: self.plugins.ask_one(plugin, hook, files=files(), match=match)
            )

        return ask

    def remembered(self, question: str, plugin: str, about: str, stamp: str, ask: Callable[[], Any]) -> Any:
        """The answer to *question* about *about*: what was remembered under *stamp*, else what *ask* returns.

        *plugin*: whose answer it is; empty: nobody's, or everybody's. *stamp*: what changes with the files; empty:
        they are not on this disk, so nothing outlives the process.
        """
        stamp += self._mark(plugin) if stamp and question in SETTLED else ""
        answers = self._known
        known = answers.get((question, plugin, about))
        if known is not None and known[0] == stamp:
            return known[1]
        memory = self.memory if stamp else None
        answer = memory.recall(question, plugin, about, stamp) if memory is not None else None
        if answer is None:
            answer = ask()
            if question == "validate" and any(one.code.endswith(ELSEWHERE) for one in answer or ()):
                return answer
            if memory is not None and answers is self._known:
                memory.remember(question, plugin, about, stamp, answer)
        answers[question, plugin, about] = (stamp, answer)
        return answer

    def _mark(self, plugin: str) -> str:
        """What *plugin* states of this machine, of which its answers may hang too; empty: it states nothing. Without
        a plugin: what all of them do.
        """
        marks = self._marks  # which another thread may clear meanwhile
        if marks is None:
            stated, tables = dict(self.plugins.ask_all("list_backends")), self.plugins.tables
            asked = [name for name in self.plugins.names() if any(self.plugins.implements(name, h) for h in SETTLED)]
            marks = {name: marked(stated.get(name, ()), tables.get(name, {})) for name in asked}
            self._marks = marks
        return marks.get(plugin, "") if plugin else "".join(mark for _, mark in sorted(marks.items()))


def marked(backends: object, table: Mapping[str, Any]) -> str:
    """What changes when that changes which backends say of the machine, or the user in *table*; empty where nobody
    says anything of it. *backends*: a plugin's answer, which may be wrong: whoever chooses a backend is told of that.
    """
    known = [one for one in backends if isinstance(one, BackendInfo)] if isinstance(backends, list | tuple) else []
    said = [
        (one.name, one.trouble, one.suggestions, sorted(map(repr, one.options.items())), _times(one)) for one in known
    ]
    told = [*(one for one in said if any(one[1:])), *table.items()]
    return f"|{hashlib.sha256(repr(told).encode()).hexdigest()[:16]}" if told else ""


def _times(backend: BackendInfo) -> list[str]:
    """When the files were written that its options name, such as a library that may be replaced by a newer one."""
    paths = (value for value in backend.options.values() if isinstance(value, str) and os.path.isabs(value))
    return [stamp_of("", (path,)) for path in paths if os.path.isfile(path)]


def stamp_of(folder: str, names: tuple[str, ...]) -> str:
    """Sizes and times of the files; empty when one cannot be seen."""
    marks = []
    for name in names:
        try:
            stat = os.stat(os.path.join(folder, name))
        except OSError:
            return ""
        marks.append(f"{name}:{stat.st_size}:{stat.st_mtime_ns}")
    return "|".join(marks)


def together(work: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
    """`map`, by several threads where there is much to do."""
    items = list(items)
    if len(items) <= FEW:
        yield from map(work, items)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(THREADS, thread_name_prefix="anyform-survey") as threads:
        yield from threads.map(work, items)
