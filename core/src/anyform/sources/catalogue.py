"""What was read of models, kept in one SQLite file: by path, and for as long as sizes, times and plugins stay the same.

Nothing depends on it: a file that is damaged is begun anew, one that is locked or cannot be written is done without;
either is said once.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from anyform.contract.facts import Evidence, Finding, FormatMatch, Metadata, Severity
from anyform.kernel.fingerprint import fingerprint
from anyform.kernel.plugins import Plugins

SCHEMA = 1
FILE = "catalogue.sqlite"
WAIT_S = 0.5
"""How long another process may hold the file."""
MOST = 50_000
"""Answers that are kept; beyond it the oldest go."""
BATCH = 500
"""Answers that may be lost with the process."""
MANY = 32
"""Who asks so often wants to know most of it: then all is read at once, which is quicker than one by one."""

_CREATE = """
CREATE TABLE answer (question TEXT, plugin TEXT, about TEXT, stamp TEXT, answer TEXT,
                     PRIMARY KEY (question, plugin, about));
"""
_FACTS: Mapping[str, Any] = {cls.__name__: cls for cls in (FormatMatch, Finding, Metadata)}

log = logging.getLogger("anyform")
Key = tuple[str, str, str]
Row = tuple[str, str, str, str, str]


class Catalogue:
    """A `Memory` in a file. Safe between threads and processes; the last writer of an answer wins."""

    def __init__(self, file: Path, plugins: Plugins) -> None:
        """*file*: made when something is first remembered. *plugins*: an answer holds for the very same ones."""
        self._file, self._plugins = file, plugins
        self._prints: Mapping[str, str] = {}
        self._all = ""
        self.renew()
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._lost = False
        self._fresh: dict[Key, Row] = {}
        self._asked = 0
        self._read: dict[Key, tuple[str, str]] | None = None

    def renew(self) -> None:
        self._prints = {
            record.name: fingerprint(record.module, record.version) for record in self._plugins.records if record.sound
        }
        self._all = "|".join(f"{name} {mark}" for name, mark in sorted(self._prints.items()))

    def recall(self, question: str, plugin: str, about: str, stamp: str) -> Any:
        with self._lock:
            row = self._select((question, plugin, _written(about)))
        if row is None or row[0] != self._stamp(plugin, stamp):
            return None
        try:
            return _revived(json.loads(row[1]))
        except (ValueError, TypeError, KeyError):
            return None

    def remember(self, question: str, plugin: str, about: str, stamp: str, answer: Any) -> None:
        try:
            text = json.dumps(answer, default=_plain, separators=(",", ":"))
        except (TypeError, ValueError):  # what a plugin says is not JSON: it is asked again next time
            return
        with self._lock:
            key = (question, plugin, _written(about))
            self._fresh[key] = (*key, self._stamp(plugin, stamp), text)
            if len(self._fresh) >= BATCH:
                self._write()

    def close(self) -> None:
        with self._lock:
            self._write()
            if self._database is not None:
                self._database.close()
                self._database = None
            self._read = None

    def _stamp(self, plugin: str, stamp: str) -> str:
        return f"{self._prints.get(plugin, '') if plugin else self._all}\n{stamp}"

    def _select(self, key: Key) -> tuple[str, str] | None:
        if self._read is not None:
            return self._read.pop(key, None)
        database = self._open()
        if database is None:
            return None
        self._asked += 1
        try:
            if self._asked > MANY:
                rows = database.execute("SELECT question, plugin, about, stamp, answer FROM answer")
                self._read = {(row[0], row[1], row[2]): (row[3], row[4]) for row in rows}
                return self._read.pop(key, None)
            query = "SELECT stamp, answer FROM answer WHERE question = ? AND plugin = ? AND about = ?"
            row: tuple[str, str] | None = database.execute(query, key).fetchone()
            return row
        except sqlite3.Error as error:
            self._give_up(error)
            return None

    def _write(self) -> None:
        rows, self._fresh = list(self._fresh.values()), {}
        database = self._open(make=True) if rows else None
        if database is None:
            return
        try:
            with database:
                database.executemany("INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?, ?)", rows)
                database.execute(
                    "DELETE FROM answer WHERE rowid <= (SELECT rowid FROM answer ORDER BY rowid DESC LIMIT 1 OFFSET ?)",
                    (MOST,),
                )
        except sqlite3.Error as error:
            self._give_up(error)

    def _open(self, make: bool = False) -> sqlite3.Connection | None:
        """The database; None where there is none yet, or it is done without."""
        if self._database is not None or self._lost:
            return self._database
        if not make and not self._file.exists():
            return None
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._database = _connected(self._file)
            except sqlite3.OperationalError:  # locked, or not to be opened: nothing says that it is damaged
                raise
            except sqlite3.DatabaseError as error:
                log.warning("%s is damaged and begun anew: %s.", self._file, error)
                self._file.unlink(missing_ok=True)
                self._database = _connected(self._file)
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)
        return self._database

    def _give_up(self, error: Exception) -> None:
        if not self._lost:
            log.warning("%s is not used, so models are read anew: %s.", self._file, error)
        self._lost = True
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
        self._database = None


def _connected(file: Path) -> sqlite3.Connection:
    """The database in *file*, of this schema. Raises sqlite3.Error."""
    database = sqlite3.connect(file, timeout=WAIT_S, check_same_thread=False)
    try:
        database.execute("PRAGMA synchronous = OFF")  # a power cut costs time, not truth
        if _schema(database) != SCHEMA:
            with database:
                database.execute("BEGIN IMMEDIATE")
                if _schema(database) != SCHEMA:  # another process may have made it while this one waited
                    database.execute("DROP TABLE IF EXISTS answer")
                    database.execute(_CREATE)
                    database.execute(f"PRAGMA user_version = {SCHEMA}")
    except sqlite3.Error:
        database.close()
        raise
    return database


def _schema(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _plain(value: Any) -> Any:
    if type(value).__name__ in _FACTS:
        return {"$": type(value).__name__, **{field.name: getattr(value, field.name) for field in fields(value)}}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def _revived(value: Any) -> Any:
    """Facts out of JSON. Lists that are a fact's own fields are tuples again; within mappings they stay lists."""
    if isinstance(value, list):
        return [_revived(item) for item in value]
    if not isinstance(value, dict) or "$" not in value:
        return value
    cls = _FACTS[value.pop("$")]
    fields: dict[str, Any] = {name: tuple(item) if isinstance(item, list) else item for name, item in value.items()}
    if cls is FormatMatch:
        fields["evidence"] = Evidence(fields["evidence"])
    if cls is Finding:
        fields["severity"] = Severity(fields["severity"])
    return cls(**fields)


def _written(path: str) -> str:
    """*path* as SQLite can keep it: bytes of a name that are no UTF-8 are spelled."""
    return path.encode("utf-8", "backslashreplace").decode()
