"""A pull that is killed (-9) at several points goes on where it was, in little memory."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Cli
from .server import LoopbackHub

MIB = 1 << 20
POINTS = (0.1, 0.35, 0.6, 0.9)
"""Shares of the file at which the pull is killed."""


def written(path: Path, size: int) -> str:
    """Write *size* random bytes; their SHA-256."""
    chance, digest = random.Random(0), hashlib.sha256()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for _ in range(size // MIB):
            block = chance.randbytes(MIB)
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def resident(process: subprocess.Popen[str]) -> int:
    """The most bytes of memory that a running process ever had; 0 when it has ended.

    Not what wait4 tells: that counts what the parent had when it started the process.
    """
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


def ended(process: subprocess.Popen[str]) -> tuple[int, int]:
    """(exit code, most resident bytes) of a process that ends by itself."""
    peak = 0
    while True:
        try:
            return process.wait(0.02), peak
        except subprocess.TimeoutExpired:
            peak = max(peak, resident(process))


@pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")
@pytest.mark.parametrize("size", [24 * MIB, pytest.param(300 * MIB, marks=pytest.mark.full)], ids=["24M", "300M"])
def test_killed_at_four_points_and_resumed(
    hub: LoopbackHub, cli: Cli, tmp_path: Path, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    sha256 = written(tmp_path / "origin" / "big.bin", size)
    hub.add("owner/big", {"big.bin": tmp_path / "origin" / "big.bin"})
    target = cli.home / "owner" / "big" / "big.bin"
    hub.rate = size / 4
    peaks = []
    for point in POINTS:
        process = cli.start("pull", "owner/big", "--file", "big.bin")
        hub.wait_for_bytes(int(size * point), 60)
        peaks.append(resident(process))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not target.exists()
        assert not (cli.home / "owner" / "big" / ".anyform.json").exists()
    hub.rate = 0
    process = cli.start("pull", "owner/big", "--file", "big.bin")
    code, peak = ended(process)
    peaks.append(peak)
    assert code == 0
    assert hashlib.sha256(target.read_bytes()).hexdigest() == sha256
    twice = hub.served["big.bin"] - size
    with capsys.disabled():
        print(  # noqa: T201
            f"\n{size // MIB} MiB killed {len(POINTS)} times: {twice / size:.2%} fetched twice, "
            f"at most {max(peaks) / MIB:.0f} MiB resident"
        )
    assert 0 <= twice < 0.1 * size
    assert max(peaks) < 150 * MIB
