"""Where the shipped models lie."""

from __future__ import annotations

from pathlib import Path

DATA = Path(__file__).parent / "data"
"""A folder for each model."""

SAMPLE = DATA / "sample"
"""The decoder: a Hugging Face folder with F16 weights, and the GGUF beside them."""

SAMPLE_GGUF = "sample-Q8_0.gguf"
