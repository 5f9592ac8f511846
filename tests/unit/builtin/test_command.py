"""The command backend against a real server process of a few lines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from anyform.assembly import start
from anyform.builtin import command
from anyform.builtin.command_option import OPTIONS, CommandOption, fill
from anyform.builtin.openai import fault, request
from anyform.contract.errors import (
    Closed,
    ContextExceeded,
    Fault,
    Invalid,
    LoadFailed,
    Overloaded,
    Unsupported,
    WorkerDied,
)
from anyform.contract.events import Done, Finish, Progress, Reasoning, Scores, Text, ToolCall, Usage, Vector
from anyform.contract.facts import Plan, Settings, Severity
from anyform.contract.jobs import (
    Chat,
    Complete,
    Embed,
    Generation,
    Image,
    Message,
    Picture,
    Rerank,
    Sampling,
    Tool,
)
from anyform.contract.jobs import Text as Words
from anyform.contract.model import LoadedModel, Stop
from anyform.http.fault import body
from anyform.kernel.files import FolderFiles

SERVER = str(Path(__file__).with_name("fake_openai_server.py"))
COMMAND = [sys.executable, SERVER, "{port}"]
posix = pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs POSIX process groups")


def plan(folder: Path, options: dict[str, Any], **said: Any) -> Plan:
    (folder / command.FILE).write_text(json.dumps({"tasks": ["chat", "complete", "embed", "rerank"], **said}))
    files = FolderFiles(folder)
    [match] = command.detect_format(files)
    return Plan(
        plugin="command",
        backend="command",
        model="m",
        path=str(folder),
        match=match,
        metadata=command.extract_metadata(files, match),
        settings=Settings(options=options),
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedModel]:
    loaded = command.load(plan(tmp_path_factory.mktemp("m"), {"command": COMMAND}))
    yield loaded
    loaded.close()


def chat(text: str, **fields: Any) -> Chat:
    return Chat(messages=(Message(role="user", parts=(Words(text=text),)),), **fields)


def test_chat_streams_thoughts_and_words_and_ends_with_done(model: LoadedModel) -> None:
    events = list(model.generate(chat("hello there"), Stop()))
    assert events[:2] == [Progress(stage="prompt"), Reasoning(text="hm")]
    assert events[2:4] == [Text(text="hello "), Text(text="there ")]
    done = events[-1]
    assert isinstance(done, Done)
    assert done.finishes == (Finish(reason="stop"),)
    assert done.usage == Usage(prompt_tokens=5, completion_tokens=2, cached_tokens=4)


def test_the_model_is_called_what_the_server_calls_it(model: LoadedModel) -> None:
    list(model.generate(chat("hi"), Stop()))
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{model._server.port}/seen") as answer:  # type: ignore[attr-defined]
        assert json.load(answer)["seen"][-1]["model"] == "the-fake"


def test_tool_calls_arrive(model: LoadedModel) -> None:
    events = list(model.generate(chat("add", tools=(Tool(name="add"),), tool_choice="add"), Stop()))
    assert events[1] == ToolCall(call=0, id="c1", name="add", arguments='{"a":1}')
    assert events[-1].finishes == (Finish(reason="tool_calls"),)  # type: ignore[union-attr]


def test_complete_embed_and_rerank(model: LoadedModel) -> None:
    completed = list(model.generate(Complete(prompt="once"), Stop()))
    assert completed[1] == Text(text="once")
    vectors = [event for event in model.generate(Embed(inputs=("a", "b")), Stop()) if isinstance(event, Vector)]
    assert [(vector.index, vector.dimensions) for vector in vectors] == [(0, 2), (1, 2)]
    ranked = list(model.generate(Rerank(query="q", documents=("a", "b", "c")), Stop()))
    assert ranked[1] == Scores(values=(0.0, 0.1, 0.2))


@pytest.mark.parametrize(
    ("text", "kind", "details"),
    [("long", ContextExceeded, {"prompt_tokens": 99, "context": 10}), ("busy", Overloaded, {"retry_after_s": 7})],
)
def test_refusals_become_faults_before_the_first_event(
    model: LoadedModel, text: str, kind: type[Fault], details: dict[str, int]
) -> None:
    with pytest.raises(kind) as caught:
        next(iter(model.generate(chat(text), Stop())))
    assert caught.value.details == details


def test_stop_hangs_up_and_ends_with_cancelled(model: LoadedModel) -> None:
    stop = Stop()
    events = model.generate(chat("slow"), stop)
    seen = [next(events), next(events)]
    stop.set()
    began = time.monotonic()
    seen += list(events)
    assert time.monotonic() - began < 2
    assert seen[-1].finishes == (Finish(reason="cancelled"),)  # type: ignore[union-attr]


def test_a_server_that_dies_takes_the_request_with_its_last_words(tmp_path: Path) -> None:
    loaded = command.load(plan(tmp_path, {"command": COMMAND}))
    with pytest.raises(WorkerDied) as caught:
        list(loaded.generate(chat("die"), Stop()))
    assert "out of cheese" in caught.value.details["output"]
    assert "out of cheese" not in str(caught.value)
    loaded.close()


def test_close_ends_running_jobs_and_is_idempotent(tmp_path: Path) -> None:
    loaded = command.load(plan(tmp_path, {"command": COMMAND}))
    events = loaded.generate(chat("slow"), Stop())
    next(events)
    loaded.close()
    loaded.close()
    with pytest.raises(Closed):
        list(events)


def test_a_command_that_ends_at_once_shows_what_it_said(tmp_path: Path) -> None:
    words = [sys.executable, "-c", "import sys; sys.exit('no such model: ' + sys.argv[1])", "{model_path}"]
    with pytest.raises(LoadFailed) as caught:
        command.load(plan(tmp_path, {"command": words}, model="w.bin"))
    assert caught.value.details["output"] == f"no such model: {tmp_path / 'w.bin'}"


def test_what_it_said_is_for_this_machines_user_and_no_client(tmp_path: Path) -> None:
    words = [sys.executable, "-c", f"print('a\\n\\nb\\nc\\nin {tmp_path}'); exit(3)"]
    with pytest.raises(LoadFailed) as caught:
        command.load(plan(tmp_path, {"command": words}))
    assert caught.value.details["output"].splitlines() == ["b", "c", f"in {tmp_path}"]
    assert str(tmp_path) not in json.dumps(body(caught.value))
    assert os.path.dirname(sys.executable) not in json.dumps(body(caught.value))


def test_a_command_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="exit code 127"):
        command.load(plan(tmp_path, {"command": ["no-such-command-anywhere"]}))


def test_a_path_that_it_does_not_have_is_said(tmp_path: Path) -> None:
    options = {"command": COMMAND, "ready": "/nowhere", "ready_timeout_s": 0.7}
    with pytest.raises(LoadFailed, match=r"not ready after 0\.7 s \(GET /nowhere: 404\)") as caught:
        command.load(plan(tmp_path, options))
    assert "ready" in caught.value.hint


def test_a_command_that_never_gets_ready_is_ended(tmp_path: Path) -> None:
    options = {"command": [*COMMAND, "60"], "ready_timeout_s": 0.3}
    with pytest.raises(LoadFailed, match="not ready after"):
        command.load(plan(tmp_path, options))


def test_the_command_of_a_downloaded_file_is_never_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    said = [sys.executable, "-c", f"open({str(trap)!r}, 'w')"]
    with pytest.raises(command.CommandNotAllowed) as caught:
        command.load(plan(tmp_path, {}, command=said))
    assert not trap.exists()
    assert json.dumps(said) in caught.value.hint


@pytest.mark.parametrize("options", [{"comand": ["x"]}, {"command": 5}, {"command": [1]}, {"ready_timeout_s": "soon"}])
def test_invalid_options_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(CommandOption):
        command.load(plan(tmp_path, options))


@pytest.mark.parametrize(
    ("content", "codes"),
    [
        ("{", ["command.truncated"]),
        ('{"tasks": 3}', ["command.type"]),
        ('{"model": "../other"}', ["command.outside"]),
        ('{"model": "/etc"}', ["command.outside"]),
        ('{"tasks": ["chat"]}', []),
    ],
)
def test_validate(tmp_path: Path, content: str, codes: list[str]) -> None:
    (tmp_path / command.FILE).write_text(content)
    files = FolderFiles(tmp_path)
    found = command.validate(files, command.detect_format(files)[0])
    assert [finding.code for finding in found] == codes
    assert all(finding.severity is Severity.CRITICAL for finding in found)


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").exists() and ") Z " in Path(f"/proc/{pid}/stat").read_text()


def _within(seconds: float, true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.02)
    return true()


@pytest.mark.parametrize("where", ["here", "worker"])
def test_a_configured_command_is_served_like_any_model(tmp_path: Path, where: Literal["here", "worker"]) -> None:
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / command.FILE).write_text('{"tasks": ["chat"]}')
    settings = {"fake": Settings(options={"command": COMMAND})}
    with closing(start([tmp_path / "fake"], where=where, settings=settings, state=tmp_path / "state")) as runtime:
        texts = [event.text for event in runtime.generate("fake", chat("good day")) if isinstance(event, Text)]
    assert texts == ["good ", "day "]


def test_every_option_stays_with_the_user() -> None:
    [backend] = command.list_backends({})
    assert set(backend.local_options) == set(OPTIONS)


@posix
def test_close_ends_the_commands_children_too(tmp_path: Path) -> None:
    loaded = command.load(plan(tmp_path, {"command": [*COMMAND, "0", str(tmp_path / "pid")]}))
    child = int((tmp_path / "pid").read_text())
    assert not _gone(child)
    loaded.close()
    assert _within(5, lambda: _gone(child))


@posix
def test_nothing_is_left_when_the_process_that_loaded_it_is_killed(tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from anyform.builtin.process import Claim, Server
port = Claim.of(None)
command = [sys.executable, {SERVER!r}, str(port.port), "0", {str(tmp_path / "pid")!r}]
server = Server(command, port, Path({str(tmp_path)!r}))
server.wait_until_ready("/v1/models", 30)
print(server._process.pid, flush=True)
time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    guard = int(process.stdout.readline())
    child = int((tmp_path / "pid").read_text())
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert _within(8, lambda: _gone(child) and _gone(guard))


def test_requests_carry_everything() -> None:
    picture = Picture(data=b"\x89PNG", media_type="image/png")
    generation = Generation(
        sampling=Sampling(temperature=0.5, top_k=3, logit_bias={7: -1.0}, seed=4),
        max_tokens=9,
        stop=("x",),
        n=2,
        logprobs=True,
        top_logprobs=2,
        schema={"type": "object"},
    )
    job = Chat(
        messages=(Message(role="user", parts=(Words(text="see"), picture)),),
        tools=(Tool(name="t", parameters={"type": "object"}),),
        tool_choice="t",
        thinking=False,
        template_options={"chat_template": "{{ messages }}"},
        generation=generation,
    )
    path, body = request(job, "m")
    assert body["chat_template"] == "{{ messages }}"
    assert path == "/v1/chat/completions"
    assert body["messages"][0]["content"][1]["image_url"]["url"] == "data:image/png;base64,iVBORw=="
    assert body["tool_choice"] == {"type": "function", "function": {"name": "t"}}
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert body["logit_bias"] == {"7": -1.0}
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert (body["temperature"], body["top_k"], body["seed"]) == (0.5, 3, 4)
    assert (body["max_tokens"], body["n"], body["stop"], body["top_logprobs"]) == (9, 2, ["x"], 2)
    assert "top_p" not in body


def test_a_task_beyond_the_dialect_is_refused() -> None:
    with pytest.raises(Unsupported):
        request(Image(prompt="a cat"), "m")


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": {"message": "no", "code": "context_length_exceeded"}}, ContextExceeded),
        (400, {"error": {"message": "no"}}, Invalid),
        (422, {"detail": "no"}, Invalid),
        (501, {"error": "no"}, Unsupported),
        (429, {"error": {"message": "no"}}, Overloaded),
    ],
)
def test_error_answers(status: int, body: dict[str, Any], kind: type[Fault]) -> None:
    answer = fault(status, body)
    assert type(answer) is kind
    assert answer.message == "no"


def test_placeholders_are_filled_once(tmp_path: Path) -> None:
    settings = Settings(context=77, parallel=3)
    filled = replace(plan(tmp_path, {}), model="{port}", settings=settings)
    words = fill(["--p={port}", "{model}", "{context}", "{parallel}", "{other}", "{"], filled, 9)
    assert words == ["--p=9", "{port}", "77", "3", "{other}", "{"]
