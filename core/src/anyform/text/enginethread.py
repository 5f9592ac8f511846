"""The one thread that may touch an engine, and how others hand it work, close it and learn of its end."""

from __future__ import annotations

import atexit
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from anyform.contract.errors import Closed, Fault

T = TypeVar("T")
M = TypeVar("M")


class Host(threading.Thread, Generic[M]):
    """Makes a model, and goes on as the engine thread that the model has.

    OpenMP keeps a team for each thread that ever computed. Once all teams together have more threads than the machine
    has processors, libgomp's waiting threads sleep instead of spinning, which costs 5 to 40% of all decoding. So a
    model is loaded, warmed up and run by one and the same thread.
    """

    def __init__(self, make: Callable[[], M]) -> None:
        super().__init__(name="anyform-engine", daemon=True)
        self.engine: EngineThread[Any] | None = None
        self._make = make
        self._made: Future[M] = Future()

    def model(self) -> M:
        """Start, and wait for what *make* returns or raises."""
        self.start()
        return self._made.result()

    def run(self) -> None:
        try:
            made = self._make()
        except BaseException as error:
            self._made.set_exception(error)
            return
        self._made.set_result(made)
        del made
        if self.engine is not None:
            self.engine.run()


class EngineThread(ABC, Generic[T]):
    """`submit` and `close` may be called by any thread; all that is abstract runs in the thread itself."""

    def __init__(self) -> None:
        self._inbox: SimpleQueue[T | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._closing = False
        self._broken: Fault | None = None
        current = threading.current_thread()
        if isinstance(current, Host):
            current.engine = self
            self._thread: threading.Thread = current
        else:
            self._thread = threading.Thread(target=self.run, name="anyform-engine", daemon=True)
            self._thread.start()
        atexit.register(self.close)  # native code must not run while the interpreter takes itself apart

    def submit(self, work: T) -> None:
        """Queue *work*. Raises Closed, or what broke the thread."""
        with self._lock:
            self._check()
            self._inbox.put(work)

    def check(self) -> None:
        """Raise Closed, or what broke the thread, if it takes no more work."""
        with self._lock:
            self._check()

    def _check(self) -> None:
        if self._closing:
            raise Closed("the model was closed.", "Load it again.")
        if self._broken:
            raise self._broken

    def close(self) -> None:
        """Fail all work with Closed, end the thread, free the engine. Idempotent; returns when it is done."""
        with self._lock:
            if not self._closing:
                self._closing = True
                self._inbox.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()
        atexit.unregister(self.close)

    @abstractmethod
    def _take(self, work: T) -> None:
        """Add *work* to what is to be done."""

    @abstractmethod
    def _busy(self) -> bool:
        """Whether there is anything to do."""

    @abstractmethod
    def _step(self) -> None:
        """Do a little of it."""

    @abstractmethod
    def _fail(self, fault: Fault) -> None:
        """End everything that was taken with *fault*."""

    @abstractmethod
    def _free(self) -> None:
        """Free the engine."""

    def run(self) -> None:
        """Do what is submitted until `close`. For the thread itself."""
        try:
            while self._receive():
                self._step()
            self._end_all(Closed("the model was closed in the middle of the request.", "Load it again."))
        except BaseException as error:
            fault = Fault(
                f"the engine's thread failed: {type(error).__name__}: {error}.", "Unload the model and load it again."
            )
            with self._lock:
                self._broken = fault
            self._end_all(fault)
        finally:
            self._free()

    def _receive(self) -> bool:
        """Take what was submitted; block while there is nothing to do. False: close."""
        while not self._busy() or not self._inbox.empty():
            work = self._inbox.get()
            if work is None:
                return False
            self._take(work)
        return True

    def _end_all(self, fault: Fault) -> None:
        while not self._inbox.empty():
            work = self._inbox.get()
            if work is not None:
                self._take(work)
        self._fail(fault)
