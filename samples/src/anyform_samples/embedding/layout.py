"""Where the shipped encoder lies."""

from __future__ import annotations

from anyform_samples import layout

DATA = layout.DATA / "sample-embed"
"""A Hugging Face folder with F16 weights, and the GGUF beside them."""

GGUF = "sample-embed-Q8_0.gguf"
