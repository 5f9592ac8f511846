"""What a worker takes, beside what was estimated before it was loaded."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import anyform
from anyform.contract.facts import Settings
from anyform.contract.jobs import Complete, Generation
from anyform.testing.gguf import write_llama

pytestmark = pytest.mark.engine


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
def test_a_worker_takes_what_was_estimated(tmp_path: Path) -> None:
    """512 MiB of cache beside some 60 for the process, whose size hangs on the platform."""
    settings = Settings(context=8192, parallel=16, options={"flash_attention": True})
    with_cache = write_llama(tmp_path / "m.gguf", context=8192, layers=4, embedding=256, heads=8, kv_heads=8)
    runtime = anyform.start([with_cache], defaults=settings)
    try:
        estimated = runtime.explain("m").estimate_bytes
        for _ in runtime.generate("m", Complete(prompt="Once upon a time", generation=Generation(max_tokens=4))):
            pass
        status = Path(f"/proc/{runtime.loaded()[0].pid}/status").read_text()
    finally:
        runtime.close()
    peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    assert estimated == pytest.approx(peak, rel=0.1)
