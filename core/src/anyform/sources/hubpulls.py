"""The pulls of one process: each model once, watched by as many as like, and stopped by name."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from anyform.contract.errors import Fault, Overloaded
from anyform.contract.model import Stop
from anyform.kernel.plugins import Plugins
from anyform.kernel.units import size
from anyform.sources.hub import Hub
from anyform.sources.hubfault import Cancelled, HubFault
from anyform.sources.hublook import RemoteEntry, look
from anyform.sources.hubmeter import PullState, Stage, sentence
from anyform.sources.hubname import Reference
from anyform.sources.hubpull import Pulled, Wish, pull

AT_ONCE = 8
KEPT = 32
"""Ended pulls that are still listed."""
LOGGED_S = 10.0
"""How often the log is told how far a pull is; each stage is told besides."""

log = logging.getLogger("anyform.hub")


class Running:
    """One pull in a thread of its own."""

    def __init__(self, wish: Wish, work: Callable[[Stop, Callable[[PullState], None]], Pulled]) -> None:
        self.wish = wish
        self.id = f"{random.getrandbits(40):010x}"
        """Random; tells this pull from an earlier one of the same."""
        self.began_s = time.time()
        """Seconds since the epoch."""
        self.ended_s: float | None = None
        self.state = PullState(model=str(wish.reference), stage="looking")
        self.pulled: Pulled | None = None
        self.fault: Fault | None = None
        self.lasting = False
        """Whether it goes on when nobody watches it."""
        self.watchers = 0
        """How many it goes on for, if it is not lasting."""
        self._work = work
        self._stop = Stop()
        self._news = threading.Condition()
        self._waiting: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._run, name="anyform-pull", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        return self.pulled is not None or self.fault is not None

    @property
    def stopping(self) -> bool:
        """Whether it was asked to end."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Ask it to end; what has come is kept."""
        self._stop.set()

    def states(self) -> Iterator[PullState]:
        """How far it is, whenever that changes, until it has ended."""
        seen: PullState | None = None
        ended = False
        while not ended:
            seen, ended = self._next(seen)
            yield seen

    def when_ended(self, call: Callable[[], None]) -> None:
        """Have *call* called once the pull has ended, from its thread; at once if it has."""
        with self._news:
            if not self.ended:
                self._waiting.append(call)
                return
        call()

    def result(self) -> Pulled:
        """What it came to; blocks. Raises the fault that ended it."""
        with self._news:
            self._news.wait_for(lambda: self.ended)
        if self.pulled is None:
            assert self.fault is not None
            raise self.fault
        return self.pulled

    def _next(self, seen: PullState | None) -> tuple[PullState, bool]:
        """The first state after *seen*, and whether it is the last."""
        with self._news:
            self._news.wait_for(lambda: self.state is not seen or self.ended)
            return self.state, self.ended

    def _run(self) -> None:
        try:
            pulled = self._work(self._stop, self._tell)
        except Fault as fault:
            self._end(None, fault)
        except Exception as error:
            self._end(None, HubFault(f"the pull failed: {type(error).__name__}: {error}.", "This is a bug in anyform."))
        else:
            self._end(pulled, None)

    def _tell(self, state: PullState) -> None:
        with self._news:
            self.state = state
            self._news.notify_all()

    def _end(self, pulled: Pulled | None, fault: Fault | None) -> None:
        from dataclasses import replace

        stage: Stage = "done" if pulled else "cancelled" if isinstance(fault, Cancelled) else "failed"
        with self._news:
            self.ended_s = time.time()
            self.state = replace(self.state, stage=stage, left_s=None)
            self.pulled, self.fault = pulled, fault
            waiting, self._waiting = self._waiting, []
            self._news.notify_all()
        for call in waiting:
            call()


class Pulls:
    """Starts, joins and stops pulls. Safe between threads."""

    def __init__(
        self,
        hub: Hub,
        plugins: Plugins,
        home: Path,
        order: Sequence[str] = (),
        *,
        cache: Path | None = None,
        on_request: bool = False,
        arrived: Callable[[], None] | None = None,
    ) -> None:
        """*cache*: the Hugging Face cache, to copy from. *on_request*: whether a request for a model that is not here
        may start a pull. *arrived*: called after each pull that brought something.
        """
        self.hub, self.on_request = hub, on_request
        self._plugins, self._home, self._order, self._arrived = plugins, home, tuple(order), arrived
        self._cache = cache
        self._lock = threading.Lock()
        self._known: dict[str, Running] = {}

    def start(self, wish: Wish, lasting: bool = True) -> Running:
        """The pull of *wish*: the one that runs already, else a new one. Raises Overloaded.

        Not *lasting*: for a watcher who calls `leave`; it ends with the last of these, unless one wants it to last.
        """
        with self._lock:
            running = self._running(wish)
            running.lasting |= lasting
            running.watchers += not lasting
            return running

    def leave(self, running: Running) -> None:
        """One who started it for as long as it is watched watches no longer."""
        with self._lock:
            running.watchers -= 1
            if not (running.watchers or running.lasting or running.ended):
                running.stop()

    def _running(self, wish: Wish) -> Running:
        """One that was asked to end is let be: a new one waits for its lock, and goes on where it stopped."""
        running = self._known.get(str(wish))
        if running is None or running.ended or running.stopping:
            busy = sum(not one.ended for one in self._known.values())
            if busy >= AT_ONCE:
                raise Overloaded(f"{busy} pulls run already.", "Try again when one has ended.", retry_after_s=30)
            self._known.pop(str(wish), None)
            self._known[str(wish)] = running = Running(wish, lambda stop, tell: self._pull(wish, stop, tell))
            self._forget()
        return running

    def all(self) -> list[Running]:
        """Those that run, and the last that have ended, in the order in which they began."""
        with self._lock:
            return list(self._known.values())

    def look(self, reference: Reference) -> RemoteEntry:
        """The model that *reference* names, where it lies. Raises what `hublook.look` does."""
        return look(self.hub, self._plugins, self._home, reference, self._order)

    def cancel(self, model: str) -> list[Running]:
        """Stop all running pulls of *model*, as `Reference` writes it; which they were."""
        found = [one for one in self.all() if str(one.wish.reference) == model and not one.ended]
        for one in found:
            one.stop()
        return found

    def close(self) -> None:
        """Stop all."""
        for one in self.all():
            one.stop()

    def _pull(self, wish: Wish, stop: Stop, tell: Callable[[PullState], None]) -> Pulled:
        told = _Logged(tell)
        try:
            pulled = pull(
                self.hub, self._plugins, self._home, wish,
                order=self._order, cache=self._cache, stop=stop, watch=told.tell,
            )  # fmt: skip
        except Fault as fault:
            log.warning("%s is not pulled: %s", wish, fault.message)
            raise
        log.info("%s is pulled: %s in %.0f s", wish, size(pulled.size_bytes), pulled.seconds)
        if self._arrived is not None:
            self._arrived()
        return pulled

    def _forget(self) -> None:
        ended = [key for key, one in self._known.items() if one.ended]
        for key in ended[: max(0, len(ended) - KEPT)]:
            del self._known[key]


class _Logged:
    """Passes on how far a pull is, and tells the log from time to time."""

    def __init__(self, tell: Callable[[PullState], None]) -> None:
        self._tell = tell
        self._stage = ""
        self._next = 0.0

    def tell(self, state: PullState) -> None:
        now = time.monotonic()
        if state.stage not in ("looking", "done") and (state.stage != self._stage or now >= self._next):
            log.info("pulling %s", sentence(state))
            self._stage, self._next = state.stage, now + LOGGED_S
        self._tell(state)
