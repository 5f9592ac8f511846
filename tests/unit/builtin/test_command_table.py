"""Programs of the settings file as backends: stated, chosen by rules, run with their words, variables and ports."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import pytest

from anyform import rules
from anyform.assembly import start
from anyform.builtin import command
from anyform.builtin.command_option import CommandOption, checked, ports, values
from anyform.builtin.process import Claim, Server, taken
from anyform.config import PLACEHOLDERS, Config, ModelConfig
from anyform.contract.errors import Fault, LoadFailed, NoBackend, WorkerDied
from anyform.contract.events import Text
from anyform.contract.facts import Device, Evidence, FormatMatch, Metadata, Plan, Settings
from anyform.contract.jobs import Chat, Message
from anyform.contract.jobs import Text as Words
from anyform.contract.model import Stop
from anyform.kernel.plugins import Plugins
from anyform.kernel.runtime import Runtime

SERVER = str(Path(__file__).with_name("fake_openai_server.py"))
FAKE: dict[str, Any] = {"command": sys.executable, "args": [SERVER, "{port}"], "reads": ["echo"], "tasks": ["chat"]}
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")


def say(text: str) -> Chat:
    return Chat(messages=(Message(role="user", parts=(Words(text=text),)),))


def plan(options: dict[str, Any], **settings: Any) -> Plan:
    """A model of some other plugin's format, a file of weights."""
    match = FormatMatch(format="gguf", entry="a/m.gguf", files=("a/m.gguf",), evidence=Evidence.MAGIC, why="so")
    return Plan(
        plugin="command",
        backend="fake",
        model="m",
        path="/models",
        match=match,
        metadata=Metadata(tasks=("chat",), context=64, extra={"ready": "/from-the-model", "served_model": "x"}),
        settings=Settings(options=options, **settings),
        devices=(Device(kind="cuda", index=1),),
    )


def options(**more: Any) -> dict[str, Any]:
    return {**command.list_backends({"fake": FAKE})[1].options, **more}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file = tmp_path / "parrot.echo.json"
    file.write_text(json.dumps({"format": "echo", "tasks": ["chat"]}))
    return file


def opened(model: Path, tables: dict[str, Any], where: Literal["here", "worker"] = "here", **rule: Any) -> Runtime:
    plugins = Plugins.discover()
    plugins.tables = {"command": tables}
    made = rules.of(Config(model={"*": ModelConfig(**rule)}))
    return start([model], where=where, plugins=plugins, rules=made)


def test_a_table_is_a_backend_and_its_command_an_option_of_its_users_own() -> None:
    own, fake = command.list_backends({"fake": {**FAKE, "devices": ["cuda"], "features": ["tools"], "ports": "9000"}})
    assert (own.name, own.reads) == ("command", ("command",))
    assert (fake.name, fake.reads, fake.tasks, fake.devices) == ("fake", ("echo",), ("chat",), ("cuda",))
    assert fake.features == ("tools",)
    assert fake.options == {"command": [sys.executable, SERVER, "{port}"], "ports": "9000"}
    assert set(fake.options) <= set(fake.local_options)


@pytest.mark.parametrize("where", ["here", "worker"])
def test_a_model_of_another_format_is_served_by_it(model: Path, where: Literal["here", "worker"]) -> None:
    with closing(opened(model, {"fake": FAKE}, where, backend="fake")) as runtime:
        texts = [event.text for event in runtime.generate("parrot", say("good day")) if isinstance(event, Text)]
        [loaded] = runtime.loaded()
    assert texts == ["good ", "day "]
    assert (loaded.plugin, loaded.backend) == ("command", "fake")


def test_several_builds_stand_side_by_side(model: Path) -> None:
    with closing(opened(model, {"old": FAKE, "recent": FAKE})) as runtime:
        names = [line.split()[1] for line in runtime.explain("parrot").lines() if not line.startswith("-")]
        assert names == ["echo", "old", "recent"]
    with closing(opened(model, {"old": FAKE, "recent": FAKE}, backend="recent")) as runtime:
        decision = runtime.explain("parrot")
        refused = {verdict.backend: verdict.refusal for verdict in decision.verdicts if verdict.points is None}
    assert decision.runner == "recent"
    assert refused["old"] == refused["echo"] == "the rule for this model names recent"


@pytest.mark.parametrize(("program", "why"), [("no-such-program", "is not in PATH"), ("/no/such", "is not where")])
def test_a_program_that_is_not_there_is_refused_before_it_is_tried(model: Path, program: str, why: str) -> None:
    with closing(opened(model, {"fake": {**FAKE, "command": program}, "good": FAKE})) as runtime:
        decision = runtime.explain("parrot")
        [gone] = [verdict for verdict in decision.verdicts if verdict.backend == "fake"]
        troubles = {state.backend.name: state.trouble for state in runtime.capabilities(probe=False)}
    assert (gone.gate, gone.points) == ("engine", None)
    assert f"its program {Path(program).name} {why}" in gone.refusal
    assert why in troubles["fake"]
    assert troubles["good"] == ""


def test_a_program_is_looked_for_where_its_own_variables_say(tmp_path: Path) -> None:
    program = tmp_path / "served"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    tables = {
        "fake": {**FAKE, "command": "served"},
        "own": {**FAKE, "command": "served", "env": {"PATH": str(tmp_path)}},
    }
    assert [bool(info.trouble) for info in command.list_backends(tables)] == [False, True, False]


def test_the_settings_know_what_stands_in_braces() -> None:
    assert set(values(plan({}), 1)) == set(PLACEHOLDERS)


def test_a_rule_adds_words_for_its_model(model: Path, tmp_path: Path) -> None:
    seen = tmp_path / "pid"
    more = {"args": ["0", str(seen)]}
    with closing(opened(model, {"fake": FAKE}, backend="fake", options=more)) as runtime:
        runtime.open("parrot")
        assert seen.exists()


def test_a_rule_that_names_what_is_not_there_is_a_fault_that_says_so(model: Path) -> None:
    with (
        closing(opened(model, {"fake": FAKE}, backend="fakee")) as runtime,
        pytest.raises(NoBackend, match=r"the rule for this model names fakee, and nothing of that name reads parrot"),
    ):
        runtime.open("parrot")


def test_words_variables_and_what_stands_in_braces(tmp_path: Path) -> None:
    script = (
        "import json, os, runpy, sys; json.dump([sys.argv[2:], os.environ['GPU'], 'PATH' in os.environ], "
        f"open({str(tmp_path / 'seen')!r}, 'w')); sys.argv[:] = sys.argv[:2]; "
        f"runpy.run_path({SERVER!r}, run_name='__main__')"
    )
    words = ["-c", script, "{port}", "{model_path}", "{context}", "{total_context}", "{parallel}", "{device}", "{x}"]
    given = options(command=[sys.executable, *words], args=["--more"])
    if os.name == "posix":
        given["env"] = {"GPU": "{device_kind} {device_index}"}
    loaded = command.load(plan(given, context=32, parallel=2))
    loaded.close()
    seen, gpu, has_path = json.loads((tmp_path / "seen").read_text())
    assert seen == [str(Path("/models/a/m.gguf")), "32", "64", "2", "cuda:1", "{x}", "--more"]
    assert (gpu, has_path) == ("cuda 1", True)


def test_what_a_file_of_weights_says_of_servers_is_not_believed() -> None:
    loaded = command.load(plan(options()))
    assert loaded._name == "the-fake"  # type: ignore[attr-defined]
    loaded.close()


def test_without_a_plan_for_an_accelerator_the_device_is_the_processor() -> None:
    from dataclasses import replace

    known = values(replace(plan({}), devices=()), 1)
    assert (known["device"], known["device_kind"], known["device_index"]) == ("cpu", "cpu", 0)


@pytest.mark.parametrize(("text", "wanted"), [("", None), ("9", range(9, 10)), ("9000-9002", range(9000, 9003))])
def test_ranges_of_ports(text: str, wanted: range | None) -> None:
    assert ports(text) == wanted


@pytest.mark.parametrize("text", ["9-8", "0", "70000", "9000-", "x"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(CommandOption, match="ports"):
        checked(Settings(options={"ports": text}))


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        yield stranger.getsockname()[1]


def free_after(first: int) -> int:
    """The end of a range from *first* on with a free port in it."""
    return next(port for port in range(first + 1, first + 200) if not taken(port))


def test_a_port_in_use_is_passed_over(listening: int) -> None:
    last = free_after(listening)
    loaded = command.load(plan(options(ports=f"{listening}-{last}")))
    port = loaded._server.port  # type: ignore[attr-defined]
    loaded.close()
    assert listening < port <= last


def test_a_range_without_a_free_port_is_a_fault(listening: int) -> None:
    with pytest.raises(LoadFailed, match=rf"no port of {listening}-{listening} is free"):
        command.load(plan(options(ports=str(listening))))


def test_a_claim_is_one_processes_and_is_given_back() -> None:
    claim = Claim.of(None)
    with pytest.raises(LoadFailed, match="is free"):
        Claim.of(range(claim.port, claim.port + 1))
    claim.close()
    Claim.of(range(claim.port, claim.port + 1)).close()


def test_a_stranger_who_answers_on_the_port_is_not_taken_for_the_command(tmp_path: Path) -> None:
    """It takes the port between our look and the command's start."""
    claim = Claim.of(None)
    stranger = Server([sys.executable, SERVER, str(claim.port)], Claim.of(None), tmp_path)
    try:
        while not taken(claim.port):
            pass
        late = Server([sys.executable, SERVER, str(claim.port)], claim, tmp_path)
        with pytest.raises(LoadFailed, match=f"Something else listens on port {claim.port}") as caught:
            late.wait_until_ready("/v1/models", 30)
        assert caught.value.details["port_taken"] is True
    finally:
        stranger.close()


@posix
def test_a_command_that_is_killed_is_told_of_and_started_anew(model: Path) -> None:
    with closing(opened(model, {"fake": FAKE}, backend="fake")) as runtime:
        loaded = runtime.open("parrot")
        running = loaded.generate(say("slow"), Stop())
        next(running)
        first = served(loaded._server.port)  # type: ignore[attr-defined]
        os.kill(first, signal.SIGKILL)
        with pytest.raises(WorkerDied, match="was ended by signal 9"):
            list(running)
        texts = [event.text for event in runtime.generate("parrot", say("again")) if isinstance(event, Text)]
        assert texts == ["again "]


def served(port: int) -> int:
    """The process that answers there."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/pid")
    found = int(json.loads(connection.getresponse().read())["pid"])
    connection.close()
    return found


def test_one_that_never_gets_ready_is_ended_with_its_last_lines() -> None:
    code = "import sys, time; print('loading', sys.argv[1], flush=True); time.sleep(600)"
    given = options(command=[sys.executable, "-c", code, "{port}"], args=[], ready_timeout_s=1.5)
    with pytest.raises(LoadFailed, match=r"was not ready after 1.5 s \(GET /v1/models\)") as caught:
        command.load(plan(given))
    assert caught.value.details["output"].startswith("loading ")


def test_an_option_that_it_has_not_is_refused_while_routing() -> None:
    with pytest.raises(Fault, match="command has no option 'threads'"):
        command.estimate_memory(Metadata(), Settings(options={"threads": 8}))


def test_estimates_by_the_models_shape_the_table_or_a_guess() -> None:
    shape = {"layers": 2, "kv_heads": 3, "key_length": 4, "value_length": 5}
    shaped = command.estimate_memory(Metadata(weight_bytes=7, extra=shape), Settings())
    assert (shaped.weights_bytes, shaped.bytes_per_token) == (7, 2 * 3 * (4 + 5) * 2)
    guessed = command.estimate_memory(Metadata(weight_bytes=7), Settings())
    assert (guessed.bytes_per_token, guessed.confidence) == (65536, 0.1)
    stated = command.estimate_memory(Metadata(weight_bytes=7), Settings(options={"memory_bytes": 99}))
    assert (stated.weights_bytes, stated.bytes_per_token) == (99, 0)
