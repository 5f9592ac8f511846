"""What quantizers write, and what becomes of those that fail or are stopped."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from anyform.contract.model import Stop
from anyform.sources.blob import Blobs
from anyform.sources.hubfault import Cancelled
from anyform.sources.quantization import QuantizingFailed, quantized


class Program:
    """A quantizer that runs a line of Python with the names of its files."""

    READS = ("F16",)
    MAKES = ("Q8_0",)

    def __init__(self, code: str) -> None:
        self.code = code

    def command(self, source: Path, target: Path, kind: str) -> Sequence[str]:
        return [
            "-c",
            f"import sys; from pathlib import Path; _, source, target = sys.argv; {self.code}",
            source,
            target,
        ]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(b"weights")
    return path


def test_what_is_written_is_a_blob(tmp_path: Path, source: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    upper = Program("Path(target).write_bytes(Path(source).read_bytes().upper())")
    digest = quantized(upper, source, "Q8_0", blobs, Stop())
    assert digest == f"sha256:{hashlib.sha256(b'WEIGHTS').hexdigest()}"
    assert blobs.path(digest).read_bytes() == b"WEIGHTS"
    assert [path.name for path in blobs.folder.iterdir()] == [blobs.path(digest).name]


def test_a_failure_says_the_last_line_and_leaves_nothing(tmp_path: Path, source: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    failing = Program("Path(target).write_bytes(b'half'); print('much', file=sys.stderr); sys.exit('no such type')")
    with pytest.raises(QuantizingFailed, match="no such type"):
        quantized(failing, source, "Q8_0", blobs, Stop())
    assert list(blobs.folder.iterdir()) == []


def test_a_stop_ends_the_program(tmp_path: Path, source: Path) -> None:
    blobs, stop = Blobs(tmp_path / "blobs"), Stop()
    endless = Program("Path(target).write_bytes(b'half'); import time; time.sleep(600)")

    def stop_once_it_runs() -> None:
        while not (blobs.folder.is_dir() and list(blobs.folder.iterdir())):
            time.sleep(0.01)
        stop.set()

    threading.Thread(target=stop_once_it_runs, daemon=True).start()
    with pytest.raises(Cancelled):
        quantized(endless, source, "Q8_0", blobs, stop)
    assert list(blobs.folder.iterdir()) == []
