"""Brings a model from a hub into anyform's own folder: looks, checks the room, fetches, verifies, then shows it.

Files grow in `.incomplete/` beside their place, under names that say their content; so a pull that was killed goes on
where it was, and nothing that is not verified is ever a model.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from anyform.contract.errors import Fault
from anyform.contract.facts import Finding, Severity, fact
from anyform.contract.model import Stop
from anyform.kernel.files import FolderFiles
from anyform.kernel.plugins import Plugins
from anyform.sources import folder as own
from anyform.sources import hubchoice, hubcopy, hublock
from anyform.sources.hub import Hub, HubFile, Listing
from anyform.sources.hubchoice import Choice
from anyform.sources.hubdownload import Download, Sums, disk_fault, kept, short_of_space
from anyform.sources.hubfault import stopped
from anyform.sources.hubfiles import RemoteFiles
from anyform.sources.hublook import remote_path
from anyform.sources.hubmeter import Meter, PullState, Stage
from anyform.sources.hubname import Reference
from anyform.sources.recipe import Recipes

AT_ONCE = 4
TICK_S = 0.1
COPY = ".copy"
"""What a part is called while it is being copied."""
RESERVE = 16 << 20
"""Bytes of the disk that a pull leaves free."""

Watch = Callable[[PullState], None]
Bring = Callable[[str, Stop], str]


@fact
class Pulled:
    """What a pull came to."""

    name: str
    """What to call the model; the repository, for files that the user chose."""
    repository: str
    revision: str
    """The commit."""
    folder: Path
    files: tuple[str, ...]
    size_bytes: int
    fetched_bytes: int
    """What came over the network; 0 where all was here."""
    copied_bytes: int
    """What was taken from the Hugging Face cache instead."""
    seconds: float
    findings: tuple[Finding, ...] = ()
    """What the format's plugin remarks: a repository may hold a model that is damaged at its origin."""


@fact
class Wish:
    """What to pull: a model, or files that the user names."""

    reference: Reference
    include: tuple[str, ...] = ()
    """Patterns of names."""
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        """What to type after `anyform pull`."""
        named = [f"--file {name}" for name in self.names] + [f"--include '{pattern}'" for pattern in self.include]
        return " ".join([str(self.reference), *named])


def pull(
    hub: Hub,
    plugins: Plugins,
    home: Path,
    wish: Wish,
    *,
    order: Sequence[str] = (),
    cache: Path | None = None,
    stop: Stop | None = None,
    watch: Watch | None = None,
) -> Pulled:
    """Fetch what *wish* names into `home/owner/repo`; blocks. *watch* is told how far it is, several times a second.

    *order*: variants, preferred first. *cache*: the Hugging Face cache, whose files are copied instead of fetched.
    Raises what `Hub`, `choose` and `Download` do, DiskFull before anything is fetched, and Cancelled once *stop* is
    set.
    """
    began, stop = time.monotonic(), stop or Stop()
    meter = Meter(str(wish.reference))
    tell = watch or _ignore
    tell(meter.state())
    listing = hub.listing(wish.reference, stop)
    choice = chosen(hub, plugins, home, wish, listing, order)
    try:
        work = _Work(hub, listing, choice.files, own.repository_folder(home, listing.repository), meter, cache)

        def wait() -> None:
            meter.enter("waiting")
            work.measure()
            tell(meter.state())
            if stop.is_set():
                raise stopped(listing.repository)

        with hublock.alone(home, listing.repository, wait):
            work.fetch(stop, tell)
            Recipes(home).brought(work.folder, choice.files)  # still alone: who deletes hidden models lets it be
    except OSError as error:
        if isinstance(error, Fault):
            raise
        raise disk_fault(error, home) from error
    meter.enter("done")
    tell(meter.state())
    return Pulled(
        name=_name(wish, choice),
        repository=listing.repository,
        revision=listing.revision,
        folder=work.folder,
        files=choice.files,
        size_bytes=sum(listing.files[name].size for name in choice.files),
        fetched_bytes=meter.fetched,
        copied_bytes=meter.copied,
        seconds=time.monotonic() - began,
        findings=_findings(plugins, work.folder, choice),
    )


def _findings(plugins: Plugins, folder: Path, choice: Choice) -> tuple[Finding, ...]:
    if choice.match is None or not plugins.implements(choice.plugin, "validate"):
        return ()
    files = FolderFiles(folder, choice.files)
    try:
        return tuple(plugins.ask_one(choice.plugin, "validate", files=files, match=choice.match))
    except Fault as fault:
        return (Finding(code=fault.code, severity=Severity.WARNING, text=str(fault)),)


def chosen(hub: Hub, plugins: Plugins, home: Path, wish: Wish, listing: Listing, order: Sequence[str] = ()) -> Choice:
    """Which files of *listing* the wish means."""
    if wish.include or wish.names:
        return hubchoice.named(listing, wish.include, wish.names)
    return hubchoice.choose(plugins, RemoteFiles(hub, listing, remote_path(home, listing)), wish.reference, order)


class _Work:
    """The files of one pull."""

    def __init__(
        self, hub: Hub, listing: Listing, names: Sequence[str], folder: Path, meter: Meter, cache: Path | None
    ) -> None:
        self.hub, self.listing, self.names, self.folder, self.meter = hub, listing, tuple(names), folder, meter
        self.cache = cache
        self.incomplete = folder / own.INCOMPLETE
        self.total = sum(listing.files[name].size for name in names)

    def part(self, name: str) -> Path:
        """Where a file grows: named for it and its content, so that what is left of another content is never used."""
        file = self.listing.files[name]
        content = f"{file.digest or self.listing.revision}/{file.size}/{name}"
        return self.incomplete / f"{Path(name).name[:100]}.{hashlib.sha256(content.encode()).hexdigest()[:16]}.part"

    def measure(self) -> None:
        """Tell the meter what lies here, whoever fetched it."""
        done = sum(
            file.size if _size(self.folder / name) == file.size else kept(self.part(name), file.size)
            for name, file in ((name, self.listing.files[name]) for name in self.names)
        )
        self.meter.expect(self.total, len(self.names), done, 0)

    def fetch(self, stop: Stop, tell: Watch) -> None:
        """Fetch what is missing, verify it, put it in place and record it."""
        self.meter.enter("checking")
        self.folder.mkdir(parents=True, exist_ok=True)
        record = own.read_record(self.folder)
        here = {name: sha256 for name in self.names if (sha256 := self._verified(name, record, stop))}
        missing = [name for name in self.names if name not in here]
        if missing:
            come = self._bring(missing, stop, tell)
            self._place(come, record)
            here |= come
        else:
            self.meter.expect(self.total, len(self.names), self.total, len(here))
        self._record(here, record)

    def _bring(self, missing: Sequence[str], stop: Stop, tell: Watch) -> dict[str, str]:
        """Copy and fetch *missing* into their parts; name -> SHA-256."""
        held = {name: path for name in missing if (path := hubcopy.held(self.cache, self.listing, name))}
        for left in self.incomplete.glob(f"*{COPY}"):  # by a pull that was killed
            left.unlink()
        self._make_room(missing, held)
        self.incomplete.mkdir(exist_ok=True)
        come: dict[str, str] = {}
        if held:
            tell(self._enter("copying", missing, held))
            come = _Threads(self, held, lambda name, halt: self._copy(held[name], name, halt), stop, tell).run()
        rest = [name for name in missing if name not in come]
        if rest:
            tell(self._enter("downloading", rest))
            come |= _Threads(self, rest, self._download, stop, tell).run()
        return come

    def _enter(self, stage: Stage, missing: Sequence[str], held: Container[str] = ()) -> PullState:
        """Begin a stage with *missing* still to come."""
        left = self._to_come(missing, held)
        self.meter.expect(self.total, len(self.names), self.total - left, len(self.names) - len(missing))
        self.meter.enter(stage)
        return self.meter.state()

    def _to_come(self, missing: Sequence[str], held: Container[str]) -> int:
        """Bytes; of files that are *held* all, since a copy begins anew."""
        return sum(self.listing.files[name].size if name in held else self._left(name) for name in missing)

    def _copy(self, source: Path, name: str, stop: Stop) -> str:
        draft, part = self.part(name).with_suffix(COPY), self.part(name)
        sha256 = hubcopy.copied(source, draft, self.listing, name, self.meter.count_copied, stop)
        if sha256:
            draft.replace(part)
        return sha256

    def _download(self, name: str, stop: Stop) -> str:
        return Download(self.hub, self.listing, name, self.part(name), self.meter.count).fetch(stop)

    def _left(self, name: str) -> int:
        """Bytes still to fetch."""
        size = self.listing.files[name].size
        return size - kept(self.part(name), size)

    def _verified(self, name: str, record: Mapping[str, Any], stop: Stop) -> str:
        """The SHA-256 of a file that lies in its place and is what the hub has now; else ""."""
        file, path = self.listing.files[name], self.folder / name
        try:
            stat = path.stat()
        except OSError:
            return ""
        if stat.st_size != file.size:
            return ""
        known = _known(record, name)
        unchanged = known.get("complete") and known.get("mtime_ns") == stat.st_mtime_ns
        if unchanged and file.digest and file.digest in (known.get("sha256"), known.get("blob")):
            return str(known["sha256"])
        sums = Sums(file)
        with path.open("rb") as content:
            while block := content.read(1 << 20):
                sums.update(block)
                if stop.is_set():
                    raise stopped(self.listing.repository)
        return sums.sha256 if sums.agree else ""

    def _make_room(self, missing: Sequence[str], held: Container[str]) -> None:
        needed, free = self._to_come(missing, held), shutil.disk_usage(self.folder).free
        if needed + RESERVE > free:
            raise short_of_space(self.folder, needed, free, all(name in held for name in missing))

    def _place(self, fetched: Mapping[str, str], record: Mapping[str, Any]) -> None:
        """Move the verified files into their places; until all are there, the record calls them incomplete."""
        pending = {name: {**_facts(self.listing, name), "complete": False} for name in fetched}
        self._write(record, pending)
        for name in fetched:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            self.part(name).replace(self.folder / name)
        with suppress(OSError):
            self.incomplete.rmdir()

    def _record(self, here: Mapping[str, str], record: Mapping[str, Any]) -> None:
        facts = {
            name: {
                **_facts(self.listing, name),
                "complete": True,
                "sha256": sha256,
                "mtime_ns": (self.folder / name).stat().st_mtime_ns,
            }
            for name, sha256 in here.items()
        }
        recorded = {name: _known(record, name) for name in facts}
        same = all(recorded[name].get(key) == facts[name][key] for name in facts for key in ("complete", "mtime_ns"))
        if same and record.get("revision") == self.listing.revision:
            return
        self._write(record, facts)

    def _write(self, record: Mapping[str, Any], files: Mapping[str, Any]) -> None:
        own.write_record(
            self.folder,
            {
                "repository": self.listing.repository,
                "revision": self.listing.revision,
                "time": int(time.time()),
                "files": {**record.get("files", {}), **files},
            },
        )


class _Threads:
    """Brings several files at once, the small ones first. The first fault stops all."""

    def __init__(self, work: _Work, names: Iterable[str], bring: Bring, stop: Stop, tell: Watch) -> None:
        """*bring*: (name, stop) -> SHA-256, "" for a file that could not be brought so."""
        self._work, self._bring, self._tell, self._stop = work, bring, tell, stop
        self._halt = Stop()
        self._names: SimpleQueue[str] = SimpleQueue()
        ordered = sorted(names, key=lambda name: work.listing.files[name].size)
        for name in ordered:
            self._names.put(name)
        self._sums: dict[str, str] = {}
        self._faults: list[BaseException] = []
        count = min(AT_ONCE, len(ordered))
        self._threads = [threading.Thread(target=self._run, name="anyform-pull", daemon=True) for _ in range(count)]

    def run(self) -> dict[str, str]:
        """Name -> SHA-256 of the files that were brought."""
        self._stop.when_set(self._halt.set)
        for thread in self._threads:
            thread.start()
        try:
            for thread in self._threads:
                while thread.is_alive():
                    thread.join(TICK_S)
                    self._tell(self._work.meter.state())
        finally:
            self._halt.set()
            for thread in self._threads:
                thread.join(self._work.hub.silence_s)
        if self._faults:
            raise self._faults[0]
        if self._stop.is_set():
            raise stopped(self._work.listing.repository)
        return self._sums

    def _run(self) -> None:
        try:
            while not self._halt.is_set():
                name = self._names.get_nowait()
                sha256 = self._bring(name, self._halt)
                if sha256:
                    self._sums[name] = sha256
                    self._work.meter.finish_file()
        except Empty:
            return
        except BaseException as fault:
            self._faults.append(fault)
            self._halt.set()


def _known(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """What the record says of a file; a record may have been edited by hand."""
    said = record.get("files", {}).get(name)
    return said if isinstance(said, Mapping) else {}


def _facts(listing: Listing, name: str) -> dict[str, Any]:
    """What the record says of a file, beside its checksum."""
    file: HubFile = listing.files[name]
    return {"size": file.size, "blob": file.blob, "revision": listing.revision, "time": int(time.time())}


def _name(wish: Wish, choice: Choice) -> str:
    """What to type to use it."""
    if choice.match is None or len(choice.variants) < 2:
        return wish.reference.repository
    return f"{wish.reference.repository}:{choice.match.variant}" if choice.match.variant else wish.reference.repository


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _ignore(state: PullState) -> None:
    return None
