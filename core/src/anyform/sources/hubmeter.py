"""How far a pull is: bytes, rate and time left. Safe between threads."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Literal

from anyform.contract.facts import fact
from anyform.kernel.units import size

WINDOW_S = 8.0
"""The rate is that of the last so many seconds."""

Stage = Literal["looking", "waiting", "checking", "copying", "downloading", "done", "failed", "cancelled"]


@fact
class PullState:
    """One moment of a pull."""

    model: str
    """The name to call it by, once it is here."""
    stage: Stage
    """waiting: another process pulls from the same repository, and this one goes on where that one ends.
    checking: what is here already is compared with the hub. copying: what the Hugging Face cache holds is taken."""
    done_bytes: int = 0
    """Of `total_bytes`, what is here, from earlier tries too."""
    total_bytes: int = 0
    fetched_bytes: int = 0
    """What came over the network in this pull."""
    copied_bytes: int = 0
    """What was taken from the Hugging Face cache instead."""
    rate: float = 0.0
    """Bytes a second."""
    left_s: float | None = None
    """Seconds until it is done at this rate; None while that cannot be said."""
    files_done: int = 0
    files: int = 0


def sentence(state: PullState) -> str:
    """One moment of a pull for a log: `owner/repo: downloading, 42% of 1.2 GiB, 35.0 MiB/s, 20 s left`."""
    share = 100 * state.done_bytes / state.total_bytes if state.total_bytes else 0.0
    parts = [
        f"{state.model}: {state.stage}",
        f"{share:.0f}% of {size(state.total_bytes)}" if state.total_bytes else "",
        f"{size(state.rate)}/s" if state.rate else "",
        f"{state.left_s:.0f} s left" if state.left_s is not None else "",
    ]
    return ", ".join(part for part in parts if part)


class Meter:
    """Counts what comes in."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._lock = threading.Lock()
        self._stage: Stage = "looking"
        self._done = self._total = self._fetched = self._copied = self._files = self._files_done = 0
        self._marks: deque[tuple[float, int]] = deque()

    def enter(self, stage: Stage) -> None:
        with self._lock:
            self._stage = stage

    def expect(self, total: int, files: int, done: int, files_done: int) -> None:
        """What there is to fetch, and how much of it is here."""
        with self._lock:
            self._total, self._files, self._done, self._files_done = total, files, done, files_done

    def count(self, came: int) -> None:
        """*came* more bytes; negative: so many were thrown away."""
        with self._lock:
            self._done += came
            self._fetched += max(0, came)

    def count_copied(self, came: int) -> None:
        """*came* more bytes without the network; negative: so many were thrown away."""
        with self._lock:
            self._done += came
            self._copied += came

    def finish_file(self) -> None:
        with self._lock:
            self._files_done += 1

    @property
    def fetched(self) -> int:
        return self._fetched

    @property
    def copied(self) -> int:
        return self._copied

    def state(self) -> PullState:
        with self._lock:
            rate = self._rate(time.monotonic())
            left = self._total - self._done
            return PullState(
                model=self._model,
                stage=self._stage,
                done_bytes=self._done,
                total_bytes=self._total,
                fetched_bytes=self._fetched,
                copied_bytes=self._copied,
                rate=rate,
                left_s=left / rate if rate and self._stage == "downloading" else None,
                files_done=self._files_done,
                files=self._files,
            )

    def _rate(self, now: float) -> float:
        marks = self._marks
        marks.append((now, self._fetched))
        while len(marks) > 2 and now - marks[0][0] > WINDOW_S:
            marks.popleft()
        (then, before), (last, after) = marks[0], marks[-1]
        return (after - before) / (last - then) if last > then else 0.0
