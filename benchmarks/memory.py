"""Measures what a worker takes at its peak beside what was estimated before, for GGUF models of random weights.

    python benchmarks/memory.py                           # two architectures, sizes and contexts; three quantizations
    python benchmarks/memory.py --sizes 0.1B --fill 8192  # with prompts that fill the context: slow on few cores

Each combination is loaded in a worker of its own, as `anyform serve` loads it, and answers one request; the peak is
VmHWM of /proc/PID/status, so Linux only. llama.cpp clears the whole KV cache at load, and a prompt of one micro-batch
(512 tokens) touches the activations; only the mask's tail, 1 KiB a token, needs a longer one. Exits with 1 if an
estimate is off by more than 10%. Needs the gguf plugin with its engine, and what models.py needs.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import models

import anyform
from anyform.contract.facts import Settings
from anyform.contract.jobs import Complete, Generation

MIB = 1 << 20
WITHIN = 0.10
ANSWER = 8


@dataclass(frozen=True)
class Row:
    """One combination; sizes in bytes."""

    model: str
    quantization: str
    context: int
    parallel: int
    estimated: int
    measured: int

    @property
    def ratio(self) -> float:
        return self.estimated / self.measured

    @property
    def holds(self) -> bool:
        return abs(self.ratio - 1) <= WITHIN


def main() -> int:
    """Run and print; 1 if an estimate is off by more than 10%."""
    options = _options()
    if not options.json:
        print(
            f"{'model':12} {'quantization':13} {'context':>7} {'at once':>7} {'estimated':>13} {'measured':>13}  ratio"
        )
    rows = []
    for row in _rows(options):
        rows.append(row)
        if not options.json:
            print(_line(row), flush=True)
    off = [row for row in rows if not row.holds]
    if options.json:
        print(json.dumps([{**asdict(row), "ratio": row.ratio, "holds": row.holds} for row in rows]))
    else:
        ratios = [row.ratio for row in rows]
        print(f"{len(rows) - len(off)} of {len(rows)} within {WITHIN:.0%}; from {min(ratios):.3f} to {max(ratios):.3f}")
    return 1 if off else 0


def _options() -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return [name for name in text.split(",") if name]

    def numbers(text: str) -> list[int]:
        return [int(name) for name in names(text)]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", type=names, default=[*models.ARCHITECTURES])
    parser.add_argument("--sizes", type=names, default=[*models.SHAPES])
    parser.add_argument("--quantizations", type=names, default=["F16", "Q8_0", "Q4_K_M"])
    parser.add_argument("--contexts", type=numbers, default=[2048, 8192])
    parser.add_argument(
        "--parallel", type=numbers, default=[4], help="4 is what models get unless a user says otherwise"
    )
    parser.add_argument("--fill", type=int, default=600, help="tokens of the prompt, as far as the context has them")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _rows(options: argparse.Namespace) -> Iterator[Row]:
    for architecture, model, quantization in product(options.architectures, options.sizes, options.quantizations):
        file = models.path_of(model, architecture=architecture, quantization=quantization)
        for context, parallel in product(options.contexts, options.parallel):
            estimated, measured = _measure(file, context, parallel, min(options.fill, context - ANSWER - 1))
            yield Row(f"{architecture} {model}", quantization, context, parallel, estimated, measured)


def _measure(file: Path, context: int, parallel: int, prompt: int) -> tuple[int, int]:
    """(estimated, measured) bytes of one model in a fresh worker."""
    runtime = anyform.start([file], defaults=Settings(context=context, parallel=parallel))
    try:
        name = runtime.names()[0]
        estimated = runtime.explain(name).estimate_bytes
        tokens = tuple(random.Random(1).randrange(300, 20_000) for _ in range(prompt))
        for _ in runtime.generate(name, Complete(prompt=tokens, generation=Generation(max_tokens=ANSWER))):
            pass
        pid = runtime.loaded()[0].pid
        if estimated is None or pid is None:
            raise SystemExit(f"{file.name} gave no estimate, or runs in no worker")
        return estimated, peak_bytes(pid)
    finally:
        runtime.close()


def peak_bytes(pid: int) -> int:
    """The most memory that was resident at once in the life of the process."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def _line(row: Row) -> str:
    mark = "" if row.holds else "  OFF"
    return (
        f"{row.model:12} {row.quantization:13} {row.context:7} {row.parallel:7} {row.estimated / MIB:9.1f} MiB"
        f" {row.measured / MIB:9.1f} MiB {row.ratio:6.3f}{mark}"
    )


if __name__ == "__main__":
    sys.exit(main())
