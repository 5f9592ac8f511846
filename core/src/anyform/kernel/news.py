"""What happens to models, told as it happens: to /runtime/events, to the metrics, to whoever else listens.

It decides nothing. Kinds: waiting, loading, progress, loaded, failed, unloaded, crashed, stuck, plugins, library.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

from anyform.contract.facts import fact

log = logging.getLogger("anyform")
KEPT = 512
"""Items that a listener who comes late, or again, can still be told."""


@fact
class Item:
    """One thing that happened. facts: JSON values, by kind."""

    number: int
    """1, 2, 3, ... since the start of this runtime."""
    time_s: float
    """Seconds since the epoch."""
    kind: str
    model: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


Listener = Callable[[Item], None]


class News:
    """Tells every listener, in order, in the thread in which it happens; so a listener must not block or raise."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._kept: deque[Item] = deque(maxlen=KEPT)
        self._listeners: list[Listener] = []

    def tell(self, kind: str, model: str = "", **facts: Any) -> None:
        """Something happened."""
        with self._lock:
            item = Item(number=next(self._numbers), time_s=time.time(), kind=kind, model=model, facts=facts)
            self._kept.append(item)
            for listener in self._listeners:
                try:
                    listener(item)
                except Exception:
                    log.exception("a listener failed at %s", kind)

    def listen(self, listener: Listener, after: int | None = None) -> Callable[[], None]:
        """Tell *listener* from now on, what is kept with a number over *after* first; call the result to leave."""
        with self._lock:
            for item in self._kept if after is not None else ():
                if not item.number <= (after or 0) <= self._kept[-1].number:  # who knows later ones knew another server
                    listener(item)
            self._listeners.append(listener)

        def leave() -> None:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return leave
