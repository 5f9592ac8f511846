"""What a piece of code does to the disk, as Python's audit events tell: https://docs.python.org/3/library/audit_events.html

Native code that opens files by itself goes unseen.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = frozenset(
    f"os.{name}"
    for name in ("chmod", "chown", "link", "mkdir", "remove", "rename", "rmdir", "symlink", "truncate", "utime")
)

_seen: list[str] | None = None
"""What has been seen while somebody watches; None: nobody does."""


def changes(call: Callable[[], Any]) -> list[str]:
    """What *call* did to the disk while it ran, such as `os.mkdir /a/b`; of other threads too."""
    global _seen
    _install()
    seen: list[str] = []
    _seen = seen
    try:
        call()
    finally:
        _seen = None
    return seen


@cache
def _install() -> None:
    """A hook cannot be taken away again, so there is one, which mostly sleeps."""
    sys.addaudithook(_hear)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is None:
        return
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES
    if (writes or event in CHANGES) and "__pycache__" not in str(arguments[0]):
        _seen.append(f"{event} {arguments[0]}")
