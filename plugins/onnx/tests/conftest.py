"""How the engine's tests load folders, and how models are asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.events import Scores, Vector
from anyform.contract.facts import Plan, Settings
from anyform.contract.jobs import Job
from anyform.contract.model import LoadedModel, Stop
from anyform.testing import jobs
from anyform.testing.jobs import Engine


@dataclass(frozen=True)
class Answered(jobs.Answered):
    """All events of one job, and its vectors or scores."""

    @property
    def vectors(self) -> Any:
        """One row for each input."""
        import numpy

        found = {event.index: numpy.frombuffer(event.data, "<f4") for event in self.events if isinstance(event, Vector)}
        return numpy.stack([found[place] for place in range(len(found))])

    @property
    def scores(self) -> list[Scores]:
        """Of each input, in their order."""
        return sorted((event for event in self.events if isinstance(event, Scores)), key=lambda event: event.index)


def plan(
    folder: Path,
    *,
    variant: str | None = None,
    context: int | None = None,
    parallel: int | None = 4,
    backend: str = "onnxruntime",
    **options: Any,
) -> Plan:
    """A plan as the kernel makes it, from what the format's side finds in *folder*; *variant*: of several."""
    from anyform.kernel.files import FolderFiles
    from anyform_onnx import detection, metadata

    files = FolderFiles(folder)
    match = next(one for one in detection.detect(files) if variant is None or one.variant == variant)
    return Plan(
        plugin="onnx",
        backend=backend,
        model=folder.name,
        path=str(folder),
        match=match,
        metadata=metadata.extract(files, match),
        settings=Settings(context=context, parallel=parallel, options=options),
    )


def loaded(folder: Path, *, tasks: tuple[str, ...] = (), **settings: Any) -> LoadedModel:
    """*tasks*: instead of those that the metadata have."""
    from anyform_onnx.engine import of

    made = plan(folder, **settings)
    if tasks:
        made = replace(made, metadata=replace(made.metadata, tasks=tasks))
    return of(made.backend).load(made)


class Kit(jobs.Kit):
    """What the tests call; a fixture, since test modules cannot import each other."""

    plan = staticmethod(plan)

    @classmethod
    def ask(cls, model: LoadedModel, job: Job, stop: Stop | None = None) -> Answered:
        return Answered(super().ask(model, job, stop).events)


@pytest.fixture(scope="session")
def kit() -> type[Kit]:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tokenizers")
    return Kit


@pytest.fixture
def engine(kit: type[Kit]) -> Iterator[Engine]:
    made = Engine(loaded)
    yield made
    made.close()


@pytest.fixture(scope="session")
def encoder_source() -> Path:
    """The sample encoder, as sentence-transformers reads it."""
    layout = pytest.importorskip("anyform_samples.embedding.layout", exc_type=ImportError)
    return Path(layout.DATA)


@pytest.fixture(scope="session")
def encoder_folder(encoder_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample encoder as ONNX, and its variants of 16 and 8 bits."""
    from anyform.testing.onnxencoder import write_encoder

    folder = tmp_path_factory.mktemp("onnx") / "sample-encoder"
    for entry, precision in (("model", "F32"), ("model_fp16", "F16"), ("model_quantized", "I8")):
        write_encoder(folder, encoder_source, entry=f"onnx/{entry}.onnx", precision=precision)
    return folder


@pytest.fixture(scope="session")
def encoder(kit: type[Kit], encoder_folder: Path) -> Iterator[LoadedModel]:
    """The sample encoder, loaded."""
    made = Engine(loaded)
    yield made.load(encoder_folder)
    made.close()


LAYOUTS: dict[str, dict[str, Any]] = {
    "optimum": {"entry": "onnx/model.onnx"},
    "optimum, F16": {"entry": "onnx/model_fp16.onnx", "precision": "F16"},
    "optimum, I8": {"entry": "onnx/model_quantized.onnx", "precision": "I8"},
    "genai": {"layout": "onnx_genai"},
    "genai, F16": {"layout": "onnx_genai", "precision": "F16"},
    "exported": {"layout": "onnx_export"},
    "exported, padded": {"layout": "onnx_export", "padded": True},
}
"""Each a folder of its own, with the sample decoder as that exporter would write it."""


@pytest.fixture(scope="session")
def decoder_source() -> Path:
    """The sample decoder, as transformers reads it."""
    layout = pytest.importorskip("anyform_samples.layout", exc_type=ImportError)
    return Path(layout.SAMPLE)


@pytest.fixture(scope="session")
def decoders(decoder_source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of LAYOUTS."""
    from anyform.testing.onnxdecoder import write_decoder

    home = tmp_path_factory.mktemp("decoders")
    return {
        name: write_decoder(home / name.replace(", ", "-"), decoder_source, **values)
        for name, values in LAYOUTS.items()
    }
