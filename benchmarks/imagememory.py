"""Measures what a worker takes at its peak beside what was estimated before, for pipelines of random weights.

    python benchmarks/imagememory.py                                     # four families, sizes, pictures at once
    python benchmarks/imagememory.py --families sd --sides 256 --width 8 # one that is wider

Each combination is loaded in a worker of its own, as `anyform serve` loads it, and paints one request; the peak is
VmHWM of /proc/PID/status, so Linux only. Exits with 1 if an estimate is under by more than 5%,
or over by more than 35%. Needs the diffusers plugin with its engine, and the samples.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import memory

import anyform
from anyform.contract.facts import Metadata, Settings
from anyform.contract.jobs import Image
from anyform_diffusers.memory import PROCESS_BYTES, Way, is_guided, needs_bytes, weight_bytes
from anyform_diffusers.working import Size
from anyform_samples import painting

MIB = 1 << 20
UNDER, OVER = 0.05, 0.35
HERE = str(Path(__file__).resolve().parent)
STEPS = 2


@dataclass(frozen=True)
class Row:
    """One combination; sizes in bytes."""

    model: str
    side: int
    together: int
    estimated: int
    measured: int

    @property
    def ratio(self) -> float:
        return self.estimated / self.measured

    @property
    def holds(self) -> bool:
        return 1 - UNDER <= self.ratio <= 1 + OVER


def main() -> int:
    """Run and print; 1 if an estimate is off."""
    options = _options()
    sys.path[:] = [place for place in sys.path if place != HERE]  # transformers.py beside this is not the package
    rows = []
    with tempfile.TemporaryDirectory() as home:
        for row in _rows(options, Path(home)):
            rows.append(row)
            if not options.json:
                print(_line(row), flush=True)
    off = [row for row in rows if not row.holds]
    if options.json:
        print(json.dumps([{**asdict(row), "ratio": row.ratio, "holds": row.holds} for row in rows]))
    else:
        ratios, good = [row.ratio for row in rows], len(rows) - len(off)
        print(f"{good} of {len(rows)} from -{UNDER:.0%} to +{OVER:.0%}; ratios {min(ratios):.2f} to {max(ratios):.2f}")
    return 1 if off else 0


def _options() -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(name) for name in text.split(",") if name]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", type=lambda text: text.split(","), default=[*painting.FAMILIES])
    parser.add_argument("--sides", type=numbers, default=[64, 128, 256])
    parser.add_argument("--together", type=numbers, default=[1, 4], help="pictures that are computed at once")
    parser.add_argument("--width", type=int, default=4, help="times the channels of the tiniest pipelines")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _rows(options: argparse.Namespace, home: Path) -> Iterator[Row]:
    for family in options.families:
        folder = painting.write(family, home / family, width=options.width)
        for side, together in product(options.sides, options.together):
            yield Row(f"{family} x{options.width}", side, together, *_measure(folder, side, together))


def _measure(folder: Path, side: int, together: int) -> tuple[int, int]:
    """(estimated, measured) bytes of one model in a fresh worker."""
    settings = Settings(device="cpu", options={"batch": together, "max_pixels": max(side, 64) ** 2})
    runtime = anyform.start([folder], defaults=settings)
    try:
        name = runtime.names()[0]
        plan = runtime.explain(name).plan
        for _ in runtime.generate(name, Image(prompt="a red cat", n=together, width=side, height=side, steps=STEPS)):
            pass
        pid = runtime.loaded()[0].pid
        if plan is None or pid is None:
            raise SystemExit(f"{folder.name} has no plan, or runs in no worker")
        return estimated(plan.metadata, side, together), memory.peak_bytes(pid)
    finally:
        runtime.close()


def estimated(metadata: Metadata, side: int, together: int) -> int:
    """As `memory.estimate`, for another size than the model's own."""
    size = Size(width=side, height=side, pictures=together, guided=is_guided(metadata.extra, None))
    way = Way()
    return weight_bytes(metadata.extra, way.dtype) + PROCESS_BYTES + needs_bytes(metadata.extra, size, way)


def _line(row: Row) -> str:
    mark = "" if row.holds else "  OFF"
    return (
        f"{row.model:9} {row.side:4}x{row.side:<4} {row.together:2} at once"
        f" estimated {row.estimated / MIB:8.1f} MiB  peak {row.measured / MIB:8.1f} MiB  {row.ratio:5.2f}{mark}"
    )


if __name__ == "__main__":
    sys.exit(main())
