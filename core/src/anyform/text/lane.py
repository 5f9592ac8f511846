"""Threads that compute batches beside each other, and how many of a CPU's cores each of them may use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

_MOST = 8
"""Lanes: beyond so many they wait for Python's lock more than they compute."""


class Lanes:
    """Runs up to so many calls at once; each gets its share of the cores.

    Two batches on one core each take less time than one after the other on two cores: a small network's matrices are
    too small to share, and where anything else runs on the machine, each of some hundred parts of a step would wait
    for whichever core is late. So the cores go to batches first; one beside which nothing waits gets several.
    """

    def __init__(self, threads: int, tokens: int, use: Callable[[int], None] | None = None) -> None:
        """*threads*: of all lanes together; 1: calls run in the caller's own thread. *tokens*: of all that runs.

        *use*: has the engine use so many threads for what the calling thread computes next; None: it cannot be told.
        """
        self._threads = threads
        self._tokens = tokens
        self._use = use
        self._count = min(threads, _MOST)
        self._pool = ThreadPoolExecutor(self._count, "anyform-encode") if self._count > 1 else None
        self._changed = threading.Condition()
        self._running = self._taken = 0

    def wait(self) -> None:
        """Until a lane is free."""
        with self._changed:
            self._changed.wait_for(lambda: self._running < self._count)

    def run(
        self, call: Callable[[], None], tokens: int, *, more: bool, lost: Callable[[Exception], None] | None = None
    ) -> None:
        """Do *call* in a free lane, once its *tokens* fit: many are alone.

        *more*: whether another call follows at once. *lost*: is told what *call* raises in a thread of its own, where
        nobody else would learn of it; None: it raises nothing.
        """
        if self._pool is None:
            call()
            return
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(tokens))
            self._running += 1
            self._taken += tokens
            others = more and self._taken < self._tokens
            share = self._threads // min(self._count, self._running + others)
        try:
            self._pool.submit(self._work, call, tokens, share, lost)
        except BaseException:
            self._leave(tokens)
            raise

    def _has_room(self, tokens: int) -> bool:
        return self._running < self._count and (not self._running or self._taken + tokens <= self._tokens)

    def _work(
        self, call: Callable[[], None], tokens: int, share: int, lost: Callable[[Exception], None] | None
    ) -> None:
        try:
            if self._use is not None:
                self._use(share)
            call()
        except Exception as error:
            if lost is None:
                raise
            lost(error)
        finally:
            self._leave(tokens)

    def _leave(self, tokens: int) -> None:
        with self._changed:
            self._running -= 1
            self._taken -= tokens
            self._changed.notify_all()

    def close(self) -> None:
        """Wait for what runs."""
        if self._pool is not None:
            self._pool.shutdown()
