"""The estimate of memory, from numbers and against a process that really loads."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Invalid
from anyform.contract.facts import Metadata, Settings
from anyform_hf_transformers import memory

METADATA = Metadata(
    tasks=("chat",), parameters=8_000_000_000, weight_bytes=16_000_000_000, vocab_size=128_256, context=131_072,
    extra={"layers": 32, "heads": 32, "kv_heads": 8, "key_length": 128, "value_length": 128, "embedding_length": 4096,
           "feed_forward_length": 14336, "dtype": "BF16"},
)  # fmt: skip
LOAD = """
import sys, resource
from pathlib import Path
from dataclasses import replace
from anyform.contract.jobs import Complete, Embed, Generation
from anyform.contract.facts import Evidence, Plan, Settings
from anyform.contract.model import Stop
from anyform.kernel.files import FolderFiles
from anyform_hf_transformers import backend, detection, memory, metadata
files = FolderFiles(Path(sys.argv[1]))
match = detection.detect(files)[0]
facts, settings = metadata.extract(files, match), Settings(context=512, parallel=2, device="cpu")
plan = Plan(plugin="p", backend="b", model="m", path=sys.argv[1], match=match, metadata=facts, settings=settings)
model = backend.load(plan)
job = Embed(inputs=("once " * 500,) * 4) if facts.tasks[0] == "embed" else Complete(
    prompt=tuple(range(5, 505)), generation=Generation(max_tokens=4))
list(model.generate(job, Stop()))
model.close()
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) * 1024, memory.estimate(facts, settings).at(settings))
"""


def test_weights_and_cache_are_counted_in_the_numbers_computed_in() -> None:
    on_gpu = memory.estimate(METADATA, Settings(context=4096, device="cuda:0"))
    on_cpu = memory.estimate(METADATA, Settings(context=4096, device="cpu"))
    asked = memory.estimate(METADATA, Settings(context=4096, device="cpu", options={"dtype": "bfloat16"}))
    assert (on_gpu.weights_bytes, on_cpu.weights_bytes) == (16_000_000_000, 32_000_000_000)
    assert asked.weights_bytes == 16_000_000_000
    assert on_gpu.bytes_per_token == 32 * 8 * 256 * 2
    assert on_cpu.bytes_per_token == 2 * on_gpu.bytes_per_token
    (saving,) = on_cpu.savings
    assert saving.options == {"dtype": "bfloat16"}
    settings = Settings(context=4096, device="cpu")
    assert on_cpu.at(settings) - asked.at(settings) == pytest.approx(saving.bytes, rel=0.1)


def test_more_context_and_more_requests_never_need_less() -> None:
    for device in ("cpu", "cuda:0"):
        found = [
            [
                memory.estimate(METADATA, settings).at(settings)
                for context in (64, 100, 4096, 100_000)
                for settings in [Settings(context=context, parallel=parallel, device=device)]
            ]
            for parallel in (1, 2, 5)
        ]
        for row in (*found, *zip(*found, strict=True)):
            assert sorted(row) == list(row)


def test_what_the_file_does_not_say_makes_a_guess_of_it() -> None:
    silent = replace(METADATA, parameters=None, extra={})
    found = memory.estimate(silent, Settings(context=512))
    assert found.confidence < memory.estimate(METADATA, Settings(context=512)).confidence
    assert found.weights_bytes == 16_000_000_000
    with pytest.raises(Invalid, match="strange"):
        memory.estimate(METADATA, Settings(options={"strange": 1}))


@pytest.mark.engine
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("which", ["decoder_folder", "encoder_folder"])
def test_a_process_takes_what_was_estimated(which: str, kit: Any, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(which)
    ran = subprocess.run([sys.executable, "-c", LOAD, str(folder)], capture_output=True, text=True, check=True)
    peak, estimated = map(int, ran.stdout.split())
    assert 0.75 * peak < estimated < 1.5 * peak
