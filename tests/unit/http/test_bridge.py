"""The bridge between blocking models and the event loop."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from anyform.contract.errors import Fault, Invalid, WorkerDied
from anyform.contract.events import Blob, Done, Event, Progress, Text
from anyform.contract.jobs import Complete, Job
from anyform.contract.model import Stop
from anyform.http.bridge import BUFFER, PIECE, Merged, Threads, start
from anyform.workers.wire import pack

JOB = Complete(prompt="p")
START = Progress(stage="prompt")


def run(work: Callable[[Threads], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        threads = Threads()
        try:
            await asyncio.wait_for(work(threads), 10)
        finally:
            threads.close()

    asyncio.run(main())


class Worker:
    """A model whose worker is the other end of a socket pair, held by the test."""

    parallel = 1

    def __init__(self) -> None:
        self.end, self._ours = socket.socketpair()
        self.dialled = threading.Event()
        self.answer = threading.Event()
        self.answer.set()
        self.awaiting = self.answers = 0

    def dial(self, job: Job) -> socket.socket:
        self.dialled.set()
        assert self.answer.wait(10)
        return self._ours

    def death(self) -> WorkerDied:
        return WorkerDied("it was ended by SIGKILL.")

    def awaited(self, more: int) -> None:
        self.awaiting += more

    def answered(self) -> None:
        self.answers += 1

    def generate(self, job: Job, stop: Stop) -> Iterator[Event]:
        raise NotImplementedError

    def close(self) -> None: ...

    def send(self, *values: Event | Fault) -> None:
        self.end.sendall(b"".join(pack(value) for value in values))

    def hung_up(self) -> bool:
        self.end.settimeout(5)
        try:
            return self.end.recv(1) == b""
        except ConnectionError:
            return True


def test_events_that_arrive_together_are_one_batch() -> None:
    async def work(threads: Threads) -> None:
        worker = Worker()
        source = await start(worker, JOB, threads)
        worker.send(START, Text(text="a"), Text(text="b"))
        assert await source.read() == (0, [START, Text(text="a"), Text(text="b")])
        assert worker.answers == 0
        worker.send(Done())
        assert await source.read() == (0, [Done()])
        assert worker.answers == 1
        source.close()
        assert await asyncio.to_thread(worker.hung_up)

    run(work)


def test_a_frame_may_come_in_pieces() -> None:
    async def work(threads: Threads) -> None:
        worker = Worker()
        source = await start(worker, JOB, threads)
        frame = pack(Text(text="日本"))
        reading = asyncio.create_task(source.read())
        for at in range(len(frame)):
            worker.end.sendall(frame[at : at + 1])
            await asyncio.sleep(0)
        assert await reading == (0, [Text(text="日本")])
        source.close()

    run(work)


def test_a_fault_comes_after_the_events_before_it() -> None:
    async def work(threads: Threads) -> None:
        worker = Worker()
        source = await start(worker, JOB, threads)
        worker.send(Text(text="a"), Invalid("wrong."))
        assert await source.read() == (0, [Text(text="a")])
        with pytest.raises(Invalid, match="wrong"):
            await source.read()
        source.close()

    run(work)


@pytest.mark.parametrize("large", [False, True])
def test_a_worker_that_hangs_up_too_early_died(large: bool) -> None:
    async def work(threads: Threads) -> None:
        worker = Worker()
        source = await start(worker, JOB, threads, large)
        worker.send(Text(text="a"))
        worker.end.close()
        assert await source.read() == (0, [Text(text="a")])
        with pytest.raises(WorkerDied, match="SIGKILL"):
            await source.read()
        source.close()

    run(work)


@pytest.mark.parametrize("junk", [b"\xff" * 64, b"\x00\x00\x00\x02\x00\x00\x00\x00{}", b"HTTP/1.1 200 OK\r\n\r\n" * 9])
def test_junk_from_a_worker_is_a_fault(junk: bytes) -> None:
    async def work(threads: Threads) -> None:
        worker = Worker()
        source = await start(worker, JOB, threads)
        worker.end.sendall(junk)
        worker.end.close()
        with pytest.raises(Fault):
            await source.read()
        source.close()

    run(work)


def test_who_does_not_read_holds_the_worker_back() -> None:
    async def work(threads: Threads) -> None:
        worker = Worker()
        worker.end.settimeout(0.2)
        source = await start(worker, JOB, threads)
        frame = pack(Text(text="x" * 1000))
        sent = await asyncio.to_thread(_push, worker.end, frame, 100_000)
        assert BUFFER <= sent < 100_000
        got = 0
        while got < sent:
            got += len((await source.read())[1])
        assert await asyncio.to_thread(_push, worker.end, frame, 1) == 1
        source.close()

    run(work)


def _push(sock: socket.socket, frame: bytes, times: int) -> int:
    """How many whole frames could be sent before the other side would read no more."""
    rest = frame * times
    sent = 0
    try:
        while sent < len(rest):
            sent += sock.send(rest[sent : sent + 65536 // len(frame) * len(frame)])
    except TimeoutError:
        pass
    return sent // len(frame)


def test_a_request_that_is_cancelled_while_it_dials_leaves_no_connection() -> None:
    async def work(threads: Threads) -> None:
        worker = Worker()
        worker.answer.clear()
        starting = asyncio.create_task(start(worker, JOB, threads))
        await asyncio.to_thread(worker.dialled.wait, 5)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        worker.answer.set()
        assert await asyncio.to_thread(worker.hung_up)

    run(work)


class Here:
    """A model in this process that does what a test says."""

    parallel = 1

    def __init__(self, script: Callable[[Job, Stop], Iterator[Event]]) -> None:
        self.generate = script

    def close(self) -> None: ...


def test_a_model_in_this_process_runs_in_a_thread_and_stops_when_it_is_closed() -> None:
    stopped = threading.Event()

    def script(job: Job, stop: Stop) -> Iterator[Event]:
        yield START
        assert threading.current_thread() is not threading.main_thread()
        while not stop.wait(0.001):
            yield Text(text="a")
        stopped.set()
        yield Done()

    async def work(threads: Threads) -> None:
        source = await start(Here(script), JOB, threads)
        _, events = await source.read()
        assert events[0] == START
        await source.read()
        source.close()
        assert await asyncio.to_thread(stopped.wait, 5)

    run(work)


@pytest.mark.parametrize("size", [1, 15 * 1024, 16 * 1024, 1024**2, 64 * 1024**2])
def test_large_events_count_as_many(size: int) -> None:
    """So that what lies unread has a bound in bytes too."""
    made = [0]
    ended = threading.Event()
    data = bytes(size)

    def script(job: Job, stop: Stop) -> Iterator[Event]:
        while not stop.is_set():
            made[0] += 1
            yield Blob(data=data, media_type="audio/pcm")
        ended.set()
        yield Done()

    room = BUFFER // min(BUFFER, 1 + size // PIECE)

    async def work(threads: Threads) -> None:
        source = await start(Here(script), JOB, threads)
        while made[0] <= room:
            await asyncio.sleep(0)
        assert not ended.is_set()
        read = 0
        while read <= 2 * room:
            read += len((await source.read())[1])
        source.close()
        assert await asyncio.to_thread(ended.wait, 5)
        assert made[0] <= read + room + 2

    run(work)


@pytest.mark.parametrize("stopping", [False, True])
def test_a_reader_that_rests_holds_a_model_here_back_but_never_for_good(stopping: bool) -> None:
    made = [0]
    ended = threading.Event()

    def script(job: Job, stop: Stop) -> Iterator[Event]:
        while made[0] < 3 * BUFFER and not stop.is_set():
            made[0] += 1
            yield Text(text="a")
        yield Done()
        ended.set()

    async def work(threads: Threads) -> None:
        source = await start(Here(script), JOB, threads)
        while made[0] <= BUFFER:
            await asyncio.sleep(0)
        assert not ended.is_set()
        while not stopping:
            _, events = await source.read()
            if isinstance(events[-1], Done):
                break
        source.close()
        assert await asyncio.to_thread(ended.wait, 5)
        assert made[0] <= 3 * BUFFER

    run(work)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [(Invalid("wrong."), Invalid, "wrong"), (KeyError("x"), Fault, "the model failed: KeyError")],
)
def test_what_a_model_here_raises_arrives(error: Exception, kind: type[Fault], words: str) -> None:
    def script(job: Job, stop: Stop) -> Iterator[Event]:
        yield Text(text="a")
        raise error

    async def work(threads: Threads) -> None:
        source = await start(Here(script), JOB, threads)
        assert await source.read() == (0, [Text(text="a")])
        with pytest.raises(kind, match=words):
            await source.read()

    run(work)


def _say(job: Job, stop: Stop) -> Iterator[Event]:
    assert isinstance(job, Complete)
    if job.prompt == "wrong":
        raise Invalid("wrong.")
    yield START
    yield Text(text=str(job.prompt))
    yield Done()


@pytest.mark.parametrize("at_once", [1, 3, 10])
def test_several_jobs_are_told_apart(at_once: int) -> None:
    async def work(threads: Threads) -> None:
        jobs = tuple(Complete(prompt=f"p{at}") for at in range(10))
        source = Merged(Here(_say), jobs, at_once, threads)
        texts: dict[int, list[Event]] = {}
        while sum(isinstance(events[-1], Done) for events in texts.values()) < 10:
            job, events = await source.read()
            texts.setdefault(job, []).extend(events)
        assert texts == {at: [START, Text(text=f"p{at}"), Done()] for at in range(10)}
        source.close()

    run(work)


def test_nothing_of_several_jobs_is_told_before_each_was_accepted() -> None:
    async def work(threads: Threads) -> None:
        jobs = (*(Complete(prompt=f"p{at}") for at in range(9)), Complete(prompt="wrong"))
        source = Merged(Here(_say), jobs, 2, threads)
        with pytest.raises(Invalid):
            await source.read()
        source.close()

    run(work)


def test_slow_calls_use_idle_threads_again_and_do_not_wait_for_each_other() -> None:
    async def work(threads: Threads) -> None:
        names = {await threads.slow(lambda: threading.current_thread().ident) for _ in range(20)}
        assert len(names) < 5
        release = threading.Event()
        waiting = [asyncio.create_task(threads.slow(release.wait, 10)) for _ in range(50)]
        assert await threads.slow(lambda: "quick") == "quick"
        release.set()
        assert all(await asyncio.gather(*waiting))
        with pytest.raises(ZeroDivisionError):
            await threads.slow(lambda: 1 // 0)

    run(work)


def test_a_slow_call_that_nobody_waits_for_any_more_is_forgotten() -> None:
    async def work(threads: Threads) -> None:
        release = threading.Event()
        waiting = asyncio.create_task(threads.slow(release.wait, 10))
        await asyncio.sleep(0)
        waiting.cancel()
        release.set()
        assert await threads.slow(lambda: 1) == 1

    run(work)
