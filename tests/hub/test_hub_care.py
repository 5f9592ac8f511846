"""Deleting, checking and counting what was pulled."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from anyform.testing.gguf import write_llama, write_mmproj

from .conftest import Cli
from .server import LoopbackHub


@pytest.fixture
def seeing(hub: LoopbackHub, cli: Cli, tmp_path: Path) -> Path:
    """owner/eye in two quantizations with one projector, both pulled; its folder."""
    origin = tmp_path / "origin"
    for quantization in ("Q8_0", "F16"):
        write_llama(origin / f"eye-{quantization}.gguf", quantization=quantization)
    write_mmproj(origin / "mmproj-F16.gguf")
    hub.add("owner/eye", {path.name: path for path in origin.iterdir()})
    for variant in ("Q8_0", "F16"):
        assert cli("pull", f"owner/eye:{variant}").returncode == 0
    return cli.home / "owner" / "eye"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_rm_keeps_what_another_model_needs_and_then_takes_it_along(seeing: Path, cli: Cli) -> None:
    first = cli("rm", "owner/eye:F16")
    assert first.returncode == 0, first.stderr
    assert "kept mmproj-F16.gguf" in first.stdout
    assert names(seeing) == [".anyform.json", "eye-Q8_0.gguf", "mmproj-F16.gguf"]
    record = json.loads((seeing / ".anyform.json").read_text())
    assert sorted(record["files"]) == ["eye-Q8_0.gguf", "mmproj-F16.gguf"]
    assert cli("rm", "owner/eye").returncode == 0
    assert not seeing.parent.exists()
    assert cli("rm", "owner/eye").returncode == 1


def test_rm_leaves_what_a_person_put_there(seeing: Path, cli: Cli) -> None:
    (seeing / "notes.txt").write_text("mine")
    for variant in ("F16", "Q8_0"):
        assert cli("rm", f"owner/eye:{variant}").returncode == 0
    assert names(seeing) == ["notes.txt"]


def test_rm_outside_of_our_own_folder_needs_force(cli: Cli, tmp_path: Path) -> None:
    path = write_llama(tmp_path / "mine" / "mine.gguf")
    refused = cli("rm", "mine", "--models", tmp_path / "mine")
    assert refused.returncode == 1
    assert "--force" in refused.stderr
    assert path.exists()
    assert cli("rm", "mine", "--models", tmp_path / "mine", "--force").returncode == 0
    assert not path.exists()


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_rm_of_a_link_leaves_what_it_leads_to(cli: Cli, tmp_path: Path) -> None:
    path = write_llama(tmp_path / "elsewhere" / "linked.gguf")
    link = cli.home / "owner" / "linked" / "linked.gguf"
    link.parent.mkdir(parents=True)
    link.symlink_to(path)
    cli("rm", "owner/linked")
    assert path.exists()


def test_rm_and_clean_leave_a_running_pull_alone(hub: LoopbackHub, cli: Cli) -> None:
    hub.add("owner/data", {"data.bin": bytes(1 << 20), "parrot.echo": b'{"format": "echo"}'})
    assert cli("pull", "owner/data").returncode == 0
    hub.rate = 1 << 16
    process = cli.start("pull", "owner/data", "--file", "data.bin")
    hub.wait_for_bytes(1 << 16)
    for command in (["rm", "owner/data"], ["clean", "--yes"]):
        done = cli(*command)
        assert done.returncode == 1
        assert "is being pulled" in done.stderr
    hub.rate = 0
    assert process.wait(60) == 0
    assert names(cli.home / "owner" / "data") == [".anyform.json", "data.bin", "parrot.echo"]


def test_clean_takes_what_is_incomplete_and_asks_first(hub: LoopbackHub, seeing: Path, cli: Cli) -> None:
    hub.add("owner/data", {"data.bin": bytes(1 << 20)})
    hub.rate = 1 << 18
    process = cli.start("pull", "owner/data", "--file", "data.bin")
    hub.wait_for_bytes(1 << 19)
    process.kill()
    process.wait()
    part = cli.home / "owner" / "data" / ".incomplete"
    assert list(part.iterdir())
    unasked = cli("clean")
    assert unasked.returncode == 1
    assert "--yes" in unasked.stderr
    assert list(part.iterdir())
    assert "freed" in cli("clean", "--yes").stdout
    assert not part.parent.exists()
    assert names(seeing) == [".anyform.json", "eye-F16.gguf", "eye-Q8_0.gguf", "mmproj-F16.gguf"]
    assert cli("clean").stdout == "nothing to delete\n"


def test_clean_all_takes_what_was_pulled_and_nothing_else(seeing: Path, cli: Cli) -> None:
    write_llama(seeing / "own.gguf")
    cli("clean", "--all", "--yes")
    assert names(seeing) == ["own.gguf"]


def test_verify_finds_one_changed_byte(seeing: Path, cli: Cli) -> None:
    sound = json.loads(cli("verify", "--json").stdout)
    assert [(one["model"], one["sound"]) for one in sound] == [("owner/eye:F16", True), ("owner/eye:Q8_0", True)]
    assert sound[1]["proven"] == ["eye-Q8_0.gguf", "mmproj-F16.gguf"]
    path = seeing / "eye-Q8_0.gguf"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    done = cli("verify", "owner/eye:Q8_0")
    assert done.returncode == 1
    assert "eye-Q8_0.gguf has the SHA-256" in done.stdout
    assert cli("verify", "owner/eye:F16").returncode == 0
    assert cli("pull", "owner/eye:Q8_0").returncode == 0  # which mends it
    assert cli("verify").returncode == 0


def test_du_counts_a_shared_file_once(seeing: Path, cli: Cli) -> None:
    said = json.loads(cli("du", "--json").stdout)
    there = {path.name: path.stat().st_size for path in seeing.glob("*.gguf")}
    assert said["sources"] == {"anyform": sum(there.values())}
    assert {one["name"] for one in said["models"]} == {"owner/eye:F16", "owner/eye:Q8_0"}
    assert said["free_bytes"] > 0
    assert "free: " in cli("du").stdout


def test_validate_says_what_the_registry_says(seeing: Path, cli: Cli, tmp_path: Path) -> None:
    said = json.loads(cli("validate", seeing / "eye-Q8_0.gguf", "--json").stdout)
    assert set(said) >= {"format", "valid", "files", "message", "findings"}
    assert (said["format"], said["valid"], said["findings"]) == ("gguf", True, [])
    (tmp_path / "broken.gguf").write_bytes((seeing / "eye-Q8_0.gguf").read_bytes()[:5000])
    (tmp_path / "stranger.txt").write_text("hello")
    done = cli("validate", tmp_path / "broken.gguf", tmp_path / "stranger.txt", seeing, "--json")
    assert done.returncode == 1
    verdicts = json.loads(done.stdout)
    assert [verdict["valid"] for verdict in verdicts] == [False, False, True, True]
    assert verdicts[0]["findings"]
    assert "no installed plugin recognises" in verdicts[1]["message"]
    by_name = json.loads(cli("validate", "owner/eye:F16", "--json").stdout)
    assert by_name["valid"] is True
