"""`anyform serve` and the commands that talk to it: a real server in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from anyform.cli.client import Client, ServerRefused

Echo = Callable[..., Path]


class Served:
    """A running server, what it printed up to its example, and its URL."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.printed = ""
        for line in process.stdout or ():
            self.printed += line
            if line.startswith("curl "):
                break
        assert self.printed.startswith("anyform serves http://"), process.stderr and process.stderr.read()
        self.url = self.printed.split()[2].removesuffix("/v1")

    def post(self, path: str, body: object) -> Any:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)


@pytest.fixture
def served(cli: Any, echo: Echo) -> Iterator[Served]:
    echo("shelf/owner/raven/m", tasks=["complete"])
    with cli.start("serve", echo(), "--models", "shelf", "--port", "0", "--option", "delay_s=0.001") as process:
        yield Served(process)
        process.terminate()
        process.wait(20)


def test_says_what_it_serves_and_an_example_that_works(served: Served) -> None:
    rows = [line.split() for line in served.printed.splitlines()]
    assert ["parrot", "echo", "-", "echo"] in rows
    assert ["owner/raven", "echo", "-", "echo"] in rows
    example = served.printed.splitlines()[-1].replace("'", "")
    body = json.loads(example.partition(" -d ")[2])
    path = example.split()[1].removeprefix(served.url)
    assert served.post(path, body)["choices"]


def test_what_is_named_is_all_that_is_served(cli: Any, echo: Echo) -> None:
    """What the settings name beside it is left out, and keeps no server from starting."""
    echo("shelf/owner/raven/m")
    (cli.folder / "anyform.toml").write_text(
        'default_model = "nosuch"\n[models]\nfolders = ["shelf"]\npaths = ["gone"]\n'
    )
    with cli.start("serve", echo(), "--port", "0") as process:
        served = Served(process)
        assert "parrot" in served.printed
        assert "raven" not in served.printed
        process.terminate()
        assert "default_model of anyform.toml: there is no model 'nosuch'." in process.communicate(timeout=20)[1]


def test_ps_load_unload(served: Served, cli: Any) -> None:
    at = ("--url", served.url)
    assert "no model loaded" in cli("ps", *at).stderr
    loaded = cli("load", "owner/raven", "--context", "77", *at)
    assert (loaded.returncode, loaded.stdout) == (0, "owner/raven is ready (echo)\n")
    [model] = cli.json("ps", *at)
    assert (model["model"], model["context"]) == ("owner/raven", 77)
    rows = cli("ps", *at).stdout.splitlines()
    assert rows[0].startswith("MODEL")
    assert rows[1].split()[:4] == ["owner/raven", "ready", "echo", "cpu"]
    assert cli("unload", "owner/raven", *at).stdout == "owner/raven: unloaded\n"
    assert cli.json("ps", *at) == []
    assert cli("unload", "owner/raven", *at).stdout == "owner/raven: not-loaded\n"


def test_the_servers_own_words_come_through(served: Served, cli: Any) -> None:
    done = cli("load", "nobody", env={"ANYFORM_URL": served.url})
    assert done.returncode == 1
    assert "nobody" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_server_that_is_not_anyform_is_said(cli: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        with cli.start("ps", "--url", f"http://127.0.0.1:{listener.getsockname()[1]}") as process:
            connection, _ = listener.accept()
            connection.recv(4096)
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n<html>")
            connection.close()
            assert process.wait(30) == 1
            assert "not anyform" in process.stderr.read()


@pytest.mark.parametrize("error", [
    {"type": "not_found_error", "message": "Invalid URL (GET /runtime/status)."},
    {"code": "unknown_url", "message": "Invalid URL (GET /runtime/status)."},
])  # fmt: skip
def test_a_port_that_speaks_other_dialects_is_said(error: dict[str, str]) -> None:
    with pytest.raises(ServerRefused, match="name one where it speaks 'anyform'"):
        Client("http://127.0.0.1:1")._answer(404, json.dumps({"error": error}).encode())


def test_a_warning_of_who_may_reach_it_comes_once_it_listens(cli: Any, echo: Echo) -> None:
    done = cli("serve", echo(), "--port", "0", "--host", "192.0.2.1")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "This machine has no such address" in done.stderr


def test_a_port_in_use_is_one_line(served: Served, cli: Any, echo: Echo) -> None:
    port = served.url.rpartition(":")[2]
    done = cli("serve", echo(), "--port", port)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert port in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_it_in_good_order(cli: Any, echo: Echo, number: str) -> None:
    with cli.start("serve", echo(), "--port", "0", "--preload") as process:
        served = Served(process)
        [model] = cli.json("ps", "--url", served.url)
        process.send_signal(getattr(signal, number))
        assert process.wait(20) == 0
        assert "Traceback" not in process.stderr.read()
    assert gone(model["pid"])


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize("second", ["SIGINT", "SIGTERM"])
def test_a_second_signal_ends_it_at_once_and_as_quietly(cli: Any, echo: Echo, second: str) -> None:
    with cli.start("serve", echo(), "--port", "0", "--option", "delay_s=0.2") as process:
        served = Served(process)
        body = json.dumps({"model": "parrot", "prompt": "word " * 200, "max_tokens": 200, "stream": True}).encode()
        request = urllib.request.Request(f"{served.url}/v1/completions", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as stream:
            assert stream.readline().startswith(b"data: ")
            process.send_signal(signal.SIGINT)
            until_refused(int(served.url.rpartition(":")[2]))  # it ends, and waits for the answer
            process.send_signal(getattr(signal, second))
            assert b"stopping" in stream.read()
        assert process.wait(20) == 0
        logged = process.stderr.read()
    assert "Traceback" not in logged
    assert "ERROR" not in logged


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize("second", ["SIGINT", "SIGTERM"])
def test_signals_up_to_its_very_end_change_nothing(cli: Any, echo: Echo, second: str) -> None:
    with cli.start("serve", echo(), "--port", "0", "--preload") as process:
        served = Served(process)
        [model] = cli.json("ps", "--url", served.url)
        process.send_signal(signal.SIGINT)
        until_refused(int(served.url.rpartition(":")[2]))
        while process.poll() is None:
            process.send_signal(getattr(signal, second))
        assert process.returncode == 0
        assert "Traceback" not in process.stderr.read()
    assert gone(model["pid"])


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
def test_a_body_that_is_half_sent_is_no_error_when_the_server_ends(cli: Any, echo: Echo) -> None:
    lines = ("POST /v1/completions HTTP/1.1", "Host: localhost", "Content-Length: 100", "Expect: 100-continue", "", "")
    with cli.start("serve", echo(), "--port", "0") as process:
        served = Served(process)
        with socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2])), 20) as sock:
            sock.sendall("\r\n".join(lines).encode())
            assert sock.recv(1000).startswith(b"HTTP/1.1 100 ")  # the server waits for the body
            sock.sendall(b'{"model":')
            process.send_signal(signal.SIGTERM)
            answer = b"".join(iter(lambda: sock.recv(1000), b""))
        assert process.wait(20) == 0
        logged = process.stderr.read()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert "Traceback" not in logged
    assert "Cancel" not in logged


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGKILL")
def test_no_worker_outlives_a_killed_server(cli: Any, echo: Echo) -> None:
    with cli.start("serve", echo(), "--port", "0", "--preload") as process:
        [model] = cli.json("ps", "--url", Served(process).url)
        process.kill()
    assert gone(model["pid"])


def test_a_model_that_cannot_be_preloaded_keeps_no_other_from_being_served(cli: Any, echo: Echo) -> None:
    bad = echo("bad", context="many")
    with cli.start("serve", echo(), bad, "--port", "0", "--preload") as process:
        served = Served(process)
        assert ["bad", "echo", "-", "nothing:"] in [line.split()[:4] for line in served.printed.splitlines()]
        assert [model["model"] for model in cli.json("ps", "--url", served.url)] == ["parrot"]
        process.terminate()
        assert "bad is not loaded" in process.stderr.read()
    done = cli("serve", bad, "--port", "0", "--preload")
    assert done.returncode == 1
    assert "context is 'many'" in done.stderr


def test_settings_that_one_model_refuses_keep_no_other_from_being_served(cli: Any, echo: Echo, tmp_path: Path) -> None:
    (tmp_path / "anyform.toml").write_text('[model.bad]\noptions = { colour = "red" }\n')
    with cli.start("serve", echo("bad"), echo(), "--port", "0") as process:
        served = Served(process)
        assert served.post("/v1/completions", {"model": "parrot", "prompt": "x"})["choices"]
        process.terminate()
        assert process.wait(20) == 0
    rows = {line.split()[0]: line for line in served.printed.splitlines() if line}
    assert "nothing: " in rows["bad"]
    assert "no option 'colour'" in rows["bad"]
    done = cli("serve", echo("bad"), "--port", "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert "bad cannot be served so: " in done.stderr


def test_a_model_that_was_only_found_keeps_no_server_from_starting(cli: Any, echo: Echo, tmp_path: Path) -> None:
    """Not even alone; but options of the command that fit nothing of what was found are refused."""
    echo("shelf/bad")
    (tmp_path / "anyform.toml").write_text('[model.bad]\noptions = { colour = "red" }\n')
    with cli.start("serve", "--models", "shelf", "--port", "0") as process:
        served = Served(process)
        process.terminate()
        assert process.wait(20) == 0
    assert "no option 'colour'" in served.printed
    (tmp_path / "anyform.toml").unlink()
    done = cli("serve", "--models", "shelf", "--port", "0", "--option", "colour=red")
    assert (done.returncode, done.stdout) == (1, "")
    assert "bad cannot be served so: " in done.stderr


@pytest.mark.engine
def test_an_adapter_without_its_base_keeps_no_other_from_being_served(cli: Any, echo: Echo, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    adapter = tmp_path / "shelf" / "adapter"
    adapter.mkdir(parents=True)
    told = {"peft_type": "LORA", "base_model_name_or_path": "nobody/base", "task_type": "CAUSAL_LM", "r": 4}
    (adapter / "adapter_config.json").write_text(json.dumps(told))
    (adapter / "adapter_model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    echo("shelf/parrot")
    with cli.start("serve", "--models", "shelf", "--port", "0") as process:
        served = Served(process)
        process.terminate()
        assert process.wait(20) == 0
    rows = {line.split()[0]: line for line in served.printed.splitlines() if line}
    assert "nothing: " in rows["adapter"]
    assert rows["parrot"].split()[-1] == "echo"


def test_a_load_that_fails_is_told_once(cli: Any, echo: Echo) -> None:
    bad = echo("bad")
    with cli.start("serve", echo(), bad, "--port", "0", "--preload", "--option", "crash=load") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    lines = [line for line in err.splitlines() if "WARNING" not in line]
    assert [line.partition(":")[0] for line in lines] == ["bad is not loaded", "anyform"]
    assert "died" not in lines[0]


def test_a_context_that_does_not_fit_is_refused_at_once(cli: Any, echo: Echo) -> None:
    huge = str(10**15)
    done = cli("serve", echo(), "--port", "0", "--context", huge)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert f"at context {huge}" in done.stderr
    assert "Try --context " in done.stderr


def test_a_model_whose_context_does_not_fit_is_marked_and_is_no_example(cli: Any, echo: Echo, tmp_path: Path) -> None:
    (tmp_path / "anyform.toml").write_text(f"[model.big]\ncontext = {10**15}\n")
    with cli.start("serve", echo("big"), echo("small"), "--port", "0") as process:
        served = Served(process)
        process.terminate()
        process.wait(20)
    rows = {line.split()[0]: line for line in served.printed.splitlines() if line}
    assert "refused: needs" in rows["big"]
    assert '"model": "small"' in rows["curl"]


@pytest.mark.parametrize(
    ("task", "more"),
    [
        ("transcribe", "/v1/audio/transcriptions -F model=m -F file=@speech.mp3"),
        ("speak", """/v1/audio/speech -H 'Content-Type: application/json' -d '{"model": "m", "input": "Hello!"}' -o"""),
    ],
)
def test_the_example_is_one_that_the_model_can_answer(cli: Any, echo: Echo, task: str, more: str) -> None:
    with cli.start("serve", echo("m", tasks=[task]), "--port", "0") as process:
        served = Served(process)
        process.terminate()
        process.wait(20)
    assert served.printed.splitlines()[-1].startswith(f"curl {served.url}{more}")


@pytest.mark.parametrize(
    ("more", "host"), [((), r"[\w.:\[\]-]+"), (("--allow-host", "models.example"), r"models\.example")]
)
def test_on_all_interfaces_an_address_for_others_is_told(cli: Any, echo: Echo, more: Sequence[str], host: str) -> None:
    with cli.start("serve", echo(), "--port", "0", "--host", "0.0.0.0", *more) as process:
        served = Served(process)
        process.terminate()
        assert "listening on all interfaces" in process.stderr.read()
    port = served.url.rpartition(":")[2]
    line = served.printed.splitlines()[1]
    assert re.fullmatch(rf"on all interfaces; from other machines: http://{host}:{port}/v1", line)
    assert "127.0.0.1" not in line


def test_no_models_is_said_and_served(cli: Any, tmp_path: Path) -> None:
    with cli.start("serve", "--models", tmp_path, "--port", "0") as process:
        lines = [process.stdout.readline() for _ in range(3)]
        assert "no models" in lines[2]
        process.terminate()


def until_refused(port: int, limit_s: float = 15.0) -> None:
    """Wait until nobody listens there any more."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
        except OSError:
            return
    raise AssertionError(f"port {port} is still listened on")


def gone(pid: int, limit_s: float = 15.0) -> bool:
    """Whether the process has ended, or does within the limit."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_what_no_request_could_mend_keeps_it_from_serving(cli: Any, echo: Echo, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for wrong, words in (
        ([str(tmp_path / "empty")], "no installed plugin recognises"),
        ([str(echo("talk")), "--option", "colour=red"], "no option 'colour'"),
    ):
        done = cli("serve", *wrong, "--port", "0")
        assert done.returncode == 1
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_further_listener_speaks_what_it_is_to_and_is_not_the_one_to_manage(cli: Any, echo: Echo) -> None:
    with cli.start("serve", echo(), "--port", "0", "--listen", "0=openai") as process:
        lines = list(iter(lambda: process.stdout.readline().rstrip(), "LISTENS AT              SPEAKS"))
        main, other = (process.stdout.readline().split() for _ in range(2))
        assert lines[0].startswith(f"anyform serves {main[0]}/v1 ")
        assert main[1:3] == ["openai", "anyform"]
        assert other[1:] == ["openai"]
        with urllib.request.urlopen(f"{other[0]}/v1/models", timeout=20) as answer:
            assert [one["id"] for one in json.load(answer)["data"]] == ["parrot"]
        assert cli("ps", "--url", main[0]).returncode == 0
        done = cli("ps", "--url", other[0])
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert f"{other[0]} answered 404, which is not anyform's." in done.stderr
        assert "name one where it speaks 'anyform'" in done.stderr
        port = other[0].rpartition(":")[2]
        taken = cli("serve", echo(), "--port", "0", "--listen", f"{port}=openai,anyform")
        assert (taken.returncode, taken.stdout, len(taken.stderr.splitlines())) == (1, "", 1)
        assert f"port {port}, the listener for openai, anyform" in taken.stderr
        process.terminate()
