"""The estimate of memory against a process that really paints."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]
RUN = """
import sys
from pathlib import Path
from anyform.contract.facts import Plan, Settings
from anyform.kernel.files import FolderFiles
from anyform_diffusers import detection, memory, metadata, options
from anyform_diffusers.wish import Wish
from anyform_samples import painting
family, home, side, batch = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
files = FolderFiles(home / family)
[match] = detection.detect(files)
facts = metadata.extract(files, match)
facts = type(facts)(**{
    name: getattr(facts, name) for name in facts.__slots__ if name != "extra"
}, extra={**facts.extra, "width": side, "height": side})
settings = Settings(device="cpu", options={"batch": batch})
plan = Plan(plugin="p", backend="b", model="m", path=str(files.path), match=match, metadata=facts, settings=settings)
from anyform_diffusers import loading
painter = loading.painter(plan, options.read(settings.options))
wish = Wish(prompt="a red cat", width=side, height=side, steps=2)
painter.paint(wish, list(range(batch)), lambda done, latents: None)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) * 1024, memory.estimate(facts, settings).at(settings))
"""


@pytest.mark.parametrize(("family", "side", "batch"), [("sd", 128, 4)])
def test_a_process_takes_what_was_estimated(gallery: Any, family: str, side: int, batch: int) -> None:
    home = gallery.folder(family).parent
    ran = subprocess.run(
        [sys.executable, "-c", RUN, family, str(home), str(side), str(batch)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    peak, estimated = map(int, ran.stdout.split())
    assert 0.95 * peak < estimated < 1.35 * peak
