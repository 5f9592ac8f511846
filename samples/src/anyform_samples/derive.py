"""Other forms of the shipped decoder, made without torch: `python -m anyform_samples.derive gguf OUT.gguf`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from anyform.contract.errors import Fault
from anyform_samples import gguf
from anyform_samples.layout import SAMPLE


def main(words: Sequence[str] | None = None) -> int:
    """Write the form that is asked for and say where it is."""
    parser = argparse.ArgumentParser(prog="python -m anyform_samples.derive", description=__doc__)
    forms = parser.add_subparsers(required=True, metavar="FORM")
    form = forms.add_parser("gguf", help="one GGUF file")
    form.add_argument("out", type=Path)
    form.add_argument("--type", choices=("F16", "Q8_0"), default="F16")
    form.add_argument("--from", type=Path, default=SAMPLE, dest="folder", help="another Hugging Face folder like ours")
    asked = parser.parse_args(words)
    try:
        out = gguf.write(asked.folder, asked.out, asked.type)
    except (Fault, OSError) as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    sys.stdout.write(f"{out}: {out.stat().st_size:,} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
