"""A real server loads and unloads a real model again and again: nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from anyform.testing.gguf import write_llama

pytestmark = [pytest.mark.engine, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]
GROWTH = 20 << 20
SETTLED = 10
"""Cycles after which all that is made once has been made."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[int, str]]:
    """(pid, address) of `anyform serve` over one small GGUF."""
    model = write_llama(tmp_path / "tiny.gguf")
    environment = {**os.environ, "ANYFORM_STATE": str(tmp_path / "state")}
    command = [sys.executable, "-m", "anyform", "serve", str(model), "--port", "0"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    assert child.stdout is not None
    try:
        url = next(word for line in child.stdout for word in line.split() if word.startswith("http://"))
        yield child.pid, url.rstrip("/").removesuffix("/v1")
    finally:
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=30)


def resident(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def children(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def cycle(client: httpx.Client) -> None:
    assert client.post("/runtime/load/tiny").raise_for_status().json()["status"] == "ready"
    asked = {"model": "tiny", "prompt": "a", "max_tokens": 2}
    assert client.post("/v1/completions", json=asked).raise_for_status().json()["usage"]["completion_tokens"] <= 2
    assert client.post("/runtime/unload/tiny").raise_for_status().json()["status"] == "unloaded"


def _cycles(served: tuple[int, str], count: int) -> None:
    pid, url = served
    with httpx.Client(base_url=url, timeout=60) as client:
        for _ in range(SETTLED):
            cycle(client)
        memory, files = resident(pid), descriptors(pid)
        for _ in range(count - SETTLED):
            cycle(client)
        grown = resident(pid) - memory
        assert grown < GROWTH, f"{grown / 2**20:.1f} MB in {count - SETTLED} cycles"
        deadline = time.monotonic() + 10
        while children(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert children(pid) == []
        assert descriptors(pid) <= files
        sys.stdout.write(f"{count} cycles: {grown / 2**20:+.1f} MB, {files} -> {descriptors(pid)} descriptors\n")


def test_fifteen_cycles_leave_nothing(served: tuple[int, str]) -> None:
    _cycles(served, 15)


@pytest.mark.full
def test_two_hundred_cycles_leave_nothing(served: tuple[int, str]) -> None:
    _cycles(served, 200)
