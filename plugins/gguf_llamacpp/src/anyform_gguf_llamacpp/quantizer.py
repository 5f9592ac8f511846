"""Writes a GGUF anew with smaller numbers: `python -m anyform_gguf_llamacpp.quantizer SOURCE TARGET KIND`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from anyform.contract.errors import Fault

READS = ("F32", "F16", "BF16")
MAKES = (
    "F16", "BF16", "Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_0", "Q4_1", "Q4_K_S", "Q4_K_M", "Q5_0", "Q5_1", "Q5_K_S",
    "Q5_K_M", "Q6_K", "Q8_0", "IQ4_XS", "IQ4_NL",
)  # fmt: skip
"""Those of llama.cpp that need no importance matrix."""


def command(source: Path, target: Path, kind: str) -> Sequence[str]:
    """What Python is told to write the model in the file *source* to *target* as *kind*, one of MAKES."""
    return ["-m", __name__, str(source), str(target), kind]


def main(arguments: Sequence[str]) -> int:
    """0, or 1 with the reason on stderr."""
    from anyform_gguf_llamacpp import backend

    source, target, kind = arguments
    try:
        backend.quantize(Path(source), Path(target), kind)
    except Fault as fault:
        print(fault, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
