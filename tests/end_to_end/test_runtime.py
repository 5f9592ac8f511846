"""The runtime with the echo engine, in this process and in real workers: one suite, both ways."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import pytest

from anyform.assembly import start
from anyform.contract import events
from anyform.contract.errors import (
    Closed,
    ContextExceeded,
    Fault,
    Invalid,
    ModelNotFound,
    OutOfMemory,
    Unsupported,
    WorkerDied,
)
from anyform.contract.facts import Settings
from anyform.contract.jobs import Complete, Embed, Generation
from anyform.contract.model import Stop
from anyform.kernel.news import Item
from anyform.kernel.runtime import Runtime

Where = Literal["here", "worker"]
WORDS = "one two three four five six"
LONG = Complete(prompt="word " * 500, generation=Generation(max_tokens=500))


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    (folder / "echo").mkdir(parents=True)
    (folder / "echo" / "echo.json").write_text(json.dumps({"format": "echo"}))
    return folder


@pytest.fixture(params=["here", "worker"])
def where(request: pytest.FixtureRequest) -> Where:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def runtime(models: Path, tmp_path: Path, where: Where) -> Iterator[Runtime]:
    made = start(folders=[models], where=where, state=tmp_path / "state")
    yield made
    made.close()


@pytest.fixture
def workers(models: Path, tmp_path: Path) -> Iterator[Runtime]:
    made = start(folders=[models], state=tmp_path / "state")
    yield made
    made.close()


def text(found: list[events.Event]) -> str:
    return "".join(event.text for event in found if isinstance(event, events.Text))


def with_options(**options: Any) -> Settings:
    return Settings(options=options)


def test_a_job_gives_progress_text_and_one_done(runtime: Runtime) -> None:
    found = list(runtime.generate("echo", Complete(prompt=WORDS)))
    assert found[0] == events.Progress(stage="prompt", done=6, total=6)
    assert text(found) == WORDS
    assert [type(event) for event in found].count(events.Done) == 1
    assert isinstance(found[-1], events.Done)


def test_bytes_come_back(runtime: Runtime) -> None:
    vectors = [e for e in runtime.generate("echo", Embed(inputs=("a", "b"))) if isinstance(e, events.Vector)]
    assert sorted(vector.index for vector in vectors) == [0, 1]
    assert all(len(vector.data) == 4 * vector.dimensions for vector in vectors)


def test_stop_ends_it_within_a_step(runtime: Runtime) -> None:
    model = runtime.open("echo", settings=with_options(delay_s=0.02))
    stop = Stop()
    found: list[events.Event] = []
    for event in model.generate(LONG, stop):
        found.append(event)
        if len(found) == 3:
            stop.set()
    assert len(found) <= 6
    assert isinstance(found[-1], events.Done)
    assert found[-1].finishes[0].reason == "cancelled"


def test_faults_come_through_with_their_numbers(runtime: Runtime) -> None:
    settings = Settings(context=8)
    model = runtime.open("echo", settings=settings)
    with pytest.raises(ContextExceeded) as caught:
        list(model.generate(LONG, Stop()))
    assert (caught.value.details["prompt_tokens"], caught.value.details["context"]) == (501, 8)
    with pytest.raises(ModelNotFound):
        runtime.open("ecco")
    with pytest.raises(Invalid, match="no option 'colour'") as refused:
        runtime.open("echo", settings=with_options(colour="red"))
    assert refused.value.code == "echo.option"


def test_a_request_that_the_loaded_context_serves_never_reloads(runtime: Runtime) -> None:
    def opened(context: int | None) -> int | None:
        job = Complete(prompt="x", generation=Generation(context=context))
        list(runtime.open("echo", job).generate(job, Stop()))
        return runtime.loaded()[0].context

    assert opened(64) == 64
    since = runtime.loaded()[0].since_s
    assert opened(32) == 64
    assert opened(None) == 64
    assert runtime.loaded()[0].since_s > since
    assert opened(128) == 128


def test_a_requests_context_never_shrinks_what_is_configured_nor_exceeds_what_was_trained(
    models: Path, where: Where
) -> None:
    runtime = start(folders=[models], where=where, defaults=Settings(context=256))
    list(runtime.generate("echo", Complete(prompt="x", generation=Generation(context=16))))
    assert runtime.loaded()[0].context == 256
    with pytest.raises(Invalid, match="trained for 4096"):
        runtime.open("echo", Complete(prompt="x", generation=Generation(context=5000)))
    runtime.close()


def test_a_context_that_does_not_fit_is_refused_with_the_largest_that_does(runtime: Runtime) -> None:
    with pytest.raises(OutOfMemory, match=r"Try --context \d+"):
        runtime.open("echo", settings=Settings(context=10**12))


def test_a_wrong_task_is_refused(tmp_path: Path, where: Where) -> None:
    (tmp_path / "e.echo").write_text(json.dumps({"format": "echo", "tasks": ["embed"]}))
    runtime = start([tmp_path / "e.echo"], where=where)
    with pytest.raises(Unsupported, match="e does embed, not complete"):
        runtime.open("e", Complete(prompt="x"))
    runtime.close()


def test_closing_ends_everything(runtime: Runtime) -> None:
    runtime.open("echo")
    runtime.close()
    assert runtime.loaded() == []
    with pytest.raises(Closed):
        runtime.open("echo")


def test_unload_and_load_again(runtime: Runtime) -> None:
    assert runtime.unload("echo") is False
    runtime.open("echo")
    assert runtime.unload("echo") is True
    assert runtime.loaded() == []
    assert text(list(runtime.generate("echo", Complete(prompt=WORDS)))) == WORDS


def test_what_a_model_runs_on_and_warns_of_is_told_wherever_loads_are(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Item] = []
    runtime.news.listen(heard.append)
    with caplog.at_level("INFO", "anyform"):
        runtime.open("echo", settings=with_options(runs_on="paper", warning="the slate was to be used, and is broken"))
    [loaded] = runtime.loaded()
    assert loaded.runs_on == "paper"
    assert loaded.warnings == ("the slate was to be used, and is broken",)
    assert "when it was loaded: the slate was to be used, and is broken" in runtime.explain("echo").notes
    told = next(item.facts for item in heard if item.kind == "loaded")
    assert (told["runs_on"], told["warnings"]) == ("paper", ["the slate was to be used, and is broken"])
    assert "on cpu (paper)" in caplog.text
    assert [one.levelname for one in caplog.records if "slate" in one.message] == ["WARNING"]


def test_a_crash_at_load_is_survived_with_less_and_remembered(workers: Runtime, models: Path, tmp_path: Path) -> None:
    crash = with_options(crash="load", crash_unless="careful")
    workers.open("echo", settings=crash)
    loaded = workers.loaded()[0]
    assert loaded.reductions == ("repeat carefully, which costs nothing",)
    assert any("SIGKILL" in warning for warning in loaded.warnings)
    assert any("learnt on this machine" in note for note in workers.explain("echo").notes)
    again = start(folders=[models], state=tmp_path / "state")
    again.open("echo", settings=crash)
    assert again.loaded()[0].reductions == ("repeat carefully, which costs nothing",)
    assert not any("SIGKILL" in warning for warning in again.loaded()[0].warnings)
    again.close()


def test_a_crash_that_nothing_avoids_is_a_fault_that_says_so(workers: Runtime) -> None:
    with pytest.raises(Fault, match="SIGKILL") as caught:
        workers.open("echo", settings=with_options(crash="load"))
    assert caught.value.code == "load_failed"
    assert len(caught.value.details["tried"]) == 2
    assert text(list(workers.generate("echo", Complete(prompt=WORDS)))) == WORDS


def test_a_killed_worker_ends_its_streams_with_a_fault_and_the_next_request_is_answered(workers: Runtime) -> None:
    model = workers.open("echo", settings=Settings(parallel=8, options={"delay_s": 0.01}))
    ends: list[object] = []
    started = threading.Barrier(9)

    def stream() -> None:
        running = model.generate(LONG, Stop())
        next(running)
        started.wait(20)
        try:
            ends.extend(event for event in running if isinstance(event, events.Done))
        except Fault as fault:
            ends.append(fault)

    threads = [threading.Thread(target=stream) for _ in range(8)]
    for thread in threads:
        thread.start()
    started.wait(20)
    pid = workers.loaded()[0].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    for thread in threads:
        thread.join(20)
    assert [type(end) for end in ends] == [WorkerDied] * 8
    assert text(list(workers.generate("echo", Complete(prompt=WORDS)))) == WORDS
    assert workers.loaded()[0].pid != pid


PARENT = """
import sys, time
from anyform.assembly import start
from anyform.contract.facts import Settings
from anyform.contract.jobs import Complete, Generation
runtime = start(folders=[sys.argv[1]])
model = runtime.open("echo", settings=Settings(options={"delay_s": 1.0}))
from anyform.contract.model import Stop
running = model.generate(Complete(prompt="a b c d e f", generation=Generation(max_tokens=50)), Stop())
next(running)
print(model.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_no_worker_outlives_a_parent_that_was_killed(models: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(models)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    os.kill(pid, 0)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _alive(pid):
        time.sleep(0.02)
    assert not _alive(pid)
    parent.stdout.close()


def _alive(pid: int) -> bool:
    with suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z"
    return False


def test_a_stranger_on_the_workers_port_is_refused(workers: Runtime) -> None:
    import socket

    from anyform.workers.wire import Channel

    model: Any = workers.open("echo")
    with socket.create_connection(("127.0.0.1", model.port)) as sock:
        channel = Channel(sock)
        channel.send({"token": "guess", "job": Complete(prompt="x")})
        assert channel.receive().code == "refused"


def test_hanging_up_frees_the_slot_within_a_step(workers: Runtime) -> None:
    model: Any = workers.open("echo", settings=Settings(parallel=1, options={"delay_s": 0.05}))
    sock = model.dial(LONG)
    sock.recv(1)
    assert workers.loaded()[0].active == 1
    sock.close()
    assert workers.loaded()[0].active == 0
    began = time.monotonic()
    list(model.generate(Complete(prompt="x"), Stop()))
    assert time.monotonic() - began < 5  # the rest of the abandoned answer would take 25 s


def test_what_a_load_was_told_holds_when_its_worker_dies_until_it_is_unloaded(workers: Runtime) -> None:
    model: Any = workers.open("echo", settings=Settings(context=64))
    os.kill(model.pid, signal.SIGKILL)
    list(workers.generate("echo", Complete(prompt="x")))
    assert workers.loaded()[0].context == 64
    workers.unload("echo")
    list(workers.generate("echo", Complete(prompt="x")))
    assert workers.loaded()[0].context == 4096


def test_a_model_whose_file_has_gone_is_said_to_be_gone(runtime: Runtime, models: Path) -> None:
    runtime.names()
    (models / "echo" / "echo.json").unlink()
    with pytest.raises(ModelNotFound, match="the files of echo are gone"):
        runtime.open("echo", Complete(prompt="x"))


def test_what_a_load_really_took_is_told_the_next_time(workers: Runtime, models: Path, tmp_path: Path) -> None:
    def why(runtime: Runtime) -> str:
        memory = runtime.explain("echo").verdicts[0].memory
        assert memory is not None
        return memory.why

    assert "measured" not in why(workers)
    list(workers.generate("echo", Complete(prompt=WORDS)))
    workers.unload("echo")
    assert "measured 1 times on this machine" in why(workers)
    again = start(folders=[models], state=tmp_path / "state")
    assert "measured 1 times on this machine" in why(again)
    again.close()


@pytest.mark.parametrize("table", [5, None, "library = 1"])
def test_what_is_told_a_plugin_is_a_table(table: Any) -> None:
    with pytest.raises(Invalid, match=r"tables\.echo must be a table, not"):
        start(tables={"echo": table})
    with pytest.raises(Invalid, match="'ecko'"):
        start(tables={"ecko": {}})
