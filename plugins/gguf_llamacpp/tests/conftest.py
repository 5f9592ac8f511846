"""Models that the engine's tests write or derive and load, and how they are asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Evidence, FormatMatch, Metadata, Plan, Settings
from anyform.contract.model import LoadedModel
from anyform.testing import gguf, jobs
from anyform.testing.jobs import Engine


def plan(
    path: Path,
    *,
    tasks: tuple[str, ...] = ("chat", "complete"),
    context: int | None = 512,
    parallel: int | None = 4,
    files: tuple[str, ...] = (),
    device: str | None = None,
    **options: Any,
) -> Plan:
    match = FormatMatch(
        format="gguf", entry=path.name, files=files or (path.name,), evidence=Evidence.MAGIC, why="GGUF v3"
    )
    return Plan(
        plugin="gguf_llamacpp",
        backend="llamacpp",
        model=path.stem,
        path=str(path.parent),
        match=match,
        metadata=Metadata(tasks=tasks),
        settings=Settings(context=context, parallel=parallel, device=device, options=options),
    )


def loaded(path: Path, **settings: Any) -> LoadedModel:
    from anyform_gguf_llamacpp import backend

    return backend.load(plan(path, **settings))


class Kit(jobs.Kit):
    """What the tests call; a fixture, since test modules cannot import each other."""

    COMMAND = "anyform serve --models DIR"
    FOLDER = "How do I serve a folder of models?"
    """A question whose answer names COMMAND."""
    plan = staticmethod(plan)

    @staticmethod
    def ids(model: Any, text: str) -> list[int]:
        """The tokens of *text*, without any affix."""
        found: list[int] = model._vocabulary.tokenize(text, affixes=False, special=True)
        return found


@pytest.fixture(scope="session")
def kit() -> type[Kit]:
    pytest.importorskip("llama_cpp")
    return Kit


@pytest.fixture
def engine() -> Iterator[Engine]:
    pytest.importorskip("llama_cpp")
    made = Engine(loaded)
    yield made
    made.close()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama of random weights with a ChatML template."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    return gguf.write_llama(path, chat_template=gguf.CHATML, context=512)


@pytest.fixture(scope="session")
def tiny_model(tiny: Path) -> Iterator[LoadedModel]:
    pytest.importorskip("llama_cpp")
    model = loaded(tiny)
    yield model
    model.close()


@pytest.fixture(scope="session", params=["F16", "Q8_0"])
def decoder(request: pytest.FixtureRequest, sample: Path, sample_half: Path) -> Path:
    """The sample model, in both forms."""
    return sample_half if request.param == "F16" else sample


@pytest.fixture(scope="session")
def sample_model(sample: Path) -> Iterator[LoadedModel]:
    """The sample model, loaded."""
    model = loaded(sample, context=2048)
    yield model
    model.close()
