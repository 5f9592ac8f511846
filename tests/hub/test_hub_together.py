"""Pulls at the same time, and pulls on request."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from anyform.sources.hubmeter import PullState
from anyform.sources.hubpull import Pulled

from .conftest import Cli
from .server import LoopbackHub

Get = Callable[..., Pulled]
MIB = 1 << 20
ECHO = json.dumps({"format": "echo"}).encode()


def test_two_pulls_in_one_process_are_one_download(hub: LoopbackHub, get: Get) -> None:
    hub.add("owner/data", {"data.bin": bytes(2 * MIB)})
    hub.rate = 4 * MIB
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda _: get("owner/data", names=("data.bin",)), range(2))
    assert sorted([first.fetched_bytes, second.fetched_bytes]) == [0, 2 * MIB]
    assert hub.bytes_served == 2 * MIB


def test_two_pulls_in_two_processes_are_one_download(hub: LoopbackHub, cli: Cli) -> None:
    hub.add("owner/data", {"data.bin": bytes(2 * MIB)})
    hub.rate = MIB / 8
    first = cli.start("pull", "owner/data", "--file", "data.bin")
    hub.wait_for_bytes(MIB // 4)
    second = cli.start("pull", "owner/data", "--file", "data.bin")
    assert second.stderr is not None
    assert "another anyform is pulling it" in second.stderr.readline()
    hub.rate = 0
    said = second.communicate(timeout=60)
    assert (first.wait(60), second.returncode) == (0, 0)
    assert "all here" in said[0]
    assert hub.bytes_served == 2 * MIB


def test_who_waits_goes_on_where_a_killed_one_was(hub: LoopbackHub, cli: Cli) -> None:
    hub.add("owner/data", {"data.bin": bytes(2 * MIB)})
    hub.rate = MIB / 8
    first = cli.start("pull", "owner/data", "--file", "data.bin")
    hub.wait_for_bytes(MIB // 2)
    second = cli.start("pull", "owner/data", "--file", "data.bin")
    assert second.stderr is not None
    assert "another anyform" in second.stderr.readline()
    first.kill()
    hub.rate = 0
    second.communicate(timeout=60)
    assert second.returncode == 0
    first.communicate()
    assert hub.bytes_served < 2.6 * MIB


def test_small_files_come_at_once_and_progress_only_grows(hub: LoopbackHub, get: Get) -> None:
    hub.add("owner/many", {f"part{number:02}.bin": bytes([number]) * 65_536 for number in range(24)})
    hub.rate = 512 * 1024
    states: list[PullState] = []
    get("owner/many", include=("*",), watch=states.append)
    assert hub.most_at_once > 1
    shares = [state.done_bytes for state in states if state.stage == "downloading"]
    assert shares == sorted(shares)
    assert states[-1].stage == "done"
    assert (states[-1].done_bytes, states[-1].files_done) == (24 * 65_536, 24)
    middle = [state for state in states if state.rate and state.left_s]
    assert middle
    assert all(state.rate < 16 * hub.rate for state in middle)


def test_run_pulls_on_first_use(hub: LoopbackHub, cli: Cli) -> None:
    hub.add("owner/parrot", {"parrot.echo": ECHO, "weights.bin": bytes(5000)})
    done = cli("run", "owner/parrot", "hello there")
    assert done.returncode == 0, done.stderr
    assert "hello there" in done.stdout
    assert (cli.home / "owner" / "parrot" / "parrot.echo").exists()
    before = len(hub.requests)
    assert cli("run", "owner/parrot", "again").returncode == 0
    assert len(hub.requests) == before


def test_run_with_a_folder_of_models_still_finds_what_it_pulled(hub: LoopbackHub, cli: Cli, tmp_path: Path) -> None:
    hub.add("owner/parrot", {"parrot.echo": ECHO})
    (tmp_path / "other").mkdir()
    done = cli("run", "owner/parrot", "hello", "--models", "other")
    assert (done.returncode, done.stdout) == (0, "hello\n") or "hello" in done.stdout, done.stderr


def test_run_offline_says_so(hub: LoopbackHub, cli: Cli) -> None:
    hub.add("owner/parrot", {"parrot.echo": ECHO})
    done = cli("run", "owner/parrot", "hello", "--offline")
    assert done.returncode == 1
    assert "--offline" in done.stderr
    assert hub.requests == []


def test_serve_pulls_on_request_where_it_was_told_to(hub: LoopbackHub, cli: Cli) -> None:
    hub.add("owner/parrot", {"parrot.echo": ECHO})
    process = cli.start("serve", "--pull", "--port", "0")
    try:
        assert process.stdout is not None
        url = next(part for line in process.stdout for part in line.split() if part.startswith("http://"))
        body = {"model": "owner/parrot", "messages": [{"role": "user", "content": "hello"}]}
        answer = httpx.post(f"{url.removesuffix('/v1')}/v1/chat/completions", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        assert "hello" in answer.json()["choices"][0]["message"]["content"]
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert (cli.home / "owner" / "parrot" / "parrot.echo").exists()
