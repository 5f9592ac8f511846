"""The engine's thread for speech: requests take turns, a window each, and every step looks who wants no more."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from anyform.contract.errors import Area, Fault
from anyform.text.enginethread import EngineThread
from anyform_hf_transformers.transcriber import Hearing, Steps, Transcriber


class HearingFailed(Fault):
    """torch could not compute a step; its request is lost, the model goes on."""

    code = "hf_transformers.hearing_failed"
    area = Area.BACKEND


class SpeechLoop(EngineThread[Hearing]):
    """Runs hearings; each is told None once it is over."""

    def __init__(self, transcriber: Transcriber, parallel: int) -> None:
        """*parallel*: how many take turns; the others wait."""
        self._transcriber = transcriber
        self._parallel = parallel
        self._running: deque[tuple[Hearing, Steps]] = deque()
        self._waiting: deque[Hearing] = deque()
        super().__init__()

    def _take(self, work: Hearing) -> None:
        self._waiting.append(work)

    def _busy(self) -> bool:
        return bool(self._running or self._waiting)

    def _fail(self, fault: Fault) -> None:
        for hearing in (*(one for one, _ in self._running), *self._waiting):
            hearing.told.put(fault)
        self._running.clear()
        self._waiting.clear()

    def _free(self) -> None:
        self._transcriber.network.free()

    def _step(self) -> None:
        self._sweep()
        while self._waiting and len(self._running) < self._parallel:
            hearing = self._waiting.popleft()
            self._running.append((hearing, self._transcriber.steps(hearing)))
        if not self._running:
            return
        hearing, steps = self._running[0]
        try:
            turn = next(steps)
        except StopIteration:
            self._running.popleft()
            hearing.told.put(None)
        except (RuntimeError, IndexError, ValueError) as error:
            self._running.popleft()
            hearing.told.put(_failed(error))
        else:
            self._running.rotate(-1 if turn else 0)

    def _sweep(self) -> None:
        """End what was cancelled, running or waiting."""
        wanted: Callable[[Hearing], bool] = lambda hearing: not (hearing.stop.is_set() or hearing.dropped)  # noqa: E731
        gone = [one for one in (*(one for one, _ in self._running), *self._waiting) if not wanted(one)]
        if gone:
            self._running = deque(one for one in self._running if wanted(one[0]))
            self._waiting = deque(one for one in self._waiting if wanted(one))
        for hearing in gone:
            hearing.cancelled = True
            hearing.told.put(None)


def _failed(error: Exception) -> HearingFailed:
    return HearingFailed(
        f"torch could not compute this request: {type(error).__name__}: {error}.",
        "Try again; if it happens again, unload the model and load it again.",
    )
