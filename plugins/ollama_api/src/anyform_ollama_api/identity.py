"""What a model is called, which one it is, and since when: the same in every list."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

from anyform.dialect import Derived, Entry, Recipe

LATEST = ":latest"
UNSAID = ("name", "modified_s", "folder", "where", "base")
"""What of a recipe does not change which model it is: copies have the digest of what they were copied from."""
NEVER = timedelta(seconds=(2**63 - 1) // 10**9)
"""Go's longest time, which Ollama adds to now for a model that stays."""


def called(name: str) -> str:
    """*name* with a tag, as Ollama's lists have it."""
    return name if ":" in name.rpartition("/")[2] else name + LATEST


def digest(entry: Entry) -> str:
    """64 hexadecimal digits that change when the model's files change, or what it was made of.

    Not of the files' bytes, which would have to be read, but of what is known of them: their digests where the store
    knows these, else name, size and time.
    """
    told: dict[str, Any] = {"form": [entry.match.format, entry.match.entry, entry.match.variant]}
    told["files"] = [[name, entry.digests.get(name) or _stamp(entry, name)] for name in entry.match.files]
    if isinstance(entry, Derived):
        plain = Recipe(name="").as_dict()
        recipe = {name: value for name, value in entry.recipe.as_dict().items() if value != plain[name]}
        told |= {name: value for name, value in recipe.items() if name not in UNSAID}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode("ascii")).hexdigest()


def _stamp(entry: Entry, name: str) -> list[int]:
    try:
        stat = os.stat(os.path.join(entry.path, name))
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns]


def modified_s(entry: Entry) -> float:
    """When it was made, or its files were last changed; seconds since the epoch."""
    if isinstance(entry, Derived):
        return entry.recipe.modified_s
    try:
        return os.stat(os.path.join(entry.path, entry.match.entry)).st_mtime
    except OSError:
        return 0.0


def moment(seconds: float) -> str:
    """RFC 3339, in UTC."""
    return written(datetime.fromtimestamp(seconds, UTC))


def written(moment: datetime) -> str:
    """RFC 3339, in UTC."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def expiry(left_s: float | None) -> str:
    """The moment in *left_s* seconds; None: never."""
    now = datetime.now(UTC)
    return written(now + (NEVER if left_s is None else timedelta(seconds=max(0.0, left_s))))
