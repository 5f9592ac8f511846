"""The sample models, for every test that asks what a text means: small real ones that come with the repository."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def sample() -> Path:
    """The sample decoder as GGUF, Q8_0."""
    pytest.importorskip("llama_cpp")
    layout = pytest.importorskip("anyform_samples.layout", exc_type=ImportError)
    return Path(layout.SAMPLE / layout.SAMPLE_GGUF)


@pytest.fixture(scope="session")
def sample_half(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample decoder as GGUF, F16, derived as anyone can."""
    from anyform_samples import gguf

    return gguf.write(sample.parent, tmp_path_factory.mktemp("derived") / "sample-F16.gguf", "F16")


@pytest.fixture(scope="session")
def sample_embed() -> Path:
    """The sample encoder as GGUF, Q8_0."""
    pytest.importorskip("llama_cpp")
    layout = pytest.importorskip("anyform_samples.embedding.layout", exc_type=ImportError)
    return Path(layout.DATA / layout.GGUF)
