"""Where the synchronous world is met from async: a job's events as batches, and blocking calls in threads.

A model in a worker is read by the event loop itself, without a thread; one in this process by a thread of its own.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar, cast

from anyform.contract.errors import Fault, WorkerDied
from anyform.contract.events import Blob, Done, Event
from anyform.contract.jobs import Job
from anyform.contract.model import LoadedModel, Stop
from anyform.workers.wire import Decoder

T = TypeVar("T")
Batch = tuple[int, list[Event]]
"""Which of a request's jobs, and its events that arrived together, in order; the last of all is a Done."""

BUFFER = 512
"""Events that may lie here unread before the producer is held back; see `weight`."""
PIECE = 16 * 1024
"""Bytes of a Blob that count as one event: so all that lie here have 8 MiB, or are one."""


def weight(event: Event) -> int:
    """How many events it counts as."""
    return min(BUFFER, 1 + len(event.data) // PIECE) if isinstance(event, Blob) else 1


class Remote(Protocol):
    """A model in a worker: `dial` connects, sends the job and returns a socket on which only events come back."""

    def dial(self, job: Job) -> socket.socket: ...
    def death(self) -> WorkerDied:
        """What became of a worker that hung up; may block for seconds."""

    def awaited(self, more: int) -> None:
        """So many more requests wait for the worker's next word; fewer, where their reader holds it back."""

    def answered(self) -> None:
        """A job's Done has come."""


class Source(Protocol):
    """The events of a request."""

    async def read(self) -> Batch:
        """The next batch; raises the fault that ends the job. Not to be called after a job's Done."""

    def close(self) -> None:
        """Cancel what still runs. Does not block; idempotent."""


class Threads:
    """Threads for calls that block. Call `slow` and `quick` on the event loop."""

    def __init__(self, quick: int = 16) -> None:
        self._quick = ThreadPoolExecutor(quick, "anyform-call")
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._idle = threading.Semaphore(0)

    async def slow(self, call: Callable[..., T], *args: Any) -> T:
        """A call that may take minutes, such as a load: in a thread which no other call and no exit waits for."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            try:
                tell = partial(_settle, done, call(*args), None)
            except BaseException as error:
                tell = partial(_settle, done, None, error)
            with suppress(RuntimeError):  # the loop was closed, so nobody waits any more
                loop.call_soon_threadsafe(tell)

        if not self._idle.acquire(blocking=False):
            threading.Thread(target=self._work, name="anyform-load", daemon=True).start()
        self._calls.put(run)
        return await done

    def _work(self) -> None:
        while True:
            self._calls.get()()
            self._idle.release()

    async def quick(self, call: Callable[..., T], *args: Any) -> T:
        """A call that may touch the disk or connect."""
        return await asyncio.get_running_loop().run_in_executor(self._quick, partial(call, *args))

    def close(self) -> None:
        """Let running calls end on their own."""
        self._quick.shutdown(wait=False, cancel_futures=True)


def _settle(done: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(value)
    else:
        done.set_exception(error)


async def start(model: LoadedModel, job: Job, threads: Threads, large: bool = True) -> Source:
    """Begin *job*; *large*: its data may not fit into a socket's buffer. Raises WorkerDied without a worker."""
    if not hasattr(model, "dial"):  # isinstance with a protocol takes 20 µs
        return Local(model, job)
    remote = cast(Remote, model)
    sock = await _dial(remote, job, threads) if large else remote.dial(job)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    _, frames = await loop.create_connection(
        partial(Frames, partial(threads.quick, remote.death), remote.awaited, remote.answered), sock=sock
    )
    return frames


async def begin(model: LoadedModel, job: Job, threads: Threads, large: bool = False) -> Source:
    """`start`, and wait for the first batch. Raises the fault that ends the job before it."""
    source = await start(model, job, threads, large)
    try:
        return Begun(source, await source.read())
    except BaseException:
        source.close()
        raise


class Begun:
    """A source whose first batch was read already."""

    def __init__(self, source: Source, first: Batch) -> None:
        self._source = source
        self._first: Batch | None = first

    async def read(self) -> Batch:
        first, self._first = self._first, None
        return first if first is not None else await self._source.read()

    def close(self) -> None:
        self._source.close()


async def _dial(model: Remote, job: Job, threads: Threads) -> socket.socket:
    dialled = asyncio.ensure_future(threads.quick(model.dial, job))
    try:
        return await asyncio.shield(dialled)
    except asyncio.CancelledError:
        dialled.add_done_callback(_hang_up)
        raise


def _hang_up(dialled: asyncio.Future[socket.socket]) -> None:
    if not dialled.cancelled() and dialled.exception() is None:
        dialled.result().close()


class Buffer:
    """Events between their producer and the one reader, all on the event loop."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self.weight = 0
        """Of what lies here."""
        self._fault: Fault | None = None
        self._waiter: asyncio.Future[None] | None = None

    def put(self, values: Iterable[Event | Fault]) -> None:
        """Add what has arrived and wake the reader."""
        for value in values:
            if isinstance(value, Fault):
                self._fault = self._fault or value
            elif self._fault is None:
                self._events.append(value)
                self.weight += weight(value)
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    @property
    def ended(self) -> bool:
        """Whether nothing more can come."""
        return self._fault is not None or (bool(self._events) and isinstance(self._events[-1], Done))

    async def take(self) -> list[Event]:
        """All that has arrived, at least one event; then the fault, if one ended it."""
        while not self._events:
            if self._fault is not None:
                raise self._fault
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        events, self._events, self.weight = self._events, [], 0
        return events


_HUNG_UP = WorkerDied("the model's worker hung up.")


class Frames(asyncio.Protocol):
    """Reads a worker's socket. Events of one packet make one batch; not reading holds the worker back."""

    def __init__(
        self, death: Callable[[], Awaitable[WorkerDied]], awaited: Callable[[int], None], answered: Callable[[], None]
    ) -> None:
        """*death*: asks what became of the worker, when it hangs up too early. *awaited*, *answered*: see `Remote`."""
        self._death, self._awaited, self._answered = death, awaited, answered
        self._decoder = Decoder()
        self._buffer = Buffer()
        self._transport: asyncio.Transport | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._awaited(1)

    def data_received(self, data: bytes) -> None:
        self._awaited(0)
        try:
            values = self._decoder.feed(data)
            self._buffer.put(values)
            if values and isinstance(values[-1], Done):
                self._answered()
        except (ValueError, TypeError, KeyError) as error:
            self._buffer.put([Fault(f"the model's worker sent something that is no event: {error}.")])
            self.close()
        if self._buffer.weight > BUFFER and self._transport is not None and not self._paused:
            self._paused = True
            self._awaited(-1)
            self._transport.pause_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._awaited(0 if self._paused else -1)
        if not self._buffer.ended:
            self._buffer.put([_HUNG_UP])

    async def read(self) -> Batch:
        try:
            events = await self._buffer.take()
        except WorkerDied as gone:
            raise (await self._death() if gone is _HUNG_UP else gone) from None
        if self._paused and self._transport is not None:
            self._paused = False
            self._awaited(1)
            self._transport.resume_reading()
        return 0, events

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Local:
    """Runs generate() in a thread of its own and hands its events over in batches."""

    def __init__(self, model: LoadedModel, job: Job) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = Stop()
        self._buffer = Buffer()
        self._fresh: list[Event | Fault] = []
        self._lock = threading.Lock()
        self._room = threading.Semaphore(BUFFER)
        threading.Thread(target=self._run, args=(model, job), name="anyform-generate", daemon=True).start()

    def _run(self, model: LoadedModel, job: Job) -> None:
        try:
            for event in model.generate(job, self._stop):
                if not self._stop.is_set():
                    self._take_room(weight(event))
                self._hand_over(event)
        except Fault as fault:
            self._hand_over(fault)
        except Exception as error:
            self._hand_over(Fault(f"the model failed: {type(error).__name__}: {error}."))

    def _take_room(self, size: int) -> None:
        for _ in range(size):
            self._room.acquire()

    def _hand_over(self, value: Event | Fault) -> None:
        with self._lock:
            self._fresh.append(value)
            first = len(self._fresh) == 1
        if first:
            with suppress(RuntimeError):  # the loop was closed, so nobody reads any more
                self._loop.call_soon_threadsafe(self._arrive)

    def _arrive(self) -> None:
        with self._lock:
            fresh, self._fresh = self._fresh, []
        self._buffer.put(fresh)

    async def read(self) -> Batch:
        events = await self._buffer.take()
        self._room.release(sum(map(weight, events)))
        return 0, events

    def close(self) -> None:
        self._stop.set()
        self._room.release(BUFFER)


class Merged:
    """Several jobs of one request, some at once; nothing is handed out before each of them was accepted."""

    def __init__(self, model: LoadedModel, jobs: tuple[Job, ...], at_once: int, threads: Threads) -> None:
        self._arrived: asyncio.Queue[Batch | Exception] = asyncio.Queue(BUFFER)
        self._pending = iter(enumerate(jobs))
        self._waiting = set(range(len(jobs)))
        self._held: list[Batch] = []
        self._tasks = [asyncio.create_task(self._work(model, threads)) for _ in range(at_once)]

    async def _work(self, model: LoadedModel, threads: Threads) -> None:
        try:
            for at, job in self._pending:
                await self._one(at, await start(model, job, threads))
        except Exception as error:
            await self._arrived.put(error)

    async def _one(self, at: int, source: Source) -> None:
        try:
            done = False
            while not done:
                _, events = await source.read()
                await self._arrived.put((at, events))
                done = isinstance(events[-1], Done)
        finally:
            source.close()

    async def read(self) -> Batch:
        while self._waiting:
            batch = await self._next()
            self._waiting.discard(batch[0])
            self._held.append(batch)
        return self._held.pop(0) if self._held else await self._next()

    async def _next(self) -> Batch:
        arrived = await self._arrived.get()
        if isinstance(arrived, Exception):
            raise arrived
        return arrived

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
