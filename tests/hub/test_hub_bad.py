"""Bad situations: each ends in one sentence that says what to do, loses nothing, and registers nothing by half."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from anyform.contract.errors import Category, Fault
from anyform.contract.model import Stop
from anyform.sources.hub import Hub
from anyform.sources.hubpull import Pulled
from anyform.testing.gguf import write_llama

from .conftest import QUICK, Cli
from .server import TOKEN, LoopbackHub

Get = Callable[..., Pulled]
DATA = bytes(range(256)) * 1024
MIB = 1 << 20


@pytest.fixture(autouse=True)
def repository(hub: LoopbackHub) -> None:
    hub.add("owner/data", {"data.bin": DATA, "small.json": b'{"a": 1}'})


def shown(home: Path) -> list[str]:
    """What a person sees in anyform's own folder: hidden files and folders are not models."""
    paths = [path for path in home.rglob("*") if path.is_file()]
    return sorted(
        str(path.relative_to(home))
        for path in paths
        if not any(p.startswith(".") for p in path.relative_to(home).parts)
    )


def refused(cli: Cli, *arguments: str, env: dict[str, str] | None = None) -> str:
    """The one line in which `anyform pull` fails with exit code 1, having registered nothing."""
    done = cli("pull", *arguments, env=env)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert shown(cli.home) == []
    assert not list(cli.home.rglob(".anyform.json"))
    lines = [line for line in done.stderr.splitlines() if not line.startswith("pulling ")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("anyform: ")
    assert lines[0].endswith(".")
    return lines[0]


def failed(get: Get, home: Path, **more: object) -> Fault:
    """The fault in which a pull of owner/data ends, having registered nothing."""
    with pytest.raises(Fault) as caught:
        get("owner/data", names=("data.bin",), **more)
    assert shown(home) == []
    assert caught.value.message.endswith(".")
    assert caught.value.hint.endswith(".")
    return caught.value


def test_a_gated_repository_without_a_token(hub: LoopbackHub, cli: Cli) -> None:
    hub.repositories["owner/data"].gated = True
    said = refused(cli, "owner/data", "--file", "data.bin")
    assert "gated" in said
    assert f"{hub.endpoint}/owner/data" in said
    assert "anyform login" in said


def test_a_gated_repository_that_the_account_may_not_read(hub: LoopbackHub, cli: Cli) -> None:
    hub.repositories["owner/data"].gated = True
    said = refused(cli, "owner/data", "--file", "data.bin", env={"HF_TOKEN": TOKEN})
    assert "may not read it yet" in said
    assert "Ask for access" in said


def test_a_token_that_the_hub_does_not_know(cli: Cli) -> None:
    said = refused(cli, "owner/data", "--file", "data.bin", env={"HF_TOKEN": "hf_wrongwrongwrong"})
    assert "refuses the token" in said
    assert "hf_wrong" not in said


def test_a_missing_repository_and_the_nearest(cli: Cli) -> None:
    said = refused(cli, "owner/dataa")
    assert "no model repository 'owner/dataa'" in said
    assert "Nearest: owner/data." in said


def test_a_missing_revision(cli: Cli) -> None:
    assert "no such revision" in refused(cli, "owner/data@v9")


def test_a_missing_file(cli: Cli) -> None:
    said = refused(cli, "owner/data", "--file", "dota.bin")
    assert "no file 'dota.bin'" in said
    assert "data.bin, small.json" in said


def test_a_file_that_goes_between_listing_and_download(hub: LoopbackHub, cli: Cli) -> None:
    hub.trouble("/resolve/", status=404, headers={"X-Error-Code": "EntryNotFound"})
    assert "has no file data.bin" in refused(cli, "owner/data", "--file", "data.bin")


def test_a_name_that_is_none(cli: Cli) -> None:
    for name in ("../../etc", "a/b/c", "owner/da ta", "owner/..", "owner"):
        assert "does not name a repository" in refused(cli, "--", name)


def test_a_format_that_no_plugin_knows(cli: Cli) -> None:
    said = refused(cli, "owner/data")
    assert "no installed plugin recognises" in said
    assert "--include PATTERN" in said


def test_offline_by_option(hub: LoopbackHub, cli: Cli) -> None:
    assert "--offline" in refused(cli, "owner/data", "--offline")
    assert hub.requests == []


def test_offline_by_setting_and_by_variable(hub: LoopbackHub, cli: Cli) -> None:
    for name in ("ANYFORM_OFFLINE", "HF_HUB_OFFLINE"):
        assert "Go online" in refused(cli, "owner/data", env={name: "1"})
    assert hub.requests == []


def test_nothing_listens(get: Get, home: Path) -> None:
    fault = failed(get, home, hub=Hub("http://127.0.0.1:9", patience=QUICK))
    assert fault.code == "hub_unreachable"
    assert "HF_ENDPOINT" in fault.hint


def test_a_hub_that_fails_and_goes_on_failing(hub: LoopbackHub, get: Get, home: Path) -> None:
    hub.trouble("/api/models/", status=503, times=99)
    assert "status 503" in failed(get, home).message
    assert len(hub.asked("/api/models/")) == QUICK.tries


def test_a_rate_limit_that_lasts_is_told_at_once(hub: LoopbackHub, cli: Cli) -> None:
    hub.trouble("/api/models/", status=429, headers={"Retry-After": "3600"}, times=99)
    assert "Try again in 3600 s" in refused(cli, "owner/data")
    assert len(hub.asked("/api/models/")) == 1


def test_a_rate_limit_of_a_file(hub: LoopbackHub, get: Get, home: Path) -> None:
    hub.trouble("/resolve/", status=429, headers={"RateLimit": '"resolvers";r=0;t=299'}, times=99)
    fault = failed(get, home)
    assert (fault.code, fault.category, fault.details["retry_after_s"]) == ("rate_limited", Category.BUSY, 299)


def test_a_hub_that_stalls_in_its_listing(hub: LoopbackHub, get: Get, home: Path) -> None:
    hub.stall_listing = True
    fault = failed(get, home)
    assert fault.code == "hub_timeout"
    assert "HF_HUB_DOWNLOAD_TIMEOUT" in fault.hint


def test_a_file_that_stalls_for_ever_keeps_what_came(hub: LoopbackHub, get: Get, home: Path) -> None:
    hub.trouble("/cdn/", stall_after=100_000)
    hub.trouble("/cdn/", stall_after=0, times=99)
    assert failed(get, home).code == "hub_timeout"
    hub.troubles.clear()
    before = hub.bytes_served
    get("owner/data", names=("data.bin",))
    assert hub.bytes_served - before <= len(DATA) - 65536


def test_a_connection_that_always_breaks(hub: LoopbackHub, get: Get, home: Path) -> None:
    hub.trouble("/cdn/", cut_after=0, times=99)
    assert failed(get, home).code == "hub_unreachable"


def test_wrong_bytes_never_become_a_file(hub: LoopbackHub, get: Get, home: Path) -> None:
    hub.trouble("/cdn/", spoil=True, times=99)
    fault = failed(get, home)
    assert fault.code == "corrupt_download"
    assert not list(home.rglob("*.part"))


def test_wrong_bytes_of_a_small_file_are_known_by_gits_own_sum(hub: LoopbackHub, get: Get, home: Path) -> None:
    hub.trouble("small.json", spoil=True, times=99)
    with pytest.raises(Fault, match="checksum"):
        get("owner/data", names=("small.json",))
    assert shown(home) == []


def test_another_size_than_listed(hub: LoopbackHub, get: Get, home: Path) -> None:
    hub.repositories["owner/data"].files["data.bin"].claimed_size = len(DATA) + 1
    fault = failed(get, home)
    assert f"has {len(DATA)} bytes where the hub lists {len(DATA) + 1}" in fault.message


def test_a_disk_with_too_little_room(hub: LoopbackHub, cli: Cli) -> None:
    hub.repositories["owner/data"].files["data.bin"].claimed_size = 1 << 50
    said = refused(cli, "owner/data", "--file", "data.bin")
    assert "needs 1048576.0 GiB" in said
    assert "anyform du" in said
    assert hub.bytes_served == 0


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files with ulimit")
def test_a_disk_that_fills_up_meanwhile_keeps_what_came(hub: LoopbackHub, cli: Cli) -> None:
    hub.add("owner/large", {"large.bin": bytes(4 * MIB)})
    command = [sys.executable, "-m", "anyform", "pull", "owner/large", "--file", "large.bin"]
    limited = ["bash", "-c", 'ulimit -f 2048 && exec "$@"', "bash", *command]
    done = subprocess.run(
        limited, capture_output=True, text=True, env=cli.environment(), cwd=cli.folder, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert shown(cli.home) == []
    before = hub.bytes_served
    assert cli("pull", "owner/large", "--file", "large.bin").returncode == 0
    assert hub.bytes_served - before <= 3 * MIB


def test_a_home_that_is_no_folder(cli: Cli) -> None:
    cli.home.parent.mkdir(parents=True)
    cli.home.write_text("a file")
    done = cli("pull", "owner/data", "--file", "data.bin")
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert cli.home.read_text() == "a file"


def test_a_portal_that_answers_in_the_hubs_place(hub: LoopbackHub, cli: Cli) -> None:
    hub.trouble("/api/models/", status=200, body=b"<html>Welcome to our hotel</html>", times=99)
    assert "something else than expected" in refused(cli, "owner/data")


def test_ctrl_c_stops_and_the_next_pull_goes_on(hub: LoopbackHub, cli: Cli) -> None:
    hub.add("owner/large", {"large.bin": bytes(4 * MIB)})
    hub.rate = MIB / 2
    process = cli.start("pull", "owner/large", "--file", "large.bin")
    hub.wait_for_bytes(MIB)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "anyform pull owner/large --file large.bin` goes on where it was" in said
    assert shown(cli.home) == []
    hub.rate, before = 0, hub.bytes_served
    assert cli("pull", "owner/large", "--file", "large.bin").returncode == 0
    assert hub.bytes_served - before < 4 * MIB - MIB // 2


def test_a_stop_ends_a_stalled_download_at_once(hub: LoopbackHub, get: Get, home: Path) -> None:
    hub.trouble("/cdn/", stall_after=100_000, times=99)
    stop = Stop()
    patient = Hub(hub.endpoint)

    def watch(state: object) -> None:
        if hub.bytes_served >= 100_000:
            stop.set()

    fault = failed(get, home, hub=patient, stop=stop, watch=watch)
    assert fault.code == "cancelled"


def test_a_failed_pull_leaves_what_was_pulled_before(hub: LoopbackHub, cli: Cli) -> None:
    assert cli("pull", "owner/data", "--file", "small.json").returncode == 0
    hub.trouble("/cdn/", status=403, times=99)
    assert cli("pull", "owner/data", "--file", "data.bin").returncode == 1
    assert shown(cli.home) == ["owner/data/small.json"]
    record = json.loads((cli.home / "owner" / "data" / ".anyform.json").read_text())
    assert list(record["files"]) == ["small.json"]


def test_a_damaged_record_is_written_anew(cli: Cli) -> None:
    assert cli("pull", "owner/data", "--file", "data.bin").returncode == 0
    record = cli.home / "owner" / "data" / ".anyform.json"
    record.write_text('{"files": [')
    assert cli("pull", "owner/data", "--file", "data.bin").returncode == 0
    assert json.loads(record.read_text())["files"]["data.bin"]["complete"] is True


def test_a_hub_that_knows_no_ranges_still_gives_the_right_bytes(hub: LoopbackHub, get: Get, home: Path) -> None:
    hub.trouble("/cdn/", cut_after=100_000)
    hub.trouble("/cdn/", ignore_range=True)
    get("owner/data", names=("data.bin",))
    assert (home / "owner" / "data" / "data.bin").read_bytes() == DATA


def test_what_breaks_now_and_then_still_arrives(hub: LoopbackHub, get: Get, home: Path) -> None:
    hub.trouble("/api/models/", status=502)
    hub.trouble("/resolve/", status=500)
    hub.trouble("/cdn/", cut_after=70_000, times=2)
    hub.trouble("/cdn/", status=429, headers={"Retry-After": "0"})
    pulled = get("owner/data", names=("data.bin",))
    assert (home / "owner" / "data" / "data.bin").read_bytes() == DATA
    assert pulled.fetched_bytes == len(DATA)


def test_a_long_wait_is_told(hub: LoopbackHub, cli: Cli) -> None:
    hub.trouble("/api/models/", status=429, headers={"Retry-After": "2"})
    done = cli("pull", "owner/data", "--file", "data.bin")
    assert done.returncode == 0
    assert "Trying again in 2 s." in done.stderr


def test_a_model_that_is_damaged_at_its_origin_is_told(hub: LoopbackHub, cli: Cli, tmp_path: Path) -> None:
    path = write_llama(tmp_path / "origin" / "short.gguf")
    hub.add("owner/short", {"short.gguf": path.read_bytes()[:-5000]})
    done = cli("pull", "owner/short")
    assert done.returncode == 1
    assert "critical: short.gguf" in done.stderr
    assert "truncated" in done.stderr
