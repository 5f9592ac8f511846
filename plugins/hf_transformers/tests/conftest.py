"""Folders that the engine's tests load or write, and how models are asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.events import Vector
from anyform.contract.facts import Plan, Settings
from anyform.contract.jobs import Job
from anyform.contract.model import LoadedModel, Stop
from anyform.testing import jobs
from anyform.testing.jobs import Engine


@dataclass(frozen=True)
class Answered(jobs.Answered):
    """All events of one job, and its vectors."""

    @property
    def vectors(self) -> Any:
        """One row for each input."""
        import numpy

        found = {event.index: numpy.frombuffer(event.data, "<f4") for event in self.events if isinstance(event, Vector)}
        return numpy.stack([found[place] for place in range(len(found))])


def plan(folder: Path, *, context: int | None = 512, parallel: int | None = 4, **options: Any) -> Plan:
    """A plan as the kernel makes it, from what the format's side finds in *folder*."""
    from anyform.kernel.files import FolderFiles
    from anyform_hf_transformers import detection, metadata

    files = FolderFiles(folder)
    match = detection.detect(files)[0]
    return Plan(
        plugin="hf_transformers",
        backend="transformers",
        model=folder.name,
        path=str(folder),
        match=match,
        metadata=metadata.extract(files, match),
        settings=Settings(context=context, parallel=parallel, options=options),
    )


def loaded(folder: Path, *, tasks: tuple[str, ...] = (), **settings: Any) -> LoadedModel:
    from anyform_hf_transformers import backend

    made = plan(folder, **settings)
    if tasks:
        made = replace(made, metadata=replace(made.metadata, tasks=tasks))
    return backend.load(made)


class Kit(jobs.Kit):
    """What the tests call; a fixture, since test modules cannot import each other."""

    COMMAND = "anyform serve --models DIR"
    FOLDER = "How do I serve a folder of models?"
    """A question whose answer names COMMAND."""
    plan = staticmethod(plan)

    @classmethod
    def ask(cls, model: LoadedModel, job: Job, stop: Stop | None = None) -> Answered:
        return Answered(super().ask(model, job, stop).events)


@pytest.fixture(scope="session")
def kit() -> type[Kit]:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    return Kit


@pytest.fixture
def engine(kit: type[Kit]) -> Iterator[Engine]:
    made = Engine(loaded)
    yield made
    made.close()


@pytest.fixture(scope="session")
def decoder_folder() -> Path:
    """The sample decoder as transformers reads it."""
    layout = pytest.importorskip("anyform_samples.layout", exc_type=ImportError)
    return Path(layout.SAMPLE)


@pytest.fixture(scope="session")
def encoder_folder() -> Path:
    """The sample encoder as sentence-transformers reads it."""
    layout = pytest.importorskip("anyform_samples.embedding.layout", exc_type=ImportError)
    return Path(layout.DATA)


@pytest.fixture(scope="session")
def decoder(kit: type[Kit], decoder_folder: Path) -> Iterator[LoadedModel]:
    """The sample decoder, loaded."""
    made = Engine(loaded)
    yield made.load(decoder_folder, context=2048)
    made.close()


@pytest.fixture(scope="session")
def encoder(kit: type[Kit], encoder_folder: Path) -> Iterator[LoadedModel]:
    """The sample encoder, loaded."""
    made = Engine(loaded)
    yield made.load(encoder_folder, context=None)
    made.close()
