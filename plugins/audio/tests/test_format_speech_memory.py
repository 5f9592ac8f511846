"""What Kokoro and Piper are said to take of main memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Invalid
from anyform.contract.facts import MemoryEstimate, Metadata, Settings
from anyform.kernel.files import FolderFiles
from anyform.testing.kokoro import ROWS, WIDTH, write_kokoro
from anyform.testing.piper import write_piper
from anyform_audio import plugin
from anyform_audio.info import KOKORO, PIPER
from anyform_audio.speech import lane, memory

MIB = 1 << 20
PEAK = """
import sys
from pathlib import Path
from anyform.contract.facts import Plan, Settings
from anyform.contract.jobs import Speak
from anyform.contract.model import Stop
from anyform.kernel.files import FolderFiles
from anyform_audio import plugin
files = FolderFiles(Path(sys.argv[1]))
(match,) = plugin.detect_format(files)
metadata = plugin.extract_metadata(files, match)
plan = Plan(plugin="audio", backend=match.format, model="m", path=sys.argv[1], match=match, metadata=metadata,
            settings=Settings())
model = plugin.load(plan)
for event in model.generate(Speak(text="The boat is small. " * 3, voice=metadata.extra["voices"][0]["id"]), Stop()):
    pass
said = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
print("peak", int(said["VmHWM"].split()[0]) * 1024)
"""


def facts_of(folder: Path) -> Metadata:
    files = FolderFiles(folder)
    (match,) = plugin.detect_format(files)
    return plugin.extract_metadata(files, match)


def estimate(metadata: Metadata, **options: Any) -> MemoryEstimate:
    return plugin.estimate_memory(KOKORO, metadata, Settings(options=options))


def test_weights_and_voices_are_counted(tmp_path: Path) -> None:
    small, large = write_kokoro(tmp_path / "small"), write_kokoro(tmp_path / "large", ballast_bytes=8 * MIB)
    more = write_kokoro(tmp_path / "more", voices=tuple(f"af_{number}" for number in range(10)))
    sizes = [estimate(facts_of(folder)) for folder in (small, large, more)]
    assert sizes[1].weights_bytes - sizes[0].weights_bytes == 8 * MIB
    assert sizes[2].overhead_bytes - sizes[0].overhead_bytes == pytest.approx(6 * ROWS * WIDTH * 4, rel=0.01)


def test_halves_are_made_wholes() -> None:
    plain, halves, mixed = (
        memory.estimate(Metadata(weight_bytes=100, extra={"weights": weights}), Settings(), 0).weights_bytes
        for weights in ({"F32": 100}, {"F16": 100}, {"I8": 60, "F16": 40})
    )
    assert (plain, halves, mixed) == (100, 400, 220)


def test_sentences_at_once_cost_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "processors", lambda: 16)
    facts = Metadata(weight_bytes=100)
    several = estimate(facts)
    one = estimate(facts, threads=16)
    assert several.at(Settings()) > one.at(Settings())
    (saving,) = several.savings
    assert estimate(facts, **saving.options).at(Settings()) == several.at(Settings()) - saving.bytes
    assert one.savings == ()


@pytest.mark.parametrize("threads", [0, "many", 257])
def test_threads_that_are_none(threads: Any) -> None:
    with pytest.raises(Invalid, match="threads"):
        estimate(Metadata(weight_bytes=100), threads=threads)


def test_as_many_sentences_at_once_as_there_are_processors_for(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {(1, 1): 1, (2, 1): 2, (2, 2): 1, (4, None): 1, (8, None): 4, (16, 4): 4, (16, 16): 1, (2, 64): 1}
    for (processors, threads), lanes in expected.items():
        monkeypatch.setattr(lane, "processors", lambda count=processors: count)
        assert lane.lanes(4, lane.threads(threads)) == lanes


@pytest.mark.engine
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read as Linux tells them")
@pytest.mark.parametrize("form", ["kokoro", "piper"])
def test_a_process_stays_below_its_estimate(tmp_path: Path, form: str) -> None:
    """Weights dominate: the stand-in's own activations are small beside the real one's, which are estimated."""
    pytest.importorskip("kokoro_onnx")
    pytest.importorskip("piper")
    folder = write_kokoro(tmp_path, ballast_bytes=96 * MIB) if form == "kokoro" else write_piper(tmp_path)
    info = KOKORO if form == "kokoro" else PIPER
    said = plugin.estimate_memory(info, facts_of(folder), Settings())
    done = subprocess.run([sys.executable, "-c", PEAK, str(folder)], capture_output=True, text=True, check=True)
    peak = int(done.stdout.split("peak")[1])
    activations = round(memory.SECOND_BYTES * memory.WINDOW_S)
    assert said.at(Settings()) - activations * 2 < peak < said.at(Settings())
    assert peak > said.weights_bytes
