"""llama.cpp's AMX kernels, which segfault on quantized weights: survived, remembered, shown; without such a CPU.

A plugin on the path stands for the crash alone: it is gguf_llamacpp with a `load` that raises SIGSEGV in its own
process when quantized weights would be repacked. All else is the real engine on a real file.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from anyform.assembly import start
from anyform.contract.events import Done
from anyform.contract.jobs import Complete, Generation, Sampling
from anyform.kernel.runtime import Runtime
from anyform.testing.gguf import write_llama

pytest.importorskip("llama_cpp")
pytestmark = pytest.mark.engine

JOB = Complete(prompt="a b c", generation=Generation(max_tokens=4, sampling=Sampling(temperature=0.0)))
CRASHING = """
import os, signal
from anyform.contract.hooks import hookimpl
from anyform_gguf_llamacpp import plugin as real
ANYFORM_CONTRACT = 1
list_backends, estimate_memory, probe_backend = real.list_backends, real.estimate_memory, real.probe_backend

@hookimpl
def load(plan):
    if plan.metadata.quantization != "F16" and plan.settings.options.get("use_extra_bufts", True):
        os.kill(os.getpid(), signal.SIGSEGV)
    return real.load(plan)
"""


@pytest.fixture
def crashing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    site = tmp_path / "site"
    info = site / "amx-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "amx_plugin.py").write_text(CRASHING)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: amx\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[anyform.plugins]\namx = amx_plugin\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))
    for quantization in ("F16", "Q8_0"):
        write_llama(tmp_path / "models" / f"tiny-{quantization}.gguf", quantization=quantization)
    return tmp_path


def runtime(folder: Path, where: Literal["here", "worker"] = "worker") -> Runtime:
    return start(folders=[folder / "models"], where=where, forbid=["gguf_llamacpp"], state=folder / "state")


def answered(made: Runtime, model: str) -> bool:
    return isinstance(list(made.generate(model, JOB))[-1], Done)


def test_a_worker_that_segfaults_loading_is_restarted_with_less_and_the_next_load_does_not_crash(
    crashing: Path,
) -> None:
    first = runtime(crashing)
    assert answered(first, "tiny:Q8_0")
    loaded = first.loaded()[0]
    assert any("SIGSEGV" in warning for warning in loaded.warnings)
    assert "no weight repacking" in loaded.reductions[0]
    assert any("no weight repacking" in note for note in first.explain("tiny:Q8_0").notes)
    first.close()

    second = runtime(crashing)
    assert any("learnt on this machine: no weight repacking" in note for note in second.explain("tiny:Q8_0").notes)
    assert answered(second, "tiny:Q8_0")
    loaded = second.loaded()[0]
    assert not any("SIGSEGV" in warning for warning in loaded.warnings)
    assert "no weight repacking" in loaded.reductions[0]
    second.close()


def test_weights_that_do_not_crash_are_not_reduced(crashing: Path) -> None:
    made = runtime(crashing)
    assert answered(made, "tiny:Q8_0")
    assert answered(made, "tiny:F16")
    reductions = {loaded.model: loaded.reductions for loaded in made.loaded()}
    assert reductions["tiny:F16"] == ()
    made.close()


IN_PROCESS = """
import sys
from pathlib import Path
from anyform.assembly import start
from anyform.contract.jobs import Complete, Generation

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    runtime = start(folders=[folder / "models"], where="here", forbid=["gguf_llamacpp"], state=folder / "state")
    events = list(runtime.generate("tiny:Q8_0", Complete(prompt="a b c", generation=Generation(max_tokens=4))))
    print(type(events[-1]).__name__, runtime.loaded()[0].reductions)
    runtime.close()
"""


def test_no_python_caller_ever_sees_the_segfault(crashing: Path) -> None:
    script = crashing / "script.py"
    script.write_text(IN_PROCESS)
    for _ in range(2):
        done = subprocess.run([sys.executable, str(script), str(crashing)], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("Done")
        assert "no weight repacking" in done.stdout
