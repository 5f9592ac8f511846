"""Keeps native memory from being freed under a thread that is reading it."""

from __future__ import annotations

import threading
from types import TracebackType

from anyform.contract.errors import Closed


class Guard:
    """`with guard:` around each use by any thread; `shut` waits for the last and refuses the next."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._users = 0
        self._shut = False

    def __enter__(self) -> None:
        with self._condition:
            if self._shut:
                raise Closed("the model was closed.", "Load it again.")
            self._users += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._condition:
            self._users -= 1
            if not self._users:
                self._condition.notify_all()

    def shut(self) -> None:
        """Return when nobody is inside and nobody can enter any more. Idempotent."""
        with self._condition:
            self._shut = True
            self._condition.wait_for(lambda: not self._users)
