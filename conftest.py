"""What all tests share: the sample models, small real ones that come with the repository, and a Ctrl-C that works."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job; commands under test inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
