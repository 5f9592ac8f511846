"""What the Hugging Face cache holds whole is copied, not fetched; the cache and the copy do each other no harm."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anyform.sources import hubcopy
from anyform.sources.hub import Hub
from anyform.sources.hubfault import Cancelled
from anyform.sources.hubmeter import PullState
from anyform.sources.hubname import require
from anyform.sources.hubpull import Pulled
from anyform.testing.store import write_snapshot

from .conftest import Cli
from .server import LoopbackHub

Get = Callable[..., Pulled]
MIB = 1 << 20
HEADS = 1 << 16
"""More than the heads that are read to know what the files are, far less than any of the files."""
DATA = {"big.bin": bytes(range(256)) * 4096, "config.json": b'{"a": 1}', "deep/more.bin": b"\1" * 5000}


def elsewhere() -> list[str]:
    """Folders of other file systems, from which the kernel does not copy by itself."""
    return [folder for folder in ("/dev/shm",) if Path(folder).is_dir()]


@pytest.fixture(params=["same file system", *elsewhere()])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if request.param == "same file system":
        yield tmp_path / "hf" / "hub"
        return
    with tempfile.TemporaryDirectory(dir=request.param) as folder:
        yield Path(folder) / "hub"


@pytest.fixture
def repository(hub: LoopbackHub) -> LoopbackHub:
    hub.add("owner/data", DATA)
    return hub


def state_of(folder: Path) -> dict[str, tuple[int, int, int, int]]:
    """Every file's time of change, inode, links and size, of which not one may differ."""
    stats = {str(path): path.lstat() for path in sorted(folder.rglob("*")) if not path.is_dir()}
    return {path: (stat.st_ctime_ns, stat.st_ino, stat.st_nlink, stat.st_size) for path, stat in stats.items()}


def blob_of(snapshot: Path, name: str) -> Path:
    return (snapshot / name).resolve()


def test_what_the_cache_holds_is_copied_and_nothing_fetched(
    repository: LoopbackHub, get: Get, cache: Path, home: Path
) -> None:
    write_snapshot(cache, "owner/data", DATA)
    before = state_of(cache)
    pulled = get("owner/data", include=("*",), cache=cache)
    assert (pulled.fetched_bytes, pulled.copied_bytes) == (0, sum(map(len, DATA.values())))
    assert repository.bytes_served == 0
    assert {name: (home / "owner" / "data" / name).read_bytes() for name in DATA} == DATA
    assert state_of(cache) == before
    record = json.loads((home / "owner" / "data" / ".anyform.json").read_text())
    assert all(facts["complete"] and facts["sha256"] for facts in record["files"].values())
    assert sorted(path.name for path in (home / "owner" / "data").iterdir()) == [
        ".anyform.json", "big.bin", "config.json", "deep",
    ]  # fmt: skip
    again = get("owner/data", include=("*",), cache=cache)
    assert (again.fetched_bytes, again.copied_bytes) == (0, 0)


def test_a_copy_and_its_origin_do_each_other_no_harm(
    repository: LoopbackHub, get: Get, cache: Path, home: Path
) -> None:
    snapshot = write_snapshot(cache, "owner/data", DATA)
    get("owner/data", include=("*",), cache=cache)
    ours = home / "owner" / "data" / "big.bin"
    with ours.open("r+b") as file:
        file.write(b"edited")
    assert (snapshot / "big.bin").read_bytes() == DATA["big.bin"]
    with blob_of(snapshot, "deep/more.bin").open("r+b") as file:
        file.write(b"edited")
    assert (home / "owner" / "data" / "deep" / "more.bin").read_bytes() == DATA["deep/more.bin"]
    ours.unlink()
    assert (snapshot / "big.bin").read_bytes() == DATA["big.bin"]


def test_only_what_is_missing_there_is_fetched(repository: LoopbackHub, get: Get, cache: Path, home: Path) -> None:
    write_snapshot(cache, "owner/data", {name: DATA[name] for name in ("big.bin", "config.json")})
    pulled = get("owner/data", include=("*",), cache=cache)
    assert pulled.copied_bytes == len(DATA["big.bin"]) + len(DATA["config.json"])
    assert pulled.fetched_bytes == len(DATA["deep/more.bin"])
    repository.wait_for_bytes(5000)  # it counts a block once it is written, which may be after it was read
    assert dict(repository.served) == {"deep/more.bin": 5000}
    assert (home / "owner" / "data" / "deep" / "more.bin").read_bytes() == DATA["deep/more.bin"]


def spoilt(blob: Path) -> None:
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)


def shortened(blob: Path) -> None:
    os.truncate(blob, blob.stat().st_size - 1)


def unfinished(blob: Path) -> None:
    blob.rename(f"{blob}.incomplete")


@pytest.mark.parametrize("harm", [spoilt, shortened, unfinished])
def test_what_is_damaged_there_is_fetched(
    repository: LoopbackHub,
    get: Get,
    cache: Path,
    home: Path,
    harm: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    snapshot = write_snapshot(cache, "owner/data", DATA)
    harm(blob_of(snapshot, "big.bin"))
    before = state_of(cache)
    pulled = get("owner/data", include=("*",), cache=cache)
    assert (pulled.fetched_bytes, pulled.copied_bytes) == (MIB, 5008)
    assert (home / "owner" / "data" / "big.bin").read_bytes() == DATA["big.bin"]
    assert state_of(cache) == before
    assert not list((home / "owner" / "data").rglob("*.copy"))
    assert ("big.bin is damaged in the Hugging Face cache" in caplog.text) == (harm is spoilt)


def test_another_revision_there_lends_what_is_the_same(
    repository: LoopbackHub, get: Get, cache: Path, home: Path
) -> None:
    older = {**DATA, "big.bin": DATA["big.bin"][::-1]}
    write_snapshot(cache, "owner/data", older, revision="f" * 40)
    pulled = get("owner/data", include=("*",), cache=cache)
    assert (pulled.fetched_bytes, pulled.copied_bytes) == (MIB, 5008)
    assert (home / "owner" / "data" / "big.bin").read_bytes() == DATA["big.bin"]


def test_a_cache_without_links_lends_too(repository: LoopbackHub, get: Get, cache: Path) -> None:
    snapshot = cache / "models--owner--data" / "snapshots" / ("0" * 40)
    for name, data in DATA.items():
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).write_bytes(data)
    assert get("owner/data", include=("*",), cache=cache).fetched_bytes == 0


def test_a_hub_that_names_no_content_is_not_guessed_from(repository: LoopbackHub, client: Hub, cache: Path) -> None:
    from dataclasses import replace

    write_snapshot(cache, "owner/data", DATA)
    listing = client.listing(require("owner/data"))
    for digest in ("", "../../../etc/passwd", "z" * 64):
        file = replace(listing.files["big.bin"], sha256=digest, blob="")
        assert hubcopy.held(cache, replace(listing, files={"big.bin": file}), "big.bin") is None
    assert hubcopy.held(cache, listing, "big.bin") is not None
    assert hubcopy.held(None, listing, "big.bin") is None
    assert hubcopy.held(cache / "nowhere", listing, "big.bin") is None


def test_a_copy_that_is_stopped_leaves_nothing(hub: LoopbackHub, client: Hub, cache: Path, tmp_path: Path) -> None:
    from anyform.contract.model import Stop

    hub.add("owner/wide", {"wide.bin": bytes(3 * hubcopy.BLOCK)})
    write_snapshot(cache, "owner/wide", {"wide.bin": bytes(3 * hubcopy.BLOCK)})
    listing, stop, counted = client.listing(require("owner/wide")), Stop(), []

    def count(size: int) -> None:
        counted.append(size)
        stop.set()

    source = hubcopy.held(cache, listing, "wide.bin")
    assert source is not None
    with pytest.raises(Cancelled):
        hubcopy.copied(source, tmp_path / "draft", listing, "wide.bin", count, stop)
    assert counted == [hubcopy.BLOCK, -hubcopy.BLOCK]
    assert not (tmp_path / "draft").exists()


def test_what_a_killed_copy_left_is_cleared_away(repository: LoopbackHub, get: Get, cache: Path, home: Path) -> None:
    left = home / "owner" / "data" / ".incomplete" / "big.bin.0123.copy"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    get("owner/data", include=("*",))
    assert not left.parent.exists()


def test_the_watcher_sees_copying_and_the_same_sum_at_the_end(repository: LoopbackHub, get: Get, cache: Path) -> None:
    write_snapshot(cache, "owner/data", {"big.bin": DATA["big.bin"]})
    told: list[PullState] = []
    get("owner/data", include=("*",), cache=cache, watch=told.append)
    stages = list(dict.fromkeys(state.stage for state in told))
    assert stages == ["looking", "copying", "downloading", "done"]
    last = told[-1]
    assert (last.done_bytes, last.total_bytes) == (sum(map(len, DATA.values())),) * 2
    assert (last.copied_bytes, last.fetched_bytes, last.files_done, last.files) == (MIB, 5008, 3, 3)


def test_where_no_copy_has_room_the_cache_itself_serves(repository: LoopbackHub, get: Get, tmp_path: Path) -> None:
    from anyform.sources.hubfault import DiskFull

    snapshot = write_snapshot(tmp_path / "hub", "owner/data", DATA)
    repository.repositories["owner/data"].files["big.bin"].claimed_size = 1 << 42
    os.truncate(blob_of(snapshot, "big.bin"), 1 << 42)  # a hole: it takes no room
    with pytest.raises(DiskFull) as caught:
        get("owner/data", include=("*",), cache=tmp_path / "hub")
    assert "run it from the Hugging Face cache" in caught.value.hint
    with pytest.raises(DiskFull) as caught:
        get("owner/data", include=("*",))
    assert "pull a smaller variant" in caught.value.hint
    assert repository.bytes_served == 0


@pytest.mark.skipif(sys.platform == "win32", reason="the cache has no links there")
def test_the_command_says_what_it_copied(tiny: Path, hub: LoopbackHub, cli: Cli) -> None:
    write_snapshot(cli.folder / "hf" / "hub", "owner/tiny", {"tiny-F16.gguf": (tiny / "tiny-F16.gguf").read_bytes()})
    done = cli("pull", "owner/tiny:F16")
    assert done.returncode == 0, done.stderr
    assert "copying from the Hugging Face cache" in done.stderr
    assert "copied from the Hugging Face cache in" in done.stdout
    assert "fetched" not in done.stdout
    assert hub.served["tiny-F16.gguf"] < HEADS
    assert (cli.home / "owner" / "tiny" / "tiny-F16.gguf").read_bytes() == (tiny / "tiny-F16.gguf").read_bytes()
    said = json.loads(cli("pull", "owner/tiny:Q8_0", "--json").stdout)
    assert (said["copied_bytes"], said["fetched_bytes"]) == (0, (tiny / "tiny-Q8_0.gguf").stat().st_size)
