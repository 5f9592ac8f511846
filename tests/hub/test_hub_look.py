"""What a model on a hub is, and what would run it, is known before it is fetched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anyform.contract.facts import Evidence, Severity
from anyform.kernel.plugins import Plugins
from anyform.sources.hub import Hub
from anyform.sources.hubfiles import BUDGET
from anyform.sources.hublook import look
from anyform.sources.hubname import require
from anyform.testing.gguf import CHATML, write_llama, write_mmproj, write_split

from .conftest import Cli
from .server import LoopbackHub

MIB = 1 << 20


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    return tmp_path / "origin"


def padded(path: Path, size: int) -> Path:
    """*path* with zeros after its tensors, as large as a model that nobody wants to fetch only to look at it."""
    with path.open("r+b") as file:
        file.truncate(size)
    return path


def test_show_reads_no_more_than_headers(hub: LoopbackHub, cli: Cli, origin: Path) -> None:
    for quantization in ("Q8_0", "F16"):
        padded(write_llama(origin / f"tiny-{quantization}.gguf", chat_template=CHATML), 64 * MIB)
    hub.add("owner/tiny", {path.name: path for path in sorted(origin.iterdir())})
    done = cli("show", "owner/tiny:F16", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["name"] == "owner/tiny:F16"
    assert shown["metadata"]["architecture"] == "llama"
    assert shown["metadata"]["tasks"] == ["chat", "complete"]
    assert shown["size_bytes"] == 64 * MIB
    assert hub.bytes_served < 2 * MIB
    assert not list(cli.home.rglob("*.gguf"))


@pytest.mark.engine
def test_explain_decides_before_the_download(hub: LoopbackHub, cli: Cli, origin: Path) -> None:
    write_llama(origin / "tiny-Q8_0.gguf")
    hub.add("owner/tiny", {path.name: path for path in origin.iterdir()})
    done = cli("explain", "hf.co/owner/tiny", "--json")
    assert json.loads(done.stdout)["verdicts"][0]["plugin"] == "gguf_llamacpp", done.stderr


def test_estimate_tells_before_the_download_what_it_tells_after(hub: LoopbackHub, cli: Cli, origin: Path) -> None:
    for quantization in ("Q8_0", "F16"):
        padded(write_llama(origin / f"tiny-{quantization}.gguf", quantization=quantization), 32 * MIB)
    hub.add("owner/tiny", {path.name: path for path in sorted(origin.iterdir())})

    def told(name: str) -> tuple[bool, list[tuple[int, ...]]]:
        said = json.loads(cli("estimate", name, "--context", "128,256", "--json").stdout)
        parts = ("context", "weights_bytes", "cache_bytes", "overhead_bytes", "total_bytes")
        return said["here"], [tuple(one["memory"][part] for part in parts) for one in said["estimates"]]

    here, before = told("hf.co/owner/tiny:F16")
    assert not here
    assert hub.bytes_served < 2 * MIB
    assert [figures[0] for figures in before] == [128, 256]
    assert before[1][2] == 2 * before[0][2] > 0
    assert "`anyform pull owner/tiny:F16` fetches it" in cli("estimate", "owner/tiny:F16").stdout
    assert cli("pull", "owner/tiny:F16").returncode == 0
    assert told("owner/tiny:F16") == (True, before)
    assert told("owner/tiny:Q8_0")[1] != before
    refused = cli("estimate", "owner/none", "--json")
    assert (refused.returncode, json.loads(refused.stderr)["error"]["code"]) == (1, "repository_not_found")


def test_a_vocabulary_of_megabytes_is_read_whole(
    hub: LoopbackHub, client: Hub, plugins: Plugins, origin: Path, home: Path
) -> None:
    tokens = [f"<token of some length {number}>" for number in range(150_000)]
    write_llama(origin / "wide.gguf", extra={"tokenizer.ggml.tokens": tokens})
    hub.add("owner/wide", {"wide.gguf": origin / "wide.gguf"})
    entry = look(client, plugins, home, require("owner/wide"))
    metadata = plugins.ask_one(entry.plugin, "extract_metadata", files=entry.files(), match=entry.match)
    entry.remote.check()
    assert metadata.vocab_size == 150_000
    assert metadata.tensors
    assert metadata.parameters
    assert 4 * MIB < hub.bytes_served <= BUDGET


def test_all_that_a_look_fetches_stays_within_the_budget(
    hub: LoopbackHub, client: Hub, plugins: Plugins, origin: Path, home: Path
) -> None:
    tokens = [f"{number:0128}" for number in range(150_000)]
    for quantization in ("Q8_0", "F16"):
        write_llama(origin / f"huge-{quantization}.gguf", extra={"tokenizer.ggml.tokens": tokens})
    hub.add("owner/huge", {path.name: path for path in origin.iterdir()})
    entry = look(client, plugins, home, require("owner/huge"))
    metadata = plugins.ask_one(entry.plugin, "extract_metadata", files=entry.files(), match=entry.match)
    [finding] = plugins.ask_one(entry.plugin, "validate", files=entry.files(), match=entry.match)
    assert hub.bytes_served <= BUDGET
    assert (finding.code, finding.severity) == ("gguf.header_unseen", Severity.WARNING)
    assert metadata.architecture == "llama"
    assert metadata.weight_bytes == entry.size_bytes


def test_a_hub_that_knows_no_ranges_is_not_read_to_the_end(
    hub: LoopbackHub, client: Hub, plugins: Plugins, origin: Path, home: Path
) -> None:
    padded(write_llama(origin / "tiny-Q8_0.gguf"), 256 * MIB)
    content = hub.add("owner/tiny", {"tiny-Q8_0.gguf": origin / "tiny-Q8_0.gguf"}).files["tiny-Q8_0.gguf"]
    assert content.sha256 != content.blob  # summed up before anybody waits for it
    hub.trouble("/cdn/", ignore_range=True, times=99)
    entry = look(client, plugins, home, require("owner/tiny"))
    assert entry.match.evidence is Evidence.MAGIC
    assert hub.bytes_served < 64 * MIB


def test_shards_and_projector_are_described_together(
    hub: LoopbackHub, client: Hub, plugins: Plugins, origin: Path, home: Path
) -> None:
    write_split(origin, "big-Q8_0", 2)
    write_mmproj(origin / "mmproj-F16.gguf")
    hub.add("owner/big", {path.name: path for path in origin.iterdir()})
    entry = look(client, plugins, home, require("owner/big"))
    arguments = {"files": entry.files(), "match": entry.match}
    metadata = plugins.ask_one(entry.plugin, "extract_metadata", **arguments)
    assert metadata.extra["shards"] == 2
    assert metadata.extra["mmproj"] == "mmproj-F16.gguf"
    assert "vision" in metadata.features
    assert plugins.ask_one(entry.plugin, "validate", **arguments) == []


def test_the_token_stays_with_the_hub_and_never_reaches_the_files_host(
    hub: LoopbackHub, plugins: Plugins, origin: Path, home: Path
) -> None:
    from .server import TOKEN

    write_llama(origin / "tiny-Q8_0.gguf")
    hub.add("owner/tiny", {path.name: path for path in origin.iterdir()}, gated=True, readers=(TOKEN,))
    look(Hub(hub.endpoint, token=TOKEN), plugins, home, require("owner/tiny"))
    assert any(headers.get("authorization") == f"Bearer {TOKEN}" for headers in hub.asked("/resolve/"))
    assert hub.asked("/cdn/")
    assert not any("authorization" in headers for headers in hub.asked("/cdn/"))
